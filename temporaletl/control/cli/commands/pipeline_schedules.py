"""`etl pipeline schedule` and the commands about one schedule of a stored pipeline."""

from typing import Annotated

import typer

from temporaletl.control.cli.commands.schedules import (
    CatchupMinutes,
    Cron,
    Every,
    From,
    Jitter,
    Overlap,
    Timezone,
    To,
    When,
    backfill,
    read_when,
)
from temporaletl.names import DEFAULT_SCHEDULE, PIPELINE, ScheduleKey

Pipeline = Annotated[str, typer.Argument(metavar="PIPELINE", help="A stored pipeline.")]
Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="Which of the pipeline's schedules (`etl schedules`)."),
]


def schedule(
    pipeline: Annotated[
        str,
        typer.Argument(
            metavar="PIPELINE",
            help="A stored pipeline, of which the latest version is executed, or PIPELINE@VERSION.",
        ),
    ],
    when: When = None,
    cron: Cron = None,
    every: Every = None,
    timezone: Timezone = "UTC",
    jitter: Jitter = None,
    overlap: Annotated[
        Overlap,
        typer.Option(
            metavar="WHAT",
            help="What becomes of an execution that is due while one of the schedule goes on: "
            "skip, buffer-one, buffer-all, cancel-other, terminate-other or allow-all.",
        ),
    ] = "skip",
    catchup_window_minutes: CatchupMinutes = 60,
    given: Annotated[
        str,
        typer.Option(
            "--input", metavar="JSON", help="What expressions read as trigger; @FILE reads a file."
        ),
    ] = "null",
) -> None:
    """Execute a pipeline regularly; run again, it changes the schedule of that name alone."""
    name, days, hours = read_when(when or ())
    called, _, version = pipeline.partition("@")

    from temporaletl.control.cli.views import schedules as view
    from temporaletl.control.cli.views.executions import read_input

    view.put(
        ScheduleKey(PIPELINE, called, name),
        every=every,
        jitter=jitter,
        days=days,
        hours=hours,
        cron=cron,
        timezone=timezone,
        overlap=overlap,
        catchup_window_minutes=catchup_window_minutes,
        pipeline_version=version or None,
        input=read_input(given),
    )


def schedule_pause(pipeline: Pipeline, name: Name = DEFAULT_SCHEDULE) -> None:
    """Start no more executions by a schedule until resumed."""
    from temporaletl.control.cli.views import schedules as view

    view.pause(ScheduleKey(PIPELINE, pipeline, name))


def schedule_resume(pipeline: Pipeline, name: Name = DEFAULT_SCHEDULE) -> None:
    """Let a paused schedule start executions again."""
    from temporaletl.control.cli.views import schedules as view

    view.resume(ScheduleKey(PIPELINE, pipeline, name))


def schedule_delete(pipeline: Pipeline, name: Name = DEFAULT_SCHEDULE) -> None:
    """Remove a schedule, and no other one of the pipeline."""
    from temporaletl.control.cli.views import schedules as view

    view.delete(ScheduleKey(PIPELINE, pipeline, name))


def schedule_backfill(
    pipeline: Pipeline, start: From, end: To, name: Name = DEFAULT_SCHEDULE
) -> None:
    """Start the executions that were due in a past span; one whose time was executed is not."""
    backfill(ScheduleKey(PIPELINE, pipeline, name), start, end)
