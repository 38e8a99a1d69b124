"""Freshness: whether each stream is loaded up to as late as it must be, and by what it is judged.

Judged by what is committed, the watermark, and not by what a run says. The bound is
ETL_FRESH_WITHIN_HOURS of the connection, or else the timetables of its schedules: at each of their
times, plus ETL_FRESH_ALLOWANCE_MINUTES, the run that was due must have moved the watermark. Of
several schedules that load a stream, the one counts by which it is late first.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from temporaletl.bound_connection import DEFAULT, bound
from temporaletl.connections.entries import Connection
from temporaletl.connections.providers import provided, read_entries
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.seen_schedules import known_schedules
from temporaletl.control.operations.sources import known_planners
from temporaletl.control.operations.timetable import Timetable
from temporaletl.errors import ConfigurationError, ETLError
from temporaletl.messages import Message
from temporaletl.names import DEFAULT_SCHEDULE, label
from temporaletl.settings.fresh_within import FRESH_WITHIN, FreshWithin, parse_by_source
from temporaletl.settings.platform import Settings
from temporaletl.warehouse.freshness import Loads, StreamLoads, read_loads
from temporaletl.warehouse.schedules import SeenSchedule

FreshnessState = Literal["fresh", "late", "failed", "never loaded", "not judged"]
_MOVING_WATERMARKS = ("incremental", "full")
#: How far behind its time a scheduled run may end its window, unless the allowance is longer.
_LONGEST_LAG = timedelta(hours=1)
#: The most urgent first.
ORDER: tuple[FreshnessState, ...] = ("late", "never loaded", "failed", "fresh", "not judged")


def _by_source(text: str) -> str:
    parse_by_source(text)
    return text


class FreshnessSettings(Settings):
    """How old the streams of the environment's connections may be."""

    fresh_within_hours: Annotated[str, AfterValidator(_by_source)] = Field(
        "",
        validation_alias=FRESH_WITHIN,
        description="hours up to which the environment's connections are fresh, by source",
    )
    allowance_minutes: float = Field(
        60,
        ge=0,
        le=7 * 24 * 60,
        validation_alias="ETL_FRESH_ALLOWANCE_MINUTES",
        description="how long a scheduled run may take before its streams are late",
    )


class StreamFreshness(Message):
    """Freshness of one stream of a connection, and how it was judged.

    `failed`: its last run failed, and it is fresh still. `never loaded` is late as well, and said
    of a stream whose first load was due. `due_at` is when it is late unless it is
    loaded before; None where it is not judged, and of one that must be fresh and never was loaded.
    """

    source: str
    connection: str
    stream: str
    state: FreshnessState
    late: bool
    loaded_until: datetime | None  # the watermark: everything before it is in the warehouse
    last_loaded_at: datetime | None  # when a run last loaded its whole window
    fresh_within: timedelta | None  # how old what is loaded may become
    origin: str  # of the bound, or why there is none
    due_at: datetime | None
    cause: str


class FreshnessReport(Message):
    """Freshness of all streams at `as_of`, by the warehouse's clock.

    `faults` say what is not known, and so could not be judged.
    """

    as_of: datetime
    entries: tuple[StreamFreshness, ...]
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Bounds:
    """By what streams are judged: bounds and schedules by source and connection."""

    fresh_within: Mapping[tuple[str, str], FreshWithin]
    schedules: Mapping[tuple[str, str], Sequence[SeenSchedule]]
    streams: Mapping[tuple[str, str], tuple[str, ...]]
    allowance: timedelta
    faults: tuple[str, ...]


async def freshness(platform: Platform) -> FreshnessReport:
    """The freshness of every stream that was loaded, is scheduled, or must be fresh.

    While Temporal does not answer, schedules count as it listed them last.

    Raises:
        SettingsError: a setting is wrong.
        ETLError: as `Platform.current_warehouse`.
    """
    bounds = await read_bounds(platform)
    warehouse = await platform.current_warehouse()
    return judge(bounds, await asyncio.to_thread(read_loads, warehouse))


async def read_bounds(platform: Platform) -> Bounds:
    """Read by what streams are judged. Raises: as `freshness`."""
    settings = FreshnessSettings.load()
    fresh_within = {
        (source, DEFAULT): found
        for source, found in parse_by_source(settings.fresh_within_hours).items()
    }
    known = await known_schedules(platform)
    faults = [] if known.fault is None else [f"schedules are those of before: {known.fault}"]
    stored = await platform.stored_connections()
    if stored is not None and stored.fault is not None:
        faults.append(f"connections of the warehouse are not known: {stored.fault}")
    with provided(stored):
        declared, unread = _declared()
        faults += unread
        fresh_within |= declared
        schedules: dict[tuple[str, str], list[SeenSchedule]] = defaultdict(list)
        for one in known.schedules:
            if one.key.pipeline is not None:
                continue  # what it loads is no stream
            schedules[one.source, one.connection].append(one)
        wanted = sorted({*fresh_within, *schedules})
        streams, unknown = await asyncio.to_thread(_streams_of, wanted)
    allowance = timedelta(minutes=settings.allowance_minutes)
    return Bounds(fresh_within, schedules, streams, allowance, (*faults, *unknown))


def _declared() -> tuple[dict[tuple[str, str], FreshWithin], list[str]]:
    """The bounds of declared connections, and what is wrong with others."""
    known_planners()  # they say what there can be connections of
    try:
        entries = read_entries()
    except ConfigurationError as error:
        return {}, [str(error)]
    return (
        {
            (entry.source, entry.name): entry.fresh_within
            for _, entry in entries
            if isinstance(entry, Connection) and entry.fresh_within is not None
        },
        [str(entry) for _, entry in entries if isinstance(entry, ConfigurationError)],
    )


def _streams_of(
    wanted: list[tuple[str, str]],
) -> tuple[dict[tuple[str, str], tuple[str, ...]], list[str]]:
    """The streams of sources, over their connections, and of which they are not known."""
    planners, found, unknown = known_planners(), {}, []
    for source, connection in wanted:
        if source not in planners:
            unknown.append(f"the streams of {label(source, connection)} are not known: no source")
            continue
        try:
            with bound(source, connection):
                found[source, connection] = planners.get(source).streams
        except ETLError as error:
            unknown.append(f"the streams of {label(source, connection)} are not known: {error}")
    return found, unknown


def judge(bounds: Bounds, loads: Loads) -> FreshnessReport:
    """Judge what is loaded by what must be."""
    known = {(one.source, one.connection, one.stream): one for one in loads.streams}
    for whose, streams in bounds.streams.items():
        for stream in streams:
            if _must_be_loaded(bounds, whose, stream):
                known.setdefault((*whose, stream), _nothing_of(*whose, stream))
    entries = [_judge_stream(bounds, one, loads.as_of) for _, one in sorted(known.items())]
    return FreshnessReport(as_of=loads.as_of, entries=tuple(entries), faults=bounds.faults)


def _must_be_loaded(bounds: Bounds, whose: tuple[str, str], stream: str) -> bool:
    own = bounds.fresh_within.get(whose)
    if own is not None and own.of(stream) is not None:
        return True
    schedules = bounds.schedules.get(whose, ())
    return any(not one.streams or stream in one.streams for one in schedules)


def _nothing_of(source: str, connection: str, stream: str) -> StreamLoads:
    return StreamLoads(
        source=source,
        connection=connection,
        stream=stream,
        loaded_until=None,
        last_loaded_at=None,
        last_outcome="other",
        batch_id=None,
    )


@dataclass(frozen=True, slots=True)
class _Bound:
    """A bound of one stream, and when it is due by it; `origin` says why there is none, too."""

    origin: str
    due_at: datetime | None = None
    fresh_within: timedelta | None = None

    @property
    def exists(self) -> bool:
        return self.due_at is not None or self.fresh_within is not None


def _bound_of(bounds: Bounds, loads: StreamLoads) -> _Bound:
    whose, until = (loads.source, loads.connection), loads.loaded_until
    own = bounds.fresh_within.get(whose)
    within = None if own is None else own.of(loads.stream)
    if within is not None:
        return _Bound(FRESH_WITHIN, None if until is None else until + within, within)
    schedules = bounds.schedules.get(whose, ())
    unfit = {one.name: _unfit(one, loads.stream) for one in schedules}
    fit = [one for one in schedules if unfit[one.name] is None]
    # A filtered run moves a watermark only where no other loads the stream.
    fit = [one for one in fit if not one.filtered] or fit
    if not fit:
        why = " and ".join(dict.fromkeys(filter(None, unfit.values()))) or "no schedule"
        return _Bound(f"no {FRESH_WITHIN}, and {why}")
    return min(
        (_bound_by(one, until, bounds.allowance) for one in fit), key=lambda found: found.due_at
    )


@dataclass(frozen=True, slots=True)
class _Scheduled(_Bound):
    """A bound by a schedule: it always says when the stream is due."""

    due_at: datetime


def _bound_by(schedule: SeenSchedule, until: datetime | None, allowance: timedelta) -> _Scheduled:
    timetable = Timetable.model_validate(schedule.timetable)
    minutes = allowance.total_seconds() / 60
    named = "the schedule" if schedule.name == DEFAULT_SCHEDULE else f"schedule {schedule.name}"
    origin = f"{named}, and an allowance of {minutes:g} min"
    patience = allowance + timetable.jitter
    first = timetable.nth_due(schedule.created_at, 1) + patience
    if until is None:
        return _Scheduled(origin, first)
    following = timetable.nth_due(until, 1)
    # A run ends its window a source's lag before its time: it moved a watermark that is as close.
    if following - until <= max(_LONGEST_LAG, allowance):
        following = timetable.nth_due(until, 2)
    due_at = max(first, following + patience)
    return _Scheduled(origin, due_at, due_at - until)


def _unfit(schedule: SeenSchedule, stream: str) -> str | None:
    """Why a stream is not judged by a schedule; None where it is."""
    named = "the schedule" if schedule.name == DEFAULT_SCHEDULE else f"schedule {schedule.name}"
    if schedule.paused:
        return f"{named} is paused"
    if schedule.mode not in _MOVING_WATERMARKS:
        return f"runs of {named} move no watermark"
    if schedule.streams and stream not in schedule.streams:
        return f"{named} leaves this stream out"
    return (
        None if schedule.timetable else f"the times of {named} are none that `etl schedule` makes"
    )


def _judge_stream(bounds: Bounds, loads: StreamLoads, now: datetime) -> StreamFreshness:
    found = _bound_of(bounds, loads)
    never = loads.loaded_until is None
    # A watermark that has not come yet is of a wrong clock, and says nothing.
    ahead = loads.loaded_until is not None and loads.loaded_until > now
    late = found.exists and (ahead or found.due_at is None or found.due_at <= now)
    state: FreshnessState
    if not found.exists:
        state = "not judged"
    elif never and not late:
        state = "not judged"  # its first run is not due yet
    elif never:
        state = "never loaded"
    elif late:
        state = "late"
    else:
        state = "failed" if loads.last_outcome == "failed" else "fresh"
    return StreamFreshness(
        **loads.model_dump(
            include={"source", "connection", "stream", "loaded_until", "last_loaded_at"}
        ),
        state=state,
        late=late,
        fresh_within=found.fresh_within,
        origin=found.origin,
        due_at=found.due_at,
        cause="; ".join(_causes(state, loads, found, now)),
    )


def _causes(
    state: FreshnessState, loads: StreamLoads, found: _Bound, now: datetime
) -> Iterator[str]:
    if not found.exists:
        yield f"not judged: {found.origin}"
    elif loads.loaded_until is None and found.due_at is not None and state == "not judged":
        due = f"{found.due_at.astimezone(UTC):%Y-%m-%d %H:%M}"
        yield f"not judged: its first load is due by {due} UTC"
    elif loads.loaded_until is None:
        yield "no run has loaded it whole yet"
    elif loads.loaded_until > now:
        yield "its watermark is ahead of the clock: a wrong clock moved it (`etl state set`)"
    else:
        age = now - loads.loaded_until
        yield f"what is loaded is {_span(age)} old"
        if found.fresh_within is not None:
            yield f"it may be {_span(found.fresh_within)} old"
    if loads.last_outcome == "failed":
        yield f"its last run failed: {loads.error or 'not all of its window was loaded'}"


def _span(span: timedelta) -> str:
    """A duration in words."""
    minutes = round(span.total_seconds() / 60)
    if minutes < 2 * 60:
        return f"{minutes} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 2 * 24 else f"{hours / 24:.1f} days"
