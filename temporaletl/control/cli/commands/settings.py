"""`etl init`, `etl settings`."""

from typing import Annotated

import typer

from temporaletl.control.cli.commands.arguments import AsJson


def settings(
    source: Annotated[
        str | None,
        typer.Argument(metavar="SOURCE", help="Only those of this source.", show_default="all"),
    ] = None,
    connection: Annotated[
        str | None,
        typer.Option(
            "--connection",
            metavar="NAME",
            help="Only those of this connection.",
            show_default="all of them",
        ),
    ] = None,
    set_only: Annotated[
        bool, typer.Option("--set-only", metavar="", help="Without those at their defaults.")
    ] = False,
    as_json: AsJson = False,
) -> int:
    """List all settings with their values, and where each value is from; no secret is shown."""
    from temporaletl.control.cli.views import settings as view

    return view.print_settings(source, connection, set_only=set_only, as_json=as_json)
