"""`etl partitions`: events of a source by month, and their retention."""

from typing import Annotated

import typer

from temporaletl.control.cli.commands.arguments import AsJson, examples

partitions = typer.Typer(no_args_is_help=True)


@partitions.command(epilog=examples("etl partitions show", "etl partitions show --json"))
def show(as_json: AsJson = False) -> None:
    """Show how many events each source has, whether they are divided by month, and what is due."""
    from temporaletl.control.cli.views import partitions as view

    view.print_partitions(as_json=as_json)


@partitions.command(
    epilog=examples(
        "etl partitions divide  # sources past WPE_DB_MONTHS_FROM_ROWS, and new months of others",
        "etl partitions divide jira",
    )
)
def divide(
    source: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            help="Divide these sources, however large they are.",
            show_default="those that are due",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Divide events by month, and give partitions to new months; in a maintenance window.

    Loads of the source wait meanwhile, or are tried again. After an interruption the next call goes
    on.
    """
    from temporaletl.control.cli.views import partitions as view

    view.divide(source or (), as_json=as_json)


@partitions.command(epilog=examples("etl partitions detach", "etl partitions detach --drop"))
def detach(
    drop: Annotated[
        bool,
        typer.Option("--drop", help="Drop the tables of detached months, earlier ones as well."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Detach the months that are older than WPE_DB_KEEP_MONTHS; they are not loaded again."""
    from temporaletl.control.cli.views import partitions as view

    view.detach(drop=drop, as_json=as_json)
