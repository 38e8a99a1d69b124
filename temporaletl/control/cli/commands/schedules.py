"""`etl schedule`, `etl schedules` and the commands about one schedule."""

from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from temporaletl.control.cli.commands.arguments import (
    AsJson,
    Connection,
    Params,
    Source,
    Streams,
    read_params,
    read_timestamp,
)
from temporaletl.errors import ConfigurationError
from temporaletl.names import DEFAULT_SCHEDULE, ScheduleKey, is_schedule_name

Overlap = Literal[
    "skip", "buffer-one", "buffer-all", "cancel-other", "terminate-other", "allow-all"
]
Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Which of the connection's schedules (`etl schedules`)."),
]
_MOST_WORDS = 2


When = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NAME DAY HOUR",
        help="Each may be left out. NAME: of several schedules. DAY: 0 or 7 is Sunday, 1 Monday; a "
        "range (1-5), a list (1,3) or *. HOUR: 0 to 23, likewise.",
        show_default="every day at 0",
    ),
]
Cron = Annotated[
    str | None,
    typer.Option(
        metavar="CRON",
        help="Minute, hour, day of month, month and day of week, as '*/15 * * * *', in place "
        "of DAY and HOUR.",
    ),
]
Every = Annotated[
    str | None,
    typer.Option(metavar="SPAN", help="An interval, as 15m, 2h or 1d, likewise."),
]
Timezone = Annotated[
    str, typer.Option(metavar="TZ", help="Whose days and hours, as Europe/London.")
]
Jitter = Annotated[
    str | None,
    typer.Option(metavar="SPAN", help="Start each run up to so much later, by chance, as 5m."),
]
CatchupMinutes = Annotated[
    float,
    typer.Option(metavar="N", help="How late a run that was missed may still start."),
]
From = Annotated[str, typer.Option("--from", metavar="DATE", help="Start, inclusive.")]
To = Annotated[str, typer.Option("--to", metavar="DATE", help="End, exclusive.")]


def schedule(
    source: Source,
    when: When = None,
    cron: Cron = None,
    every: Every = None,
    timezone: Timezone = "UTC",
    jitter: Jitter = None,
    overlap: Annotated[
        Overlap,
        typer.Option(
            metavar="WHAT",
            help="What becomes of a run that is due while one of the schedule goes on: skip, "
            "buffer-one, buffer-all, cancel-other, terminate-other or allow-all. skip holds as "
            "well while any other run loads the same in the same mode.",
        ),
    ] = "skip",
    catchup_window_minutes: CatchupMinutes = 60,
    mode: Annotated[
        Literal["incremental", "full"],
        typer.Option(
            metavar="MODE",
            help="incremental: what is new since the last run; full: everything.",
        ),
    ] = "incremental",
    stream: Streams = None,
    param: Params = None,
    connection: Connection = "default",
) -> None:
    """Load a source regularly; run again, it changes the schedule of that name and no other."""
    name, days, hours = read_when(when or ())
    params = read_params(param)

    from temporaletl.control.cli.views import schedules as view

    view.put(
        ScheduleKey(source, connection, name),
        every=every,
        jitter=jitter,
        days=days,
        hours=hours,
        cron=cron,
        timezone=timezone,
        overlap=overlap,
        catchup_window_minutes=catchup_window_minutes,
        mode=mode,
        streams=stream,
        params=params,
    )


def read_when(words: Sequence[str]) -> tuple[str, str | None, str | None]:
    """The name, the days and the hours of what stands behind the source."""
    name, rest = DEFAULT_SCHEDULE, list(words)
    if rest and is_schedule_name(rest[0]):
        name = rest.pop(0)
    if len(rest) > _MOST_WORDS:
        raise ConfigurationError(
            f"{' '.join(words)!r} is not [NAME] [DAY] [HOUR]; a cron expression goes to --cron"
        )
    days, hours = (*rest, None, None)[:_MOST_WORDS]
    return name, days, hours


def schedules(as_json: AsJson = False) -> int:
    """List the schedules, and when each runs next."""
    from temporaletl.control.cli.views import schedules as view

    return view.print_schedules(as_json=as_json)


def schedule_pause(
    source: Source, name: Name = DEFAULT_SCHEDULE, connection: Connection = "default"
) -> None:
    """Start no more runs of a schedule until resumed."""
    from temporaletl.control.cli.views import schedules as view

    view.pause(ScheduleKey(source, connection, name))


def schedule_resume(
    source: Source, name: Name = DEFAULT_SCHEDULE, connection: Connection = "default"
) -> None:
    """Let a paused schedule start runs again."""
    from temporaletl.control.cli.views import schedules as view

    view.resume(ScheduleKey(source, connection, name))


def schedule_delete(
    source: Source, name: Name = DEFAULT_SCHEDULE, connection: Connection = "default"
) -> None:
    """Remove a schedule, and no other one of the source."""
    from temporaletl.control.cli.views import schedules as view

    view.delete(ScheduleKey(source, connection, name))


def schedule_backfill(
    source: Source,
    start: From,
    end: To,
    name: Name = DEFAULT_SCHEDULE,
    connection: Connection = "default",
) -> None:
    """Start the runs that were due in a past span, one after another.

    To load the data of a span again, use `etl run SOURCE --from DATE --to DATE`.
    """
    backfill(ScheduleKey(source, connection, name), start, end)


def backfill(key: ScheduleKey, start: str, end: str) -> None:
    """Start the runs of any schedule that were due from `start` to `end`, as options give them."""
    first, last = read_timestamp(start, "--from"), read_timestamp(end, "--to")
    assert first is not None  # noqa: S101 - both are required
    assert last is not None  # noqa: S101

    from temporaletl.control.cli.views import schedules as view

    view.backfill(key, first, last)
