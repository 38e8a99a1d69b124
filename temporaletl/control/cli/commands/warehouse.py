"""`etl psql`, `etl state`, `etl rejects`, `etl identities`: the warehouse, seen directly."""

from typing import Annotated

import typer

from temporaletl.control.cli.commands.arguments import (
    AsJson,
    Connection,
    Source,
    Streams,
    Wait,
    examples,
    read_timestamp,
)

state = typer.Typer(no_args_is_help=True)
rejects = typer.Typer(no_args_is_help=True)
identities = typer.Typer(no_args_is_help=True)


def psql(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(metavar="ARGUMENTS", help="What psql gets, such as a -c of its own."),
    ] = None,
    url: Annotated[
        bool,
        typer.Option("--url", help="Print where the warehouse is instead, password included."),
    ] = False,
) -> int:
    """Open psql on the warehouse."""
    from temporaletl.control.cli.views import psql as view

    return view.print_url() if url else view.open_psql(arguments or ())


@state.command(epilog=examples("etl state show jira", "etl state show jira --json"))
def show(
    source: Source,
    stream: Streams = None,
    connection: Annotated[
        str | None,
        typer.Option(
            "--connection",
            metavar="NAME",
            help="Only this connection of the source.",
            show_default="all of them",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show the watermarks: up to when each stream is completely loaded."""
    from temporaletl.control.cli.views import state as view

    view.print_states(source, stream or (), connection, as_json=as_json)


@state.command(
    "set", epilog=examples("etl state set jira --watermark 2025-01-31  # load again from there")
)
def set_(
    source: Source,
    watermark: Annotated[
        str,
        typer.Option(metavar="DATE", help="Where the next incremental run begins; UTC."),
    ],
    stream: Streams = None,
    connection: Connection = "default",
) -> None:
    """Let the next incremental run begin at a time of your choice."""
    timestamp = read_timestamp(watermark, "--watermark")

    from temporaletl.control.cli.views import state as view

    view.put(source, stream or (), connection, timestamp)


@state.command(
    epilog=examples(
        "etl state reset jira  # the next run loads everything",
        "etl state reset jira --unblock  # end its cool-down: send requests again",
    )
)
def reset(
    source: Source,
    stream: Streams = None,
    connection: Connection = "default",
    unblock: Annotated[
        bool,
        typer.Option(
            "--unblock",
            help="Only end the cool-down (Retry-After); watermarks stay.",
        ),
    ] = False,
) -> None:
    """Let the next incremental run begin at the beginning, and end the source's cool-down."""
    from temporaletl.control.cli.views import state as view

    if unblock:
        view.unblock(source, connection)
        return
    view.put(source, stream or (), connection, None)


@rejects.command(
    "list",
    epilog=examples(
        "etl rejects list jira", "etl rejects list jira --json | jq .[0].payload  # the raw record"
    ),
)
def list_(
    source: Source,
    stream: Streams = None,
    connection: Connection = "default",
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="How many, the latest first.")
    ] = 20,
    as_json: AsJson = False,
) -> None:
    """List the records that could not become rows, and why."""
    from temporaletl.control.cli.views import rejects as view

    view.print_rejects(source, stream or (), connection, limit, as_json=as_json)


@rejects.command(
    epilog=examples(
        "etl rejects replay jira --wait", "etl rejects replay jira --stream issues --wait --json"
    )
)
def replay(
    source: Source,
    stream: Streams = None,
    connection: Connection = "default",
    wait: Wait = False,
    as_json: AsJson = False,
) -> int:
    """Send the rejects through the present transform; those that become rows leave the list."""
    from temporaletl.control.cli.views.run import launch

    return launch(
        source,
        connection=connection,
        mode="replay",
        streams=stream or (),
        date_start=None,
        date_end=None,
        params={},
        max_in_flight=1,
        wait=wait,
        as_json=as_json,
    )


@identities.command(
    "list", epilog=examples("etl identities list jira", "etl identities list jira --json")
)
def list_identities(
    source: Source,
    connection: Connection = "default",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="How many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List a source's people, and the employees they are as far as that is known."""
    from temporaletl.control.cli.views import identities as view

    view.print_people(source, connection, limit, as_json=as_json)


@identities.command(epilog=examples("etl identities fill jira"))
def fill(source: Source, connection: Connection = "default", as_json: AsJson = False) -> None:
    """Put employee ids into older events of people who became known later."""
    from temporaletl.control.cli.views import identities as view

    view.fill(source, connection, as_json=as_json)
