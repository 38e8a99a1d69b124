"""`/source-connections`: connections listed, created, replaced, deleted, checked and run."""

from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, JsonValue

from temporaletl.control.api.access import Operator, Reader
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
from temporaletl.control.api.routes.sources import Checks
from temporaletl.control.api.routes.sync import Started, start
from temporaletl.control.operations.checks import check_source
from temporaletl.control.operations.connections import (
    ConnectionDetails,
    check_connections,
    find_details,
    list_details,
)
from temporaletl.control.operations.runs import run_request
from temporaletl.control.operations.stored_connections import (
    create_connection,
    delete_connection,
    replace_connection,
)
from temporaletl.errors import ConflictError

router = APIRouter(prefix="/source-connections", tags=["source connections"], responses=RESPONSES)

ConnectionName = Annotated[
    str, Path(max_length=100, description="its name or its id", examples=["acme"])
]
#: Where a secret is: never its value.
Place = Annotated[
    dict[Literal["env", "file"], Annotated[str, Field(max_length=1_000)]],
    Field(min_length=1, max_length=1, examples=[{"env": "ACME_TOKEN"}]),
]
_SETTINGS: dict[str, JsonValue] = {
    "JIRA_URL": "https://acme.atlassian.net",
    "JIRA_EMAIL": "me@example.com",
}
_SECRETS: dict[str, JsonValue] = {"JIRA_API_TOKEN": {"env": "ACME_TOKEN"}}


class ConnectionDeclaration(BaseModel):
    """Settings by the names that the source has for them, and where its secrets are."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"settings": _SETTINGS, "secrets": _SECRETS}]},
    )

    settings: dict[str, JsonValue] = Field(default={}, max_length=200)
    secrets: dict[str, Place] = Field(default={}, max_length=200)


class NewConnection(ConnectionDeclaration):
    """A connection that the warehouse shall have."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"name": "acme", "source": "jira", "settings": _SETTINGS, "secrets": _SECRETS}
            ]
        },
    )

    name: str = Field(max_length=100)
    source: str = Field(max_length=100)


class PutConnection(ConnectionDetails):
    """A connection as it is stored now, and what this process could not check, in words."""

    notes: list[str]


class RunRequest(BaseModel):
    """What to load over the connection: all of its streams or some."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"mode": "incremental", "streams": ["issues"]}]},
    )

    mode: Literal["incremental", "full"] = "incremental"
    streams: list[str] = Field(
        default=[],
        max_length=100,
        validation_alias=AliasChoices("streams", "entities"),
        description="none: all of the source; `entities` is taken for it",
    )
    params: dict[str, JsonValue] = Field(
        default={},
        validation_alias=AliasChoices("params", "parameters"),
        description="the source's parameters of a run; `parameters` is taken for it",
    )
    notify: Flag = Field(default=True, description="notify whom the settings name of its end")
    force: Flag = Field(
        default=False,
        validation_alias=AliasChoices("force", "forced"),
        description="start although a run of the connection goes on",
    )


class DeletedConnection(BaseModel):
    """A connection that was deleted, and the streams whose watermarks went with it."""

    name: str
    source: str
    streams: list[str]


def etag_of(found: ConnectionDetails) -> str:
    """The ETag of a connection: of its row's version, or of what the file says."""
    if found.connection_id is None or found.fault is not None:
        return digest_of(ConnectionDetails(**dict(found)))
    return f'"{found.connection_id.hex}-{found.version}"'


@router.get(
    "",
    summary="List connections",
    operation_id="list_source_connections",
    response_model=PageOf[ConnectionDetails],
    responses=NOT_MODIFIED,
)
async def get_connections(
    request: Request,
    response: Response,
    context: InContext,
    _: Reader,
    limit: Limit = 50,
    after: After = None,
    source: Annotated[str | None, Query(max_length=100, examples=["jira"])] = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """List the connections of the warehouse and of the file, by name; no secret is read."""
    del if_none_match  # `tagged` reads it
    key = decode_cursor(after, tuple[str])
    found = [
        one
        for one in await list_details(context.platform)
        if source in (None, one.source) and (key is None or one.name > key[0])
    ]
    items, following = page(
        request, response, found, limit=limit, cursor_of=lambda one: encode_cursor(one.name)
    )
    listed = PageOf[ConnectionDetails](items=items, next=following)
    return tagged(request, listed, digest_of(listed), headers=response.headers)


@router.post(
    "",
    summary="Create a connection",
    operation_id="create_source_connection",
    status_code=HTTPStatus.CREATED,
    response_model=PutConnection,
)
async def post_connection(
    request: Request, context: InContext, caller: Operator, wanted: NewConnection
) -> Response:
    """Store a connection, once its source takes the settings; runs planned from now on find it."""
    made = await create_connection(
        context.platform,
        wanted.name,
        wanted.source,
        wanted.settings,
        _places(wanted.secrets),
        author=caller.author(),
    )
    found = await find_details(context.platform, made.connection.name)
    shown = PutConnection(**dict(found), notes=list(made.notes))
    return tagged(request, shown, etag_of(found), status=HTTPStatus.CREATED)


@router.get(
    "/{name}",
    summary="Show a connection",
    operation_id="get_source_connection",
    response_model=ConnectionDetails,
    responses=NOT_MODIFIED,
)
async def get_connection(
    request: Request,
    context: InContext,
    _: Reader,
    name: ConnectionName,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Show what it declares: settings as they are, and the places of secrets."""
    del if_none_match
    found = await find_details(context.platform, name)
    return tagged(request, found, etag_of(found))


@router.put(
    "/{name}",
    summary="Replace a connection",
    operation_id="replace_source_connection",
    response_model=PutConnection,
)
async def put_connection(
    request: Request,
    context: InContext,
    caller: Operator,
    name: ConnectionName,
    wanted: ConnectionDeclaration,
    if_match: IfMatch = None,
) -> Response:
    """Replace all that it declares; name and source stay. A run that goes on follows."""
    seen = await _seen(context, name, if_match)
    put = await replace_connection(
        context.platform,
        _id_of(seen),
        wanted.settings,
        _places(wanted.secrets),
        expected_version=seen.version,
        author=caller.author(),
    )
    found = await find_details(context.platform, name)
    shown = PutConnection(**dict(found), notes=list(put.notes))
    return tagged(request, shown, etag_of(found))


@router.delete("/{name}", summary="Delete a connection", operation_id="delete_source_connection")
async def delete(
    context: InContext,
    caller: Operator,
    name: ConnectionName,
    if_match: IfMatch = None,
    *,
    force: Annotated[
        bool, Query(description="also one that is scheduled or being loaded: its runs then fail")
    ] = False,
) -> DeletedConnection:
    """Delete it with its watermarks and memberships; rows and rejects stay."""
    seen = await _seen(context, name, if_match)
    gone = await delete_connection(
        context.platform,
        _id_of(seen),
        expected_version=seen.version,
        force=force,
        author=caller.author(),
    )
    one = gone.connection
    return DeletedConnection(name=one.name, source=one.source, streams=list(gone.streams))


@router.post("/{name}/check", summary="Check a connection", operation_id="check_source_connection")
async def post_check(
    context: InContext,
    _: Operator,
    name: ConnectionName,
    *,
    settings_only: Annotated[
        bool, Query(description="only its settings, and the account that the source reports")
    ] = False,
) -> Checks:
    """Try one by one what a run over it needs; nothing is loaded, and nothing is written."""
    found = await find_details(context.platform, name)
    if settings_only:
        [checked] = await check_connections(context.platform, found.name)
        return Checks(good=checked.good, checks=list(checked.checks))
    checks = await check_source(context.platform, _source_of(found), connection=found.name)
    return Checks(good=all(check.verdict != "wrong" for check in checks), checks=checks)


@router.post(
    "/{name}/run",
    summary="Start a run of a connection",
    operation_id="run_source_connection",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Started,
)
async def post_run(
    request: Request,
    context: InContext,
    caller: Operator,
    name: ConnectionName,
    wanted: RunRequest,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Load what it leads to. 409 names the run of it that goes on, unless `force`."""

    async def started() -> Started:
        found = await find_details(context.platform, name)
        asked = run_request(
            _source_of(found),
            connection=found.name,
            mode=wanted.mode,
            streams=wanted.streams,
            params=wanted.params,
            notify=wanted.notify,
        )
        return await start(context, caller, asked, "connection.run", force=wanted.force)

    return await once(
        context, caller, request, idempotency_key, started, status=HTTPStatus.ACCEPTED
    )


async def _seen(context: Context, name: str, if_match: str | None) -> ConnectionDetails:
    """The connection as it is, where it may be changed and is what the client has read."""
    found = await find_details(context.platform, name)
    found.check_writable()
    check_match(if_match, etag_of(found), found.whose)
    return found


def _id_of(found: ConnectionDetails) -> UUID:
    assert found.connection_id is not None  # noqa: S101 - what can be written has one
    return found.connection_id


def _source_of(found: ConnectionDetails) -> str:
    if found.source is None:
        raise ConflictError(f"{found.whose} cannot be used: {found.fault}")
    return found.source


def _places(secrets: dict[str, Place]) -> dict[str, dict[str, str]]:
    return {
        name: {str(kind): where for kind, where in place.items()} for name, place in secrets.items()
    }
