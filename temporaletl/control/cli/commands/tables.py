"""`etl migrate`."""

from temporaletl.control.cli.commands.arguments import AsJson


def migrate(as_json: AsJson = False) -> None:
    """Bring the warehouse's tables up to date, also large ones, while they are read and written."""
    from temporaletl.control.cli.views import tables as view

    view.migrate(as_json=as_json)
