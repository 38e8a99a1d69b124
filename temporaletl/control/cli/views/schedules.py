"""`etl schedules` and the commands about one schedule, for a person or a program."""

from collections.abc import Sequence
from datetime import datetime

from rich.text import Text

from temporaletl.command import MISUSED
from temporaletl.control.cli.output import (
    add_row,
    count,
    make_table,
    note,
    print_json,
    print_table,
    say,
    show_time,
)
from temporaletl.control.cli.session import call
from temporaletl.control.operations import schedules
from temporaletl.control.operations.schedule_definitions import define, put_schedule
from temporaletl.control.operations.schedule_reports import ScheduleReport
from temporaletl.errors import ConfigurationError
from temporaletl.names import ScheduleKey, label
from temporaletl.queuer.scheduling import parse_interval


def print_schedules(*, as_json: bool) -> int:
    """List the schedules; 2 where something in the connections file is wrong."""
    reports, faults = call(schedules.list_schedules)
    for fault in faults:
        note(fault, style="red")
    if as_json:
        print_json([report.model_dump(mode="json") for report in reports])
    elif reports:
        _print_table(reports)
    else:
        say("No schedules yet: `etl schedule SOURCE DAY HOUR` makes one.")
    return MISUSED if faults else 0


def _print_table(reports: Sequence[ScheduleReport]) -> None:
    table = make_table(
        *("source", "name", "mode", "runs", "state", "last run", "next run", "did not start"),
        below=("did not start", "last run", "mode", "runs"),
    )
    for report in reports:
        if report.paused:
            state = Text("paused", style="yellow")
        else:
            state = Text("running now", style="cyan") if report.running else Text("active", "green")
        add_row(
            table,
            *(label(report.source, report.connection), report.name, _mode(report), report.times),
            *(state, report.last_run, report.next_run, _not_started(report)),
        )
    print_table(table)


def _mode(report: ScheduleReport) -> str:
    if report.key.pipeline is not None:
        return f"version {report.pipeline_version}" if report.pipeline_version else "latest version"
    chosen = [*report.streams, *(f"{name}={value}" for name, value in report.params.items())]
    return f"{report.mode} of {', '.join(chosen)}" if chosen else report.mode


def _not_started(report: ScheduleReport) -> str:
    skipped = report.num_actions_skipped_overlap + report.num_skipped_for_others
    counted = {"missed": report.num_actions_missed_catchup_window, "skipped": skipped}
    return ", ".join(f"{number:,} {what}" for what, number in counted.items() if number)


def put(key: ScheduleKey, *, every: str | None, jitter: str | None, **definition: object) -> None:
    """Create or replace a schedule, as `ScheduleDefinition` has it."""
    spans = {
        "every_minutes": _minutes("--every", every),
        "jitter_minutes": _minutes("--jitter", jitter),
    }
    made, report = call(put_schedule, key, define(**definition, **spans))
    done = "created" if made else "updated"
    resume = f"; still paused until `{key.command('schedule-resume')}`" if report.paused else ""
    zone = "" if report.timezone in report.times or report.every_minutes else f" {report.timezone}"
    say(f"{done} {report.schedule_id}: {_mode(report)}, {report.times}{zone}{resume}")


def _minutes(option: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_interval(text).total_seconds() / 60
    except ConfigurationError as error:
        raise ConfigurationError(f"{option}: {error}") from None


def pause(key: ScheduleKey) -> None:
    call(schedules.pause_schedule, key)
    say(
        f"paused: no more runs of {key.label} start until "
        f"`{key.command('schedule-resume')}`; one that goes on is not modified"
    )


def resume(key: ScheduleKey) -> None:
    upcoming = call(schedules.resume_schedule, key)
    say(f"resumed: the next run of {key.label} starts at {show_time(upcoming)}")


def delete(key: ScheduleKey) -> None:
    call(schedules.delete_schedule, key)
    say(f"deleted the schedule of {key.label}; a run that goes on is not modified")


def backfill(key: ScheduleKey, start: datetime, end: datetime) -> None:
    due = call(schedules.backfill_schedule, key, start, end)
    say(f"{count(due, 'run')} of {key.label} started, one after another: `etl status` shows them")
