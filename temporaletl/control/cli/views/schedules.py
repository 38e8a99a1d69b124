"""`etl schedules` and the commands about one schedule, for a person or a program."""

from collections.abc import Sequence
from datetime import datetime

from pydantic import ValidationError
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
from temporaletl.control.operations.schedule_definitions import ScheduleDefinition, put_schedule
from temporaletl.control.operations.schedules import ScheduleReport
from temporaletl.errors import ConfigurationError
from temporaletl.names import connection_option, label
from temporaletl.queuer.scheduling import put_sentence
from temporaletl.validation import faults_of


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
        "source", "mode", "days", "hours", "time zone", "state", "last run", "next run"
    )
    for report in reports:
        if report.paused:
            state = Text("paused", style="yellow")
        else:
            state = Text("running now", style="cyan") if report.running else Text("active", "green")
        add_row(
            table,
            label(report.source, report.connection),
            report.mode,
            report.days,
            report.hours,
            report.timezone,
            state,
            report.last_run,
            report.next_run,
        )
    print_table(table)


def put(source: str, connection: str, **definition: object) -> None:
    """Create or replace a schedule, as `ScheduleDefinition` has it."""
    try:
        wanted = ScheduleDefinition.model_validate(definition)
    except ValidationError as error:
        raise ConfigurationError("; ".join(map(str, faults_of(error)))) from None
    done = call(put_schedule, source, wanted, connection=connection)
    zone, days, hours = wanted.timezone, wanted.days, wanted.hours
    say(put_sentence(source, days, hours, zone, done, connection=connection))


def pause(source: str, connection: str) -> None:
    call(schedules.pause_schedule, source, connection=connection)
    say(
        f"paused: no more runs of {label(source, connection)} start until "
        f"`etl schedule-resume {source}{connection_option(connection)}`; "
        f"one that goes on is not modified"
    )


def resume(source: str, connection: str) -> None:
    upcoming = call(schedules.resume_schedule, source, connection=connection)
    say(f"resumed: the next run of {label(source, connection)} starts at {show_time(upcoming)}")


def delete(source: str, connection: str) -> None:
    call(schedules.delete_schedule, source, connection=connection)
    say(f"deleted the schedule of {label(source, connection)}; a run that goes on is not modified")


def backfill(source: str, connection: str, start: datetime, end: datetime) -> None:
    due = call(schedules.backfill_schedule, source, start, end, connection=connection)
    say(
        f"{count(due, 'run')} of {label(source, connection)} started, one after another: "
        "`etl status` shows them"
    )
