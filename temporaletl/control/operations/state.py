"""The sync state of a source's streams: shown, set by hand, and lifted rate-limit blocks."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.sources import find_source, known_planners
from temporaletl.errors import ConfigurationError
from temporaletl.warehouse.budget import Closure, closures, open_source
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.reports import BatchReport, recent_batches
from temporaletl.warehouse.state import SyncState, read_states, set_watermark, watermarks_ahead

DEFAULT_CONNECTION = "default"
_LOOKED_AT = 50


@dataclass(frozen=True, slots=True)
class StreamState:
    """A stream's state, and what keeps it from being loaded.

    `ahead`: its watermark is in the future, where a wrong clock must have moved it.
    `blocked_until`: the source asked to be left alone until then.
    """

    sync: SyncState
    ahead: bool
    blocked_until: datetime | None


@dataclass(frozen=True, slots=True)
class SourceState:
    """The streams of a source, and the blocks over its connections."""

    streams: list[StreamState]
    blocks: list[Closure]


@dataclass(frozen=True, slots=True)
class Moved:
    """The streams whose watermark was set; runs of the source that go on meanwhile.

    `unblocked`: a block of the source was lifted with it.
    """

    streams: tuple[str, ...]
    running: list[BatchReport]
    unblocked: bool


async def read_state(platform: Platform, source: str, streams: Sequence[str] = ()) -> SourceState:
    """The state of a source, also of one that is no longer registered.

    Raises:
        ConfigurationError: there is no such source or stream.
        ETLError: as `Platform.warehouse`.
    """
    planners = known_planners()
    warehouse = await platform.warehouse()
    states, ahead, blocks = await asyncio.to_thread(_read, warehouse, source)
    if source in planners or not states:
        known_streams(source, streams)
    over = {block.connection: block.until for block in blocks}
    found = [
        StreamState(
            sync=state,
            ahead=(state.stream, state.connection) in ahead,
            blocked_until=over.get(state.connection),
        )
        for state in states
        if not streams or state.stream in streams
    ]
    return SourceState(found, blocks)


async def move_watermark(
    platform: Platform, source: str, streams: Sequence[str], watermark: datetime | None
) -> Moved:
    """Let the next incremental run begin at a moment, or at the beginning (None).

    Concerns the streams named, all where none is. To begin anew also lifts a block of the source.
    Safe to repeat.

    Raises:
        ConfigurationError: there is no such source or stream, or the moment is in the future.
        ETLError: as `Platform.warehouse`.
    """
    chosen = tuple(known_streams(source, streams))
    if watermark is not None and watermark > await platform.now():
        raise ConfigurationError(
            f"watermark {watermark.isoformat()} lies in the future: what happens until then "
            f"would never be loaded"
        )
    warehouse = await platform.warehouse()

    def put() -> Moved:
        for stream in chosen:
            set_watermark(warehouse, source, stream, DEFAULT_CONNECTION, watermark)
        running = _running(warehouse, source)
        return Moved(chosen, running, watermark is None and open_source(warehouse, source))

    return await asyncio.to_thread(put)


async def unblock(platform: Platform, source: str) -> Moved | None:
    """Let a source that asked to be left alone be asked again; None where nothing blocked it.

    Watermarks stay. Safe to repeat.

    Raises:
        UnknownSourceError: there is no such source.
        ETLError: as `Platform.warehouse`.
    """
    find_source(source)
    warehouse = await platform.warehouse()

    def lift() -> Moved | None:
        if not open_source(warehouse, source):
            return None
        return Moved((), _running(warehouse, source), unblocked=True)

    return await asyncio.to_thread(lift)


def known_streams(source: str, streams: Sequence[str]) -> Sequence[str]:
    """The streams named, all of the source where none is.

    Raises:
        ConfigurationError: there is no such source or stream.
    """
    known = find_source(source).streams
    for stream in streams:
        if stream not in known:
            raise ConfigurationError(
                f"source {source!r} has no stream {stream!r}; its streams: {', '.join(known)}"
            )
    return streams or known


def ahead_of_clock(state: SyncState) -> str:
    """What to do about a watermark that a wrong clock moved."""
    watermark = "" if state.watermark is None else f" {state.watermark:%Y-%m-%d %H:%M:%SZ}"
    return (
        f"{state.source} {state.stream}: the watermark{watermark} is ahead of the warehouse's "
        f"clock, where a wrong clock must have moved it: `etl state set {state.source} "
        f"--watermark DATE` puts it back to when all was well"
    )


def _read(
    warehouse: Warehouse, source: str
) -> tuple[list[SyncState], set[tuple[str, str]], list[Closure]]:
    ahead = {(each.stream, each.connection) for each in watermarks_ahead(warehouse, source)}
    return read_states(warehouse, source), ahead, list(closures(warehouse, source))


def _running(warehouse: Warehouse, source: str) -> list[BatchReport]:
    batches = recent_batches(warehouse, limit=_LOOKED_AT, source=source)
    return [batch for batch in batches if batch.ended_at is None]
