"""`/state`: watermarks of streams shown, set and reset; cool-downs ended early."""

from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from temporaletl.bound_connection import DEFAULT
from temporaletl.control.api.access import Operator, Reader
from temporaletl.control.api.answers import shared
from temporaletl.control.api.context import Context, InContext
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.api.times import Timestamp
from temporaletl.control.operations.state import move_watermark, read_state, unblock

router = APIRouter(prefix="/state", tags=["state"], responses=RESPONSES)

SourceName = Annotated[str, Path(max_length=100, examples=["jira"])]


class StreamState(BaseModel):
    """Sync state of one stream of a connection."""

    connection: str
    stream: str
    watermark: datetime | None = Field(description="everything before it is loaded")
    last_full_at: datetime | None
    last_incremental_at: datetime | None
    records: int = Field(description="extracted in its last run")
    state: str
    batch_id: str | None
    updated_at: datetime
    scope: dict[str, JsonValue] | None = Field(description="the filters that it stands for")
    ahead: bool = Field(description="its watermark is ahead of the clock: a wrong clock moved it")
    blocked_until: datetime | None = Field(description="the end of the source's cool-down")


class CoolDown(BaseModel):
    """A connection that no request is sent over before a time."""

    connection: str
    blocked_until: datetime


class States(BaseModel):
    """Sync states of a source."""

    source: str
    streams: list[StreamState]
    blocked: list[CoolDown] = Field(description="connections that are rate-limited")


class WatermarkChange(BaseModel):
    """The watermark that streams get; null begins anew."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"streams": ["issues"], "watermark": "2026-11-01T00:00:00Z"}]
        },
    )

    connection: str = Field(DEFAULT, max_length=100)
    streams: list[str] = Field(default=[], max_length=100, description="none: all of the source")
    watermark: Timestamp | None


class WatermarkMoved(BaseModel):
    """Streams whose watermark was set, and the runs that go on meanwhile."""

    streams: list[str]
    running: list[str] = Field(description="workflow ids; each may move the watermark again")
    unblocked: bool = Field(description="the source's cool-down was ended with it")


class Unblocked(BaseModel):
    """Whether there was a cool-down to end, and the runs that go on."""

    unblocked: bool
    running: list[str] = Field(description="workflow ids; what waits already does so to its end")


@router.get(
    "/{source}",
    summary="Show the state of a source",
    operation_id="get_state",
    response_model=States,
)
async def get_state(
    request: Request,
    response: Response,
    context: InContext,
    _: Reader,
    source: SourceName,
    connection: str | None = None,
    stream: Annotated[list[str], Query(max_length=100)] = [],  # noqa: B006 - FastAPI's way
) -> Response:
    """Show watermark, last runs and cool-down of each stream."""
    find = partial(_find_state, context, source, stream, connection)
    return await shared(context, request, response, find)


async def _find_state(
    context: Context, source: str, streams: list[str], connection: str | None
) -> States:
    found = await read_state(context.platform, source, streams, connection=connection)
    return States(
        source=source,
        streams=[
            StreamState(
                **{k: v for k, v in asdict(one.sync).items() if k in StreamState.model_fields},
                ahead=one.ahead,
                blocked_until=one.blocked_until,
            )
            for one in found.streams
        ],
        blocked=[
            CoolDown(connection=one.connection, blocked_until=one.blocked_until)
            for one in found.blocked
        ],
    )


@router.put("/{source}", summary="Set or reset watermarks", operation_id="set_state")
async def put_state(
    context: InContext, caller: Operator, source: SourceName, wanted: WatermarkChange
) -> WatermarkMoved:
    """Let the next incremental run begin at a time, or at the beginning. Safe to repeat."""
    moved = await move_watermark(
        context.platform,
        source,
        wanted.streams,
        wanted.watermark,
        connection=wanted.connection,
        author=caller.author(),
    )
    context.forget()
    return WatermarkMoved(
        streams=list(moved.streams),
        running=list(moved.running),
        unblocked=moved.unblocked,
    )


@router.post("/{source}/unblock", summary="End a cool-down", operation_id="unblock_source")
async def post_unblock(
    context: InContext, caller: Operator, source: SourceName, connection: str = DEFAULT
) -> Unblocked:
    """Let runs send requests again before the end that the source gave. Safe to repeat."""
    lifted = await unblock(context.platform, source, connection=connection, author=caller.author())
    context.forget()
    return Unblocked(
        unblocked=lifted is not None, running=[] if lifted is None else list(lifted.running)
    )
