"""`etl schema`, `migrate`, `verify` and `ledger`: the tables of the warehouse, and their rows."""

from typing import Annotated

import typer

from temporaletl.control.cli.commands.arguments import (
    AsJson,
    Connection,
    Params,
    Since,
    Source,
    Streams,
    Until,
    examples,
    read_request,
)

ledger = typer.Typer(no_args_is_help=True)


def schema(
    source: Annotated[
        str | None,
        typer.Argument(
            metavar="SOURCE", help="Only this source's tables.", show_default="all sources"
        ),
    ] = None,
    diff: Annotated[
        bool,
        typer.Option("--diff", help="Only what is still to be changed, and by what."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the tables as this version makes them, or what is still to be changed."""
    from temporaletl.control.cli.views import tables as view

    (view.print_changes if diff else view.print_tables)(source, as_json=as_json)


def migrate(as_json: AsJson = False) -> None:
    """Bring the warehouse's tables up to date, also large ones, while they are read and written."""
    from temporaletl.control.cli.views import tables as view

    view.migrate(as_json=as_json)


def verify(
    source: Source,
    stream: Streams = None,
    connection: Connection = "default",
    start: Since = None,
    end: Until = None,
    param: Params = None,
    as_json: AsJson = False,
) -> int:
    """Read a source anew and compare each row with the warehouse; nothing is written.

    The status is 1 where a difference is not explained.
    """
    request = read_request(source, connection, stream, start, end, param)

    from temporaletl.control.cli.views.verification import print_verification

    return print_verification(request, as_json=as_json)


@ledger.command(epilog=examples("etl ledger show", "etl ledger show --json | jq .due"))
def show(as_json: AsJson = False) -> None:
    """Show how large the platform's own tables are, and which pages and jobs are due to go."""
    from temporaletl.control.cli.views import ledger as view

    view.print_ledger(as_json=as_json)


@ledger.command(epilog=examples("etl ledger prune --dry-run", "etl ledger prune"))
def prune(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be removed.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Summarise and remove pages and jobs of old runs now, as the services do every hour."""
    from temporaletl.control.cli.views import ledger as view

    view.prune(dry_run=dry_run, as_json=as_json)
