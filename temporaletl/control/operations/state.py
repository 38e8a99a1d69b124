"""The sync state of a source's streams: read and set by hand; cool-downs ended early."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from temporaletl.bound_connection import DEFAULT, bound
from temporaletl.connections.providers import UnknownConnectionError, find_connection, provided
from temporaletl.control.operations.audit import local_author
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.sources import check_known, find_source, know_source
from temporaletl.errors import ConfigurationError, UnknownSourceError
from temporaletl.names import connection_option, label
from temporaletl.warehouse.audit import Author, record
from temporaletl.warehouse.budget import BlockedSource, blocked_sources, end_cool_down
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.reports import list_batches
from temporaletl.warehouse.state import SyncState, put_watermark, read_states, watermarks_ahead

_LOOKED_AT = 50


@dataclass(frozen=True, slots=True)
class StreamState:
    """A stream's state, and what keeps it from being loaded.

    `ahead`: its watermark is in the future, where a wrong clock must have moved it.
    `blocked_until`: the end of the source's cool-down (Retry-After).
    """

    sync: SyncState
    ahead: bool
    blocked_until: datetime | None


@dataclass(frozen=True, slots=True)
class SourceState:
    """The streams of a source, and its connections that are blocked by a cool-down."""

    streams: list[StreamState]
    blocked: list[BlockedSource]


@dataclass(frozen=True, slots=True)
class Moved:
    """The streams whose watermark was set; runs of the source that go on meanwhile.

    `unblocked`: the source's cool-down was ended with it.
    """

    streams: tuple[str, ...]
    running: tuple[str, ...]  # workflow ids
    unblocked: bool


async def read_state(
    platform: Platform,
    source: str,
    streams: Sequence[str] = (),
    *,
    connection: str | None = None,
) -> SourceState:
    """The state of a source over one of its connections, or over all of them.

    Also of a source that is no longer registered, and a connection that is no longer there.

    Raises:
        ConfigurationError: there is no such source or stream.
        ETLError: as `Platform.warehouse`.
    """
    is_known = know_source(source)
    warehouse = await platform.warehouse()
    states, ahead, blocked = await asyncio.to_thread(_read, warehouse, source)
    if connection is not None:
        states = [state for state in states if state.connection == connection]
        blocked = [one for one in blocked if one.connection == connection]
    if not states or (streams and is_known):
        with provided(await platform.stored_connections(connection or DEFAULT)):
            known_streams(source, streams, connection or DEFAULT)
    blocked_until = {one.connection: one.blocked_until for one in blocked}
    found = [
        StreamState(
            sync=state,
            ahead=(state.stream, state.connection) in ahead,
            blocked_until=blocked_until.get(state.connection),
        )
        for state in states
        if not streams or state.stream in streams
    ]
    return SourceState(found, blocked)


async def move_watermark(
    platform: Platform,
    source: str,
    streams: Sequence[str],
    watermark: datetime | None,
    *,
    connection: str = DEFAULT,
    author: Author | None = None,
) -> Moved:
    """Let the next incremental run begin at a timestamp, or at the beginning (None).

    Concerns the streams named, all where none is. To begin anew also ends a cool-down of the
    source, and can be done to a source or connection that is no longer there, where the warehouse
    has state of it. Safe to repeat. All of it and its audit row are one transaction; without an
    `author`, the user of this process is the one.

    Raises:
        ConfigurationError: there is no such source or stream, or the timestamp is in the future.
        ETLError: as `Platform.current_warehouse`.
    """
    with provided(await platform.stored_connections(connection)):
        chosen = await _streams_to_move(
            platform, source, streams, connection, anew=watermark is None
        )
    if watermark is not None and watermark > await platform.now():
        raise ConfigurationError(
            f"watermark {watermark.isoformat()} lies in the future: what happens until then "
            f"would never be loaded"
        )
    warehouse = await platform.current_warehouse()
    action = "state.reset" if watermark is None else "state.set"
    details: dict[str, JsonValue] = {
        "streams": list(chosen),
        "watermark": None if watermark is None else watermark.isoformat(),
    }

    def put() -> Moved:
        with warehouse.connection() as transaction:
            # In one order everywhere, so that two of them cannot deadlock.
            for stream in sorted(chosen):
                put_watermark(transaction, source, stream, connection, watermark)
            unblocked = watermark is None and end_cool_down(transaction, source, connection)
            record(
                transaction,
                author or local_author(),
                action,
                label(source, connection),
                details=details | {"unblocked": unblocked},
            )
        return Moved(chosen, _running(warehouse, source, connection), unblocked)

    return await asyncio.to_thread(put)


async def _streams_to_move(
    platform: Platform, source: str, streams: Sequence[str], connection: str, *, anew: bool
) -> tuple[str, ...]:
    try:
        return tuple(known_streams(source, streams, connection))
    except (UnknownSourceError, UnknownConnectionError):
        warehouse = await platform.warehouse_if_any() if anew else None
        if warehouse is None:
            raise
        states = await asyncio.to_thread(read_states, warehouse, source)
        kept = [state.stream for state in states if state.connection == connection]
        if not kept:
            raise
        return tuple(_chosen(label(source, connection), streams, kept))


async def unblock(
    platform: Platform, source: str, *, connection: str = DEFAULT, author: Author | None = None
) -> Moved | None:
    """End the cool-down of a connection; None where it is not rate-limited.

    Watermarks stay. Safe to repeat. It and its audit row are one transaction.

    Raises:
        UnknownSourceError, UnknownConnectionError: there is none, and the warehouse knows none.
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()

    def lift() -> Moved | None:
        with warehouse.connection() as transaction:
            lifted = end_cool_down(transaction, source, connection)
            if lifted:
                whom = label(source, connection)
                record(transaction, author or local_author(), "state.unblock", whom)
        if not lifted:
            return None
        return Moved((), _running(warehouse, source, connection), unblocked=True)

    moved = await asyncio.to_thread(lift)
    if moved is None:
        # What is misspelt has no cool-down either.
        await check_known(platform, source, connection)
    return moved


def known_streams(source: str, streams: Sequence[str], connection: str = DEFAULT) -> Sequence[str]:
    """The streams named, all of the source where none is.

    Raises:
        ConfigurationError: there is no such source, connection or stream.
    """
    planner = find_source(source, connection)
    find_connection(source, connection)
    with bound(source, connection):
        known = planner.streams
    return _chosen(source, streams, known)


def _chosen(source: str, streams: Sequence[str], known: Sequence[str]) -> Sequence[str]:
    for stream in streams:
        if stream not in known:
            raise ConfigurationError(
                f"source {source!r} has no stream {stream!r}; its streams: {', '.join(known)}"
            )
    return streams or known


def ahead_of_clock(state: SyncState) -> str:
    """What to do about a watermark that a wrong clock moved."""
    named = connection_option(state.connection)
    watermark = "" if state.watermark is None else f" {state.watermark:%Y-%m-%d %H:%M:%SZ}"
    return (
        f"{label(state.source, state.connection)} {state.stream}: the watermark{watermark} is "
        "ahead of the warehouse's clock, where a wrong clock must have moved it: "
        f"`etl state set {state.source}{named} --watermark DATE` puts it back to when all was well"
    )


def _read(
    warehouse: Warehouse, source: str
) -> tuple[list[SyncState], set[tuple[str, str]], list[BlockedSource]]:
    ahead = {(state.stream, state.connection) for state in watermarks_ahead(warehouse, source)}
    return read_states(warehouse, source), ahead, list(blocked_sources(warehouse, source))


def _running(warehouse: Warehouse, source: str, connection: str) -> tuple[str, ...]:
    batches = list_batches(
        warehouse, ended=False, limit=_LOOKED_AT, source=source, connection_name=connection
    )
    return tuple(batch.workflow_id for batch in batches)
