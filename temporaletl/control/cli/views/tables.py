"""`etl migrate` and `etl schema`: output of tables and their changes."""

from temporaletl.control.cli.output import count, note, print_json, say
from temporaletl.control.cli.session import begin_here, call
from temporaletl.control.operations.tables import migrate_warehouse
from temporaletl.worker.loading.evolution import Change


def migrate(*, as_json: bool) -> None:
    """Bring the warehouse's tables up to date, and print each change as it is begun."""
    begin_here()
    made = call(migrate_warehouse, notice=_announce)
    if as_json:
        print_json([_document(change) for change in made])
        return
    say(f"{count(len(made), 'change')} made" if made else "everything is up to date")


def _announce(change: Change) -> None:
    note(f"{change.table}: {change.words}", style="dim")


def _document(change: Change) -> dict[str, str]:
    return {"table": change.table, "change": change.words, "by": change.by}
