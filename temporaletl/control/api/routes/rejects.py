"""`/rejects`: the records that could not become rows, listed and reprocessed."""

from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from temporaletl.bound_connection import DEFAULT
from temporaletl.control.api.access import Caller, Operator, Reader
from temporaletl.control.api.context import Context, InContext
from temporaletl.control.api.flags import Flag
from temporaletl.control.api.idempotency import IdempotencyKey, once
from temporaletl.control.api.paging import Limit
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.api.routes.sync import Started, start
from temporaletl.control.operations.rejects import get_reject, list_rejects, replay_request
from temporaletl.control.operations.runs import run_request
from temporaletl.warehouse.rejects import RejectDetails, StoredReject

router = APIRouter(prefix="/rejects", tags=["rejects"], responses=RESPONSES)

_ACTION = "rejects.replay"
RejectId = Annotated[int, Path(ge=1, le=2**63 - 1, examples=[4711])]


class RejectsFound(BaseModel):
    """The rejects seen last, and how many there are."""

    items: list[StoredReject]
    total: int = Field(description="100,000 stands for that many or more")


class ReplayOptions(BaseModel):
    """How rejects are reprocessed."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"notify": False}]})

    notify: Flag = Field(default=True, description="notify whom the settings name of its end")
    force: Flag = Field(
        default=False,
        validation_alias=AliasChoices("force", "forced"),
        description="start although a run of the source and connection goes on",
    )


class ReplayRequest(ReplayOptions):
    """The rejects to reprocess: those of a connection, of all of its streams or some."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"source": "jira", "streams": ["issues"]}]},
    )

    source: str = Field(max_length=100)
    connection: str = Field(DEFAULT, max_length=100)
    streams: list[str] = Field(default=[], max_length=100, description="none: all of the source")


@router.get("", summary="List rejects", operation_id="list_rejects")
async def get_rejects(
    context: InContext,
    _: Reader,
    source: Annotated[str, Query(max_length=100, examples=["jira"])],
    connection: str = DEFAULT,
    stream: Annotated[list[str], Query(max_length=100)] = [],  # noqa: B006 - FastAPI's way
    limit: Limit = 50,
) -> RejectsFound:
    """List the rejects of a connection, the latest first, with reason and record."""
    found = await list_rejects(context.platform, source, stream, connection=connection, limit=limit)
    return RejectsFound(items=found.rejects, total=found.total)


@router.get("/{reject_id:int}", summary="Show a reject", operation_id="get_reject")
async def get_one(context: InContext, _: Reader, reject_id: RejectId) -> RejectDetails:
    """Show why a record could not become rows, the record, and the page that wrote the reject."""
    return await get_reject(context.platform, reject_id)


@router.post(
    "/replay",
    summary="Reprocess rejects",
    operation_id="replay_rejects",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Started,
)
async def post_replay(
    request: Request,
    context: InContext,
    caller: Operator,
    wanted: ReplayRequest,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run that sends them through the present transform; what becomes rows leaves."""
    replay = partial(_replay, context, caller, wanted)
    return await once(context, caller, request, idempotency_key, replay, status=HTTPStatus.ACCEPTED)


@router.post(
    "/{reject_id:int}/replay",
    summary="Reprocess one reject",
    operation_id="replay_reject",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Started,
)
async def post_replay_of_one(
    request: Request,
    context: InContext,
    caller: Operator,
    reject_id: RejectId,
    wanted: ReplayOptions | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run that sends this one through the present transform."""
    replay = partial(_replay_one, context, caller, reject_id, wanted or ReplayOptions())
    return await once(context, caller, request, idempotency_key, replay, status=HTTPStatus.ACCEPTED)


async def _replay(context: Context, caller: Caller, wanted: ReplayRequest) -> Started:
    asked = run_request(
        wanted.source,
        connection=wanted.connection,
        mode="replay",
        streams=wanted.streams,
        notify=wanted.notify,
    )
    return await start(context, caller, asked, _ACTION, force=wanted.force)


async def _replay_one(
    context: Context, caller: Caller, reject_id: int, wanted: ReplayOptions
) -> Started:
    asked = await replay_request(context.platform, reject_id, notify=wanted.notify)
    return await start(context, caller, asked, _ACTION, force=wanted.force)
