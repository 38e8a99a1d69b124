"""`etl schedules` and the commands about one schedule, for a person or a program."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime

from rich.text import Text
from temporalio.client import Client

from control import schedules
from control.output import add_row, count, make_table, print_json, print_table, say, show_time
from control.servers import open_temporal, prepare, present
from control.sources import known_planners
from temporaletl.errors import ConfigurationError


def _with_client[T](work: Callable[[Client], Awaitable[T]]) -> T:
    prepare()

    async def connected() -> T:
        client, _ = await open_temporal()
        return await work(client)

    return asyncio.run(connected())


def print_schedules(*, as_json: bool) -> None:
    """List the schedules."""
    sources = list(known_planners())
    reports = _with_client(lambda client: schedules.list_schedules(client, sources))
    if as_json:
        print_json([report.model_dump(mode="json") for report in reports])
        return
    if not reports:
        say("No schedules yet: `etl schedule SOURCE DAY HOUR` makes one.")
        return
    table = make_table(
        "source", "mode", "days", "hours", "time zone", "state", "last run", "next run"
    )
    for each in reports:
        if each.paused:
            state = Text("paused", style="yellow")
        else:
            state = Text("running now", style="cyan") if each.running else Text("active", "green")
        add_row(
            table,
            each.source,
            each.mode,
            each.days,
            each.hours,
            each.timezone,
            state,
            each.last_run,
            each.next_run,
        )
    print_table(table)


def pause(source: str) -> None:
    _with_client(lambda client: schedules.pause(client, source))
    say(
        f"paused: no more runs of {source} start until `etl schedule-resume {source}`; "
        f"one that goes on is left alone"
    )


def resume(source: str) -> None:
    upcoming = _with_client(lambda client: schedules.resume(client, source))
    say(f"resumed: the next run of {source} starts at {show_time(upcoming)}")


def delete(source: str) -> None:
    _with_client(lambda client: schedules.delete(client, source))
    say(f"deleted the schedule of {source}; a run that goes on is left alone")


def backfill(source: str, start: datetime, end: datetime) -> None:
    if end <= start:
        raise ConfigurationError(f"--to {end.isoformat()} is not after --from {start.isoformat()}")
    prepare()
    now = present()
    if end > now:
        raise ConfigurationError(
            f"--to {end.isoformat()} has not come yet: only runs that were due can be started, "
            f"up to {now.isoformat(timespec='seconds')}"
        )
    due = _with_client(lambda client: schedules.backfill(client, source, start, end))
    say(f"{count(due, 'run')} of {source} started, one after another: `etl status` shows them")
