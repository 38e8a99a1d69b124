"""`/collections`: named sets of connections: listed, changed, and loaded together."""

from functools import partial
from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Request, Response
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from temporaletl.bound_connection import DEFAULT
from temporaletl.control.api.access import Caller, Operator, Reader
from temporaletl.control.api.context import Context, InContext
from temporaletl.control.api.etags import (
    NOT_MODIFIED,
    IfMatch,
    IfNoneMatch,
    check_match,
    digest_of,
    tagged,
)
from temporaletl.control.api.flags import Flag
from temporaletl.control.api.idempotency import IdempotencyKey, once
from temporaletl.control.api.paging import (
    After,
    Limit,
    PageOf,
    decode_cursor,
    encode_cursor,
    page,
)
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.operations.collections import (
    create_collection,
    delete_collection,
    get_collection,
    list_collections,
    replace_collection,
)
from temporaletl.control.operations.refreshes import Outcome, refresh_collection
from temporaletl.errors import NotFoundError
from temporaletl.names import parse_label
from temporaletl.warehouse.collections import Collection, Member
from temporaletl.warehouse.runs import Engine

router = APIRouter(prefix="/collections", tags=["collections"], responses=RESPONSES)

CollectionName = Annotated[
    str, Path(max_length=100, description="its name or its id", examples=["all sites"])
]
MemberName = Annotated[
    str,
    Path(
        max_length=200,
        description="`source@connection`; the source alone is its connection `default`",
        examples=["jira@acme"],
    ),
]


class MemberDeclaration(BaseModel):
    """A connection of a source."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(max_length=100)
    connection: str = Field(DEFAULT, max_length=100)


class CollectionDeclaration(BaseModel):
    """A collection's name and members; one that is named twice counts once."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "all sites",
                    "members": [{"source": "jira"}, {"source": "jira", "connection": "acme"}],
                }
            ]
        },
    )

    name: str = Field(max_length=200)
    members: list[MemberDeclaration] = Field(default=[], max_length=1_000)

    def as_members(self) -> list[Member]:
        return [Member(source=one.source, connection=one.connection) for one in self.members]


class RefreshRequest(BaseModel):
    """How the members are loaded."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"mode": "incremental"}]}
    )

    mode: Literal["incremental", "full"] = "incremental"
    notify: Flag = Field(default=True, description="notify whom the settings name of each end")
    force: Flag = Field(
        default=False,
        validation_alias=AliasChoices("force", "forced"),
        description="start also those of which a run goes on",
    )


class RefreshedMember(BaseModel):
    """What came of starting a member's run."""

    model_config = ConfigDict(
        populate_by_name=True,
        json_schema_extra={
            "examples": [
                {
                    "source": "jira",
                    "connection": "acme",
                    "outcome": "started",
                    "workflowId": "etl-jira@acme-incremental-20261127T180000.000000Z",
                    "runId": "0199c1f5-6a0e-7c55-8a43-5d3f3c1b9e10",
                    "engine": "temporal",
                    "reason": None,
                }
            ]
        },
    )

    source: str
    connection: str
    outcome: Outcome = Field(
        description="`running`: one goes on already, and none was started; `refused`: see `reason`"
    )
    workflow_id: str | None = Field(alias="workflowId")
    run_id: str | None = Field(alias="runId")
    engine: Engine | None
    reason: str | None


class Refreshed(BaseModel):
    """The runs of a collection's members, and how many there are of each outcome."""

    collection: str
    started: int
    running: int
    refused: int
    members: list[RefreshedMember]


def etag_of(collection: Collection) -> str:
    """The ETag of a collection's version."""
    return f'"{collection.collection_id.hex}-{collection.version}"'


def _key(name: str) -> str | UUID:
    """A collection's id where the text is one, else its name."""
    try:
        return UUID(name)
    except ValueError:
        return name


@router.get(
    "",
    summary="List collections",
    operation_id="list_collections",
    response_model=PageOf[Collection],
    responses=NOT_MODIFIED,
)
async def get_collections(
    request: Request,
    response: Response,
    context: InContext,
    _: Reader,
    limit: Limit = 50,
    after: After = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """List the collections with their members, by name."""
    del if_none_match  # `tagged` reads it
    key = decode_cursor(after, tuple[str])
    known = sorted(await list_collections(context.platform), key=lambda one: one.name)
    found = [one for one in known if key is None or one.name > key[0]]
    items, following = page(
        request, response, found, limit=limit, cursor_of=lambda one: encode_cursor(one.name)
    )
    listed = PageOf[Collection](items=items, next=following)
    return tagged(request, listed, digest_of(listed), headers=response.headers)


@router.post(
    "",
    summary="Create a collection",
    operation_id="create_collection",
    status_code=HTTPStatus.CREATED,
    response_model=Collection,
)
async def post_collection(
    request: Request, context: InContext, caller: Operator, wanted: CollectionDeclaration
) -> Response:
    """Create a collection of connections that there are, of any origin."""
    made = await create_collection(
        context.platform, wanted.name, wanted.as_members(), author=caller.author()
    )
    return tagged(request, made, etag_of(made), status=HTTPStatus.CREATED)


@router.get(
    "/{name}",
    summary="Show a collection",
    operation_id="get_collection",
    response_model=Collection,
    responses=NOT_MODIFIED,
)
async def get_one(
    request: Request,
    context: InContext,
    _: Reader,
    name: CollectionName,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Show a collection and its members."""
    del if_none_match
    found = await get_collection(context.platform, _key(name))
    return tagged(request, found, etag_of(found))


@router.put(
    "/{name}",
    summary="Replace a collection",
    operation_id="replace_collection",
    response_model=Collection,
)
async def put_collection(
    request: Request,
    context: InContext,
    caller: Operator,
    name: CollectionName,
    wanted: CollectionDeclaration,
    if_match: IfMatch = None,
) -> Response:
    """Replace its name and its members."""
    seen = await _seen(context, name, if_match)
    return await _replace(request, context, caller, seen, wanted.name, wanted.as_members())


@router.delete("/{name}", summary="Delete a collection", operation_id="delete_collection")
async def delete(
    context: InContext, caller: Operator, name: CollectionName, if_match: IfMatch = None
) -> Collection:
    """Delete a collection; its connections stay."""
    seen = await _seen(context, name, if_match)
    return await delete_collection(
        context.platform,
        seen.collection_id,
        expected_version=seen.version,
        author=caller.author(),
    )


@router.put(
    "/{name}/members/{member}",
    summary="Add a member to a collection",
    operation_id="add_member",
    response_model=Collection,
)
async def put_member(
    request: Request,
    context: InContext,
    caller: Operator,
    name: CollectionName,
    member: MemberName,
    if_match: IfMatch = None,
) -> Response:
    """Add a connection; one that is a member already stays one."""
    seen = await _seen(context, name, if_match)
    members = [*seen.members, _member(member)]
    return await _replace(request, context, caller, seen, seen.name, members)


@router.delete(
    "/{name}/members/{member}",
    summary="Take a member from a collection",
    operation_id="remove_member",
    response_model=Collection,
)
async def delete_member(
    request: Request,
    context: InContext,
    caller: Operator,
    name: CollectionName,
    member: MemberName,
    if_match: IfMatch = None,
) -> Response:
    """Take a connection from a collection; the connection stays."""
    seen = await _seen(context, name, if_match)
    left = [one for one in seen.members if one != _member(member)]
    if len(left) == len(seen.members):
        raise NotFoundError(f"{_member(member)} is no member of collection {seen.name!r}")
    return await _replace(request, context, caller, seen, seen.name, left)


@router.post(
    "/{name}/refresh_all",
    summary="Start a run of every member",
    operation_id="refresh_collection",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Refreshed,
)
async def post_refresh(
    request: Request,
    context: InContext,
    caller: Operator,
    name: CollectionName,
    wanted: RefreshRequest | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run of each member; what is wrong with one is its result, and stops no other."""
    refresh = partial(_refresh, context, caller, name, wanted or RefreshRequest())
    return await once(
        context, caller, request, idempotency_key, refresh, status=HTTPStatus.ACCEPTED
    )


async def _refresh(
    context: Context, caller: Caller, name: str, wanted: RefreshRequest
) -> Refreshed:
    done = await refresh_collection(
        context.platform,
        _key(name),
        mode=wanted.mode,
        notify=wanted.notify,
        force=wanted.force,
        author=caller.author(),
    )
    context.forget()
    return Refreshed(
        collection=done.collection.name,
        started=done.counts["started"],
        running=done.counts["running"],
        refused=done.counts["refused"],
        members=[RefreshedMember(**dict(one)) for one in done.members],
    )


async def _seen(context: Context, name: str, if_match: str | None) -> Collection:
    """The collection as it is, where that is what the client has read."""
    found = await get_collection(context.platform, _key(name))
    check_match(if_match, etag_of(found), f"collection {found.name!r}")
    return found


async def _replace(
    request: Request,
    context: Context,
    caller: Caller,
    seen: Collection,
    name: str,
    members: list[Member],
) -> Response:
    made = await replace_collection(
        context.platform,
        seen.collection_id,
        name,
        members,
        expected_version=seen.version,
        author=caller.author(),
    )
    return tagged(request, made, etag_of(made))


def _member(text: str) -> Member:
    source, connection = parse_label(text)
    return Member(source=source, connection=connection)
