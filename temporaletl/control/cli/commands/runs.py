"""`etl run`, `etl retry`, `etl follow`, `etl status`, `etl logs`, and control of runs."""

from typing import Annotated, Literal

import typer

from temporaletl.control.cli.commands.arguments import (
    AsJson,
    Connection,
    Mode,
    Params,
    Since,
    Source,
    Streams,
    Until,
    Wait,
    WorkflowId,
    read_params,
    read_timestamp,
)


def run(
    source: Source,
    mode: Annotated[
        Mode | None,
        typer.Option(
            metavar="MODE",
            help="incremental: what is new since the last run; full: everything; "
            "backfill: the span of --from and --to.",
            show_default="incremental, with dates backfill",
        ),
    ] = None,
    start: Since = None,
    end: Until = None,
    stream: Streams = None,
    connection: Connection = "default",
    param: Params = None,
    max_in_flight: Annotated[
        int, typer.Option(metavar="N", min=1, max=1000, help="Jobs that may run at once.")
    ] = 50,
    accept_view: Annotated[
        bool,
        typer.Option(
            "--accept-view",
            help="What the account sees now is all there is, though it saw more before.",
        ),
    ] = False,
    engine: Annotated[
        Literal["local", "temporal"] | None,
        typer.Option(
            metavar="ENGINE",
            help="temporal: the two services; local: a process of this machine, which needs "
            "PostgreSQL alone.",
            show_default="temporal, where that is not off",
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Start although a run of the source and connection goes on."),
    ] = False,
    wait: Wait = False,
    as_json: AsJson = False,
) -> int:
    """Load a source once, now."""
    date_start, date_end = read_timestamp(start, "--from"), read_timestamp(end, "--to")
    params = read_params(param)

    from temporaletl.control.cli.views.run import launch

    return launch(
        source,
        connection=connection,
        mode=mode,
        streams=stream or (),
        date_start=date_start,
        date_end=date_end,
        params=params,
        max_in_flight=max_in_flight,
        accept_view=accept_view,
        engine=engine,
        force=force,
        wait=wait,
        as_json=as_json,
    )


def retry(
    name: Annotated[
        str, typer.Argument(metavar="RUN", help="A run that has ended, by workflow or batch id.")
    ],
    wait: Wait = False,
    as_json: AsJson = False,
) -> int:
    """Run the jobs that failed in a run once more, in their windows, and nothing else."""
    from temporaletl.control.cli.views.run import launch_retry

    return launch_retry(name, wait=wait, as_json=as_json)


def follow(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A run, by its workflow or batch id.")],
    as_json: AsJson = False,
) -> int:
    """Follow a run to its end, as `etl run --wait` does; Ctrl-C leaves it going on."""
    from temporaletl.control.cli.views import run as view

    return view.follow(name, as_json=as_json)


def status(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="WORKFLOW_ID", help="A run, batch or job; without it: the latest runs."
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, help="How many runs to list.")
    ] = 20,
    source: Annotated[
        str | None, typer.Option("--source", metavar="SOURCE", help="Only runs of this source.")
    ] = None,
    connection: Annotated[
        str | None,
        typer.Option("--connection", metavar="NAME", help="Only runs of this connection."),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option("--state", metavar="STATE", help="Only runs in this state, such as failed."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what runs and what ran: jobs, rows, errors."""
    from temporaletl.control.cli.views import status as view

    if name is None:
        view.print_recent(limit, source=source, connection=connection, state=state, as_json=as_json)
    else:
        view.print_one(name, as_json=as_json)


def logs(
    name: Annotated[str, typer.Argument(metavar="RUN", help="A run, by its workflow or batch id.")],
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=2_000, help="Lines, the last ones.")
    ] = 100,
    as_json: AsJson = False,
) -> None:
    """Show the last lines that the services logged of a run."""
    from temporaletl.control.cli.views import run_log as view

    view.print_log(name, limit, as_json=as_json)


def pause(workflow_id: WorkflowId) -> None:
    """Let a run or a job rest at its next page."""
    _send(workflow_id, "pause")


def resume(workflow_id: WorkflowId) -> None:
    """Let a paused run or job go on where it stopped."""
    _send(workflow_id, "resume")


def cancel(workflow_id: WorkflowId) -> None:
    """End a run or a job at its next page; what is loaded stays."""
    _send(workflow_id, "cancel")


def _send(workflow_id: str, action: Literal["pause", "resume", "cancel"]) -> None:
    from temporaletl.control.cli.views.control import send

    send(workflow_id, action)
