"""`/pipelines`: stored pipelines: their versions, what differs between them, their webhooks."""

from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, JsonValue

from temporaletl.control.api.access import Operator, Reader
from temporaletl.control.api.context import InContext
from temporaletl.control.api.problems import (
    RESPONSES,
    UnauthenticatedError,
    problem,
    request_id_of,
)
from temporaletl.control.operations.pipeline_webhooks import (
    event_of,
    receive_webhook,
    webhook_keys,
)
from temporaletl.control.operations.stored_pipelines import (
    diff_definitions,
    find_pipeline,
    pipeline_versions,
    remove_pipeline,
    store_pipeline,
    stored_pipelines,
)
from temporaletl.warehouse.pipelines import StoredVersion

router = APIRouter(prefix="/pipelines", tags=["pipelines"], responses=RESPONSES)

PipelineName = Annotated[str, Path(max_length=63, description="the pipeline", examples=["orders"])]
Version = Annotated[str, Path(max_length=64, description="its number, or its hash", examples=["1"])]
SignedHeader = Annotated[str | None, Header(description="as Standard Webhooks have it")]
_DEFINITION: dict[str, JsonValue] = {
    "nodes": [{"id": "wait", "type": "delay", "data": {"seconds": 1}}],
    "edges": [],
}


class ListedPipeline(BaseModel):
    """A stored pipeline, and its last execution."""

    name: str
    version: str
    number: int
    nodes: int
    updated_at: datetime
    executions: int
    last_state: str | None
    last_at: datetime | None


class ListedPipelines(BaseModel):
    """Every stored pipeline, by name."""

    items: list[ListedPipeline]


class PipelineDocument(BaseModel):
    """A definition to store."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"definition": _DEFINITION}]}
    )

    definition: dict[str, JsonValue]


class VersionSummary(BaseModel):
    """A version of a pipeline."""

    number: int
    version: str
    created_by: str | None
    created_at: datetime
    latest: bool


class Versions(BaseModel):
    """The versions of a pipeline, the newest first."""

    items: list[VersionSummary]


class VersionDocument(VersionSummary):
    """A version of a pipeline, with its definition as it was sent."""

    pipeline: str
    definition: dict[str, JsonValue]


class Received(BaseModel):
    """The execution that an event has started; `again`: when it came before."""

    execution_id: str
    again: bool


class Difference(BaseModel):
    """What differs between two versions, their pictures aside: lines of a unified diff."""

    before: str
    after: str
    lines: list[str]


@router.get("", summary="List pipelines", operation_id="list_pipelines")
async def get_pipelines(context: InContext, _: Reader) -> ListedPipelines:
    """List the stored pipelines, by name."""
    found = await stored_pipelines(context.platform)
    items = [
        ListedPipeline.model_validate({**one._asdict(), "version": one.sha256}) for one in found
    ]
    return ListedPipelines(items=items)


@router.put("/{name}", summary="Store a pipeline", operation_id="store_pipeline")
async def put_pipeline(
    context: InContext, caller: Operator, name: PipelineName, wanted: PipelineDocument
) -> VersionDocument:
    """Store a definition as the latest version; the same content is the same version."""
    author = caller.author()
    stored = await store_pipeline(context.platform, wanted.definition, name=name, author=author)
    context.forget()
    return _document(stored)


@router.get("/{name}", summary="Show a pipeline", operation_id="get_pipeline")
async def get_pipeline(context: InContext, _: Reader, name: PipelineName) -> VersionDocument:
    """Show the latest version of a pipeline."""
    return _document(await find_pipeline(context.platform, name))


@router.delete(
    "/{name}",
    summary="Delete a pipeline",
    operation_id="delete_pipeline",
    status_code=HTTPStatus.NO_CONTENT,
    response_class=Response,
)
async def delete(
    context: InContext,
    caller: Operator,
    name: PipelineName,
    *,
    force: Annotated[
        bool, Query(description="also where it has a schedule, whose executions then fail")
    ] = False,
) -> None:
    """Delete a pipeline with its versions; its executions stay. 409 where it has a schedule."""
    await remove_pipeline(context.platform, name, force=force, author=caller.author())
    context.forget()


@router.post(
    "/{name}/webhook",
    summary="Start a pipeline by a webhook",
    operation_id="receive_webhook",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Received,
    openapi_extra={
        "requestBody": {
            "required": True,
            "description": "any JSON but a number: what expressions read as `trigger`",
            "content": {"application/json": {"schema": {}, "example": {"order": 7}}},
        }
    },
)
async def post_webhook(
    request: Request,
    context: InContext,
    name: PipelineName,
    webhook_id: SignedHeader = None,
    webhook_timestamp: SignedHeader = None,
    webhook_signature: SignedHeader = None,
) -> Response:
    """Start a stored pipeline, once for each event id; needs no token, but a signature.

    Signed as Standard Webhooks have it, with a secret that the definition names. Whatever keeps a
    signature from holding is answered alike.
    """
    given = {
        "webhook-id": webhook_id or "",
        "webhook-timestamp": webhook_timestamp or "",
        "webhook-signature": webhook_signature or "",
    }
    body = await request.body()
    keys = await context.answers.latest("webhook keys", partial(webhook_keys, context.platform))
    event_id = event_of(keys.value, name, given, body)
    if event_id is None:
        raise UnauthenticatedError(
            "no webhook of this address: it is not signed with a secret of its pipeline, or was "
            "signed more than five minutes ago"
        )
    delay = context.webhooks.delay(name)
    if delay > 0:
        most = f"{context.webhooks.per_minute:,}"
        return problem(
            request,
            HTTPStatus.TOO_MANY_REQUESTS,
            "too-many-requests",
            f"more than {most} webhooks of one pipeline in a minute: send fewer",
            headers={"Retry-After": str(max(1, round(delay)))},
        )
    started = await receive_webhook(
        context.platform, name, event_id, body, request_id=request_id_of(request)
    )
    answer = Received(execution_id=started.execution_id, again=started.again)
    return Response(
        answer.model_dump_json(), status_code=HTTPStatus.ACCEPTED, media_type="application/json"
    )


@router.get(
    "/{name}/versions", summary="List the versions of a pipeline", operation_id="list_versions"
)
async def get_versions(context: InContext, _: Reader, name: PipelineName) -> Versions:
    """List the versions of a pipeline, the newest first."""
    found = await pipeline_versions(context.platform, name)
    return Versions(items=[VersionSummary.model_validate(_summary(one)) for one in found])


@router.get("/{name}/versions/{version}", summary="Show a version", operation_id="get_version")
async def get_version(
    context: InContext, _: Reader, name: PipelineName, version: Version
) -> VersionDocument:
    """Show a version of a pipeline."""
    return _document(await find_pipeline(context.platform, name, version))


@router.get("/{name}/diff", summary="Compare two versions", operation_id="diff_versions")
async def get_difference(
    context: InContext,
    _: Reader,
    name: PipelineName,
    before: Annotated[str, Query(max_length=64, examples=["1"])],
    after: Annotated[
        str | None, Query(max_length=64, description="the latest unless given")
    ] = None,
) -> Difference:
    """Compare two versions of a pipeline, their pictures aside."""
    first = await find_pipeline(context.platform, name, before)
    second = await find_pipeline(context.platform, name, after)
    names = (f"{name} {first.number}", f"{name} {second.number}")
    lines = diff_definitions(first.document, second.document, names=names)
    return Difference(before=first.sha256, after=second.sha256, lines=lines)


def _summary(stored: StoredVersion) -> dict[str, object]:
    return {
        "number": stored.number,
        "version": stored.sha256,
        "created_by": stored.created_by,
        "created_at": stored.created_at,
        "latest": stored.latest,
    }


def _document(stored: StoredVersion) -> VersionDocument:
    return VersionDocument.model_validate(
        {**_summary(stored), "pipeline": stored.pipeline, "definition": stored.document}
    )
