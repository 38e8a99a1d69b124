"""`python schedule.py <source_kind_id> [day_of_week] [hour]`: when a source is synced.

`python schedule.py jira 1 3` syncs Jira on Mondays at 03:00 UTC.
"""

import asyncio
import dataclasses
import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, NamedTuple
from zoneinfo import ZoneInfo

import typer
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleCalendarSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleRange,
    ScheduleSpec,
    ScheduleUpdate,
    ScheduleUpdateInput,
)

from temporaletl import names
from temporaletl.command import be_command
from temporaletl.connect import connect
from temporaletl.connection_providers import provided
from temporaletl.connections import DEFAULT
from temporaletl.errors import ConfigurationError, ETLError
from temporaletl.messages import QueuerInput
from temporaletl.queuer.planning import check_request
from temporaletl.settings import TemporalSettings, WarehouseSettings
from temporaletl.strategies import import_sources
from temporaletl.timezones import known_timezone
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.source_connections import StoredConnections, stored_connections

_PART = re.compile(r"(?P<first>\d+)(?:-(?P<last>\d+))?(?:/(?P<step>\d+))?")
#: Temporal accepts no shorter catch-up window.
_SHORTEST_CATCHUP = timedelta(seconds=10)
_OTHER_SUNDAY = 7


class Overlap(StrEnum):
    """What happens when a run is due while the last one still goes on."""

    SKIP = "skip"
    BUFFER_ONE = "buffer-one"
    BUFFER_ALL = "buffer-all"
    CANCEL_OTHER = "cancel-other"
    TERMINATE_OTHER = "terminate-other"
    ALLOW_ALL = "allow-all"

    @property
    def policy(self) -> ScheduleOverlapPolicy:
        return ScheduleOverlapPolicy[self.name]


def parse_ranges(text: str, *, what: str, least: int, most: int) -> list[ScheduleRange]:
    """Read `3`, `1-5`, `1,3`, `0-23/6` or `*` as ranges, both ends inclusive.

    Raises:
        ConfigurationError: not of that form, or outside least..most; says what was expected.
    """
    if text == "*":
        return [ScheduleRange(least, most)]
    ranges = []
    for part in text.split(","):
        match = _PART.fullmatch(part.strip())
        first = int(match["first"]) if match else -1
        last = int(match["last"] or first) if match else -1
        step = int(match["step"] or 1) if match else 0
        if not (least <= first <= last <= most and step >= 1):
            raise ConfigurationError(
                f"{what} {text!r} is not a number from {least} to {most}, a range (1-5), "
                f"a list (1,3) or *"
            )
        ranges.append(ScheduleRange(first, last, step))
    return ranges


def calendar(day_of_week: str, hour: str) -> ScheduleCalendarSpec:
    """The days (0 or 7 is Sunday, 1 Monday) and hours (0 to 23) at whose beginning to run.

    Raises:
        ConfigurationError: a bad day or hour.
    """
    days = parse_ranges(day_of_week, what="day of week", least=0, most=7)
    return ScheduleCalendarSpec(
        second=[ScheduleRange(0)],
        minute=[ScheduleRange(0)],
        hour=parse_ranges(hour, what="hour", least=0, most=23),
        day_of_week=[part for day in days for part in _sunday_first(day)],
    )


def _sunday_first(days: ScheduleRange) -> list[ScheduleRange]:
    """Days of Temporal's week, 0 to 6, for cron's, whose 7 is Sunday once more."""
    if days.end < _OTHER_SUNDAY:
        return [days]
    sunday = [ScheduleRange(0)] if (_OTHER_SUNDAY - days.start) % days.step == 0 else []
    if days.start == _OTHER_SUNDAY:
        return sunday
    return [*([] if days.start == 0 else sunday), dataclasses.replace(days, end=_OTHER_SUNDAY - 1)]


def make_schedule(
    request: QueuerInput,
    *,
    day_of_week: str,
    hour: str,
    time_zone: str = "UTC",
    overlap: ScheduleOverlapPolicy = ScheduleOverlapPolicy.SKIP,
    catchup_window: timedelta = timedelta(hours=1),
    task_queue: str = names.QUEUER_TASK_QUEUE,
) -> Schedule:
    """Describe the schedule of one connection of a source.

    Raises:
        ConfigurationError: a bad source, stream, day, hour, time zone or catch-up window.
    """
    check_request(request)
    spec = ScheduleSpec(
        calendars=[calendar(day_of_week, hour)], time_zone_name=_known_zone(time_zone)
    )
    if catchup_window < _SHORTEST_CATCHUP:
        raise ConfigurationError(
            f"catch-up window {catchup_window.total_seconds():g} s is shorter than "
            f"{_SHORTEST_CATCHUP.total_seconds():g} s"
        )
    return Schedule(
        action=ScheduleActionStartWorkflow(
            names.QUEUER_FLOW,
            request,
            id=names.scheduled_workflow_id(request.source, request.connection),
            task_queue=task_queue,
            static_summary=f"{names.label(request.source, request.connection)} {request.mode}",
        ),
        spec=spec,
        policy=SchedulePolicy(overlap=overlap, catchup_window=catchup_window),
    )


def _known_zone(name: str) -> str:
    if known_timezone(name) is None:
        raise ConfigurationError(f"time zone {name!r} is not an IANA name such as Europe/London")
    return ZoneInfo(name).key


class Put(NamedTuple):
    """What became of a schedule: made or changed, and whether it starts no runs."""

    created: bool
    paused: bool


async def put_schedule(
    client: Client, source: str, schedule: Schedule, *, connection: str = DEFAULT
) -> Put:
    """Create the connection's schedule, or update it.

    An update keeps the schedule's state: one that is paused stays paused. Safe to repeat.
    """
    paused = False

    def updated(present: ScheduleUpdateInput) -> ScheduleUpdate:
        nonlocal paused
        state = present.description.schedule.state
        paused = state.paused
        return ScheduleUpdate(schedule=dataclasses.replace(schedule, state=state))

    schedule_id = names.schedule_id(source, connection)
    try:
        await client.create_schedule(schedule_id, schedule)
    except ScheduleAlreadyRunningError:
        await client.get_schedule_handle(schedule_id).update(updated)
        return Put(created=False, paused=paused)
    return Put(created=True, paused=False)


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def schedule(
    source_kind_id: Annotated[str, typer.Argument(help="The source to sync, e.g. jira.")],
    day_of_week: Annotated[
        str, typer.Argument(help="0 or 7 is Sunday, 1 Monday; ranges (1-5), lists (1,3) or *.")
    ] = "*",
    hour: Annotated[str, typer.Argument(help="0 to 23; ranges, lists or *.")] = "0",
    timezone: Annotated[str, typer.Option(help="IANA time zone of day and hour.")] = "UTC",
    overlap: Annotated[
        Overlap, typer.Option(help="What happens while the last run still goes on.")
    ] = Overlap.SKIP,
    catchup_window_minutes: Annotated[
        float, typer.Option(help="How late a run that was missed may still start.")
    ] = 60,
    mode: Annotated[str, typer.Option(help="incremental or full.")] = "incremental",
    connection: Annotated[
        str, typer.Option(help="Which of the source's connections to sync.")
    ] = DEFAULT,
) -> None:
    """Create or update the schedule of a source; a paused schedule stays paused."""
    import_sources("temporaletl.queuer.sources")
    if mode not in ("incremental", "full"):
        raise ConfigurationError(f"mode {mode!r} is not one a schedule can have: incremental, full")
    settings = TemporalSettings.load()
    request = QueuerInput(
        source=source_kind_id,
        connection=connection,
        mode="full" if mode == "full" else "incremental",
    )
    with provided(_stored(connection)):
        described = make_schedule(
            request,
            day_of_week=day_of_week,
            hour=hour,
            time_zone=timezone,
            overlap=overlap.policy,
            catchup_window=timedelta(minutes=catchup_window_minutes),
            task_queue=settings.queuer_queue,
        )

    async def put() -> Put:
        client = await connect(settings)
        return await put_schedule(client, source_kind_id, described, connection=connection)

    done = asyncio.run(put())
    named = "" if connection == DEFAULT else f" --connection {connection}"
    resume = f"etl schedule-resume {source_kind_id}{named}"
    typer.echo(
        f"{'created' if done.created else 'updated'} "
        f"{names.schedule_id(source_kind_id, connection)}: "
        f"day {day_of_week}, hour {hour}, {timezone}"
        + (f"; still paused until `{resume}`" if done.paused else "")
    )


def _stored(connection: str) -> StoredConnections | None:
    """The warehouse's connections; None where they cannot matter, or no warehouse is configured."""
    settings = WarehouseSettings.load()
    if connection == DEFAULT or not settings.is_configured:
        return None
    try:
        with Warehouse(settings, max_connections=1) as warehouse:
            warehouse.check()
            return stored_connections(warehouse)
    except ETLError as error:
        return StoredConnections(fault=str(error))


if __name__ == "__main__":
    be_command(app, "schedule.py")
