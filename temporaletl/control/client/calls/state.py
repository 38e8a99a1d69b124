"""Sync states and cool-downs, over the API."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel

from temporaletl.bound_connection import DEFAULT
from temporaletl.control.client.api import Api
from temporaletl.control.client.operations import over_api
from temporaletl.control.operations.state import (
    Moved,
    SourceState,
    StreamState,
    move_watermark,
    read_state,
    unblock,
)
from temporaletl.warehouse.audit import Author
from temporaletl.warehouse.budget import BlockedSource
from temporaletl.warehouse.state import SyncState


class _States(BaseModel):
    streams: list[dict[str, Any]]
    blocked: list[dict[str, Any]]


class _Obstacles(BaseModel):
    ahead: bool
    blocked_until: datetime | None


class _Unblocked(BaseModel):
    unblocked: bool
    running: tuple[str, ...]


@over_api(read_state)
async def _read_state(
    api: Api, source: str, streams: Sequence[str] = (), *, connection: str | None = None
) -> SourceState:
    wanted = {"stream": list(streams), "connection": connection}
    found = await api.get(_States, "state", source, params=wanted)
    of = {"source": source}
    return SourceState(
        [
            StreamState(
                sync=api.read(SyncState, one | of),
                **dict(api.read(_Obstacles, one)),
            )
            for one in found.streams
        ],
        [api.read(BlockedSource, one | of) for one in found.blocked],
    )


@over_api(move_watermark)
async def _move_watermark(
    api: Api,
    source: str,
    streams: Sequence[str],
    watermark: datetime | None,
    *,
    connection: str = DEFAULT,
    author: Author | None = None,
) -> Moved:
    del author  # the API knows who sends the request
    wanted = {
        "connection": connection,
        "streams": list(streams),
        "watermark": None if watermark is None else watermark.isoformat(),
    }
    return await api.send("PUT", Moved, "state", source, json=wanted)


@over_api(unblock)
async def _unblock(
    api: Api, source: str, *, connection: str = DEFAULT, author: Author | None = None
) -> Moved | None:
    del author
    of = {"connection": connection}
    done = await api.send("POST", _Unblocked, "state", source, "unblock", params=of)
    return Moved((), done.running, unblocked=True) if done.unblocked else None
