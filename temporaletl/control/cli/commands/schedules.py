"""`etl schedule`, `etl schedules` and the commands about one schedule."""

from typing import Annotated, Literal

import typer

from temporaletl.control.cli.commands.arguments import AsJson, Connection, Source, read_timestamp

Overlap = Literal[
    "skip", "buffer-one", "buffer-all", "cancel-other", "terminate-other", "allow-all"
]


def schedule(
    source: Source,
    day: Annotated[
        str,
        typer.Argument(
            metavar="DAY", help="0 or 7 is Sunday, 1 Monday; a range (1-5), a list (1,3) or *."
        ),
    ] = "*",
    hour: Annotated[
        str, typer.Argument(metavar="HOUR", help="0 to 23; a range, a list or *.")
    ] = "0",
    timezone: Annotated[
        str, typer.Option(metavar="TZ", help="Whose days and hours, as Europe/London.")
    ] = "UTC",
    overlap: Annotated[
        Overlap,
        typer.Option(
            metavar="WHAT",
            help="What becomes of a run that is due while one goes on: skip, buffer-one, "
            "buffer-all, cancel-other, terminate-other or allow-all.",
        ),
    ] = "skip",
    catchup_window_minutes: Annotated[
        float,
        typer.Option(metavar="N", help="How late a run that was missed may still start."),
    ] = 60,
    mode: Annotated[
        Literal["incremental", "full"],
        typer.Option(
            metavar="MODE",
            help="incremental: what is new since the last run; full: everything.",
        ),
    ] = "incremental",
    connection: Connection = "default",
) -> None:
    """Load a source regularly; run again, it changes the schedule."""
    from temporaletl.control.cli.views import schedules as view

    view.put(
        source,
        connection,
        days=day,
        hours=hour,
        timezone=timezone,
        overlap=overlap,
        catchup_window_minutes=catchup_window_minutes,
        mode=mode,
    )


def schedules(as_json: AsJson = False) -> int:
    """List the schedules, and when each runs next."""
    from temporaletl.control.cli.views import schedules as view

    return view.print_schedules(as_json=as_json)


def schedule_pause(source: Source, connection: Connection = "default") -> None:
    """Start no more runs of a source until resumed."""
    from temporaletl.control.cli.views import schedules as view

    view.pause(source, connection)


def schedule_resume(source: Source, connection: Connection = "default") -> None:
    """Let a paused schedule start runs again."""
    from temporaletl.control.cli.views import schedules as view

    view.resume(source, connection)


def schedule_delete(source: Source, connection: Connection = "default") -> None:
    """Remove the schedule of a source."""
    from temporaletl.control.cli.views import schedules as view

    view.delete(source, connection)


def schedule_backfill(
    source: Source,
    start: Annotated[str, typer.Option("--from", metavar="DATE", help="Start, inclusive.")],
    end: Annotated[str, typer.Option("--to", metavar="DATE", help="End, exclusive.")],
    connection: Connection = "default",
) -> None:
    """Start the runs that were due in a past span, one after another.

    To load the data of a span again, use `etl run SOURCE --from DATE --to DATE`.
    """
    first, last = read_timestamp(start, "--from"), read_timestamp(end, "--to")
    assert first is not None  # noqa: S101 - both are required
    assert last is not None  # noqa: S101

    from temporaletl.control.cli.views import schedules as view

    view.backfill(source, connection, first, last)
