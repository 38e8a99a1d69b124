"""Problems (RFC 9457): errors of the platform as answers that say what to do."""

import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from temporaletl.control.api.streams import TooManyStreamsError
from temporaletl.control.error_codes import ERROR_CODES
from temporaletl.errors import ETLError
from temporaletl.secrets import redacted
from temporaletl.telemetry.logs import get_logger, unexpected
from temporaletl.validation import without_prefix

log = get_logger("temporaletl.api")

MEDIA_TYPE = "application/problem+json"
_RETRY_AFTER_SECONDS = 5


class Fault(BaseModel):
    """One fault of a request: where it stands, and what is wrong."""

    location: str = Field(examples=["body.source"])
    message: str = Field(examples=["there is no source 'jria'; the sources are jira, trino"])


class Problem(BaseModel):
    """An error: what happened, to what, and what to do about it."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "about:blank",
                    "title": "Not Found",
                    "status": 404,
                    "detail": "no run, batch or job is called 'etl-jira-full-never'",
                    "code": "not-found",
                    "request_id": "0b0e7d9a54f84a2a9a3c3c0cf7a1c2de",
                }
            ]
        }
    )

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    #: The kind of the error, for programs.
    code: str
    request_id: str
    faults: list[Fault] = Field(default=[])
    #: The run that goes on already, where that is what refuses another.
    workflow_id: str | None = None


#: What any operation may answer with; the schema of all of it is one.
RESPONSES: dict[int | str, dict[str, Any]] = {
    status: {
        "description": HTTPStatus(status).phrase,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for status in (400, 401, 403, 404, 408, 409, 412, 413, 415, 422, 428, 429, 500, 502, 503)
}


class UnauthenticatedError(ETLError):
    """A request without a token that holds; the message says how to get one."""


class ForbiddenError(ETLError):
    """A request that its token's scope, or its origin, does not allow."""


class PreconditionRequiredError(ETLError):
    """A change of something without saying as what it was read."""


def request_id_of(request: Request) -> str:
    """The id of a request, made once: it is in its answer, its log lines and its audit rows."""
    found = getattr(request.state, "request_id", None)
    if found is None:
        found = request.state.request_id = uuid.uuid4().hex
    return str(found)


def install(app: FastAPI) -> None:
    """Have the errors of an application answered as problems; the guard has all others."""
    app.add_exception_handler(ETLError, _answer_error)
    app.add_exception_handler(RequestValidationError, _answer_invalid)
    app.add_exception_handler(HTTPException, _answer_http)


def problem(
    request: Request,
    status: HTTPStatus | int,
    code: str,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    faults: list[Fault] | None = None,
    workflow_id: str | None = None,
) -> Response:
    """Return the answer for a problem. No secret that the process knows is in it."""
    known = HTTPStatus(status)
    body = Problem(
        title=known.phrase,
        status=known.value,
        detail=redacted(detail),
        code=code,
        request_id=request_id_of(request),
        # The name of a field may be anything that was sent.
        faults=[
            Fault(location=redacted(one.location), message=redacted(one.message))
            for one in faults or []
        ],
        workflow_id=workflow_id,
    )
    return Response(
        body.model_dump_json(exclude_defaults=False, exclude_none=True),
        status_code=known.value,
        media_type=MEDIA_TYPE,
        headers=dict(headers or {}),
    )


def status_of(error: ETLError) -> tuple[HTTPStatus, str]:
    """The status and the code of an error."""
    if isinstance(error, UnauthenticatedError):
        return HTTPStatus.UNAUTHORIZED, "unauthenticated"
    if isinstance(error, ForbiddenError):
        return HTTPStatus.FORBIDDEN, "forbidden"
    if isinstance(error, PreconditionRequiredError):
        return HTTPStatus.PRECONDITION_REQUIRED, "precondition-required"
    if isinstance(error, TooManyStreamsError):
        known = HTTPStatus.TOO_MANY_REQUESTS if error.of_token else HTTPStatus.SERVICE_UNAVAILABLE
        return known, "too-many-streams"
    return next(
        ((status, code) for kind, status, code in ERROR_CODES if isinstance(error, kind)),
        (HTTPStatus.INTERNAL_SERVER_ERROR, "failed"),
    )


async def _answer_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ETLError)  # noqa: S101 - what it is registered for
    status, code = status_of(error)
    headers: dict[str, str] = {}
    if status in (HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.TOO_MANY_REQUESTS):
        delay = getattr(error, "delay", None)
        seconds = _RETRY_AFTER_SECONDS if delay is None else max(1, round(delay.total_seconds()))
        headers["Retry-After"] = str(seconds)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning(
            "operation_failed", request_id=request_id_of(request), error=redacted(str(error))
        )
    workflow_id = getattr(error, "workflow_id", None)
    return problem(request, status, code, str(error), headers=headers, workflow_id=workflow_id)


async def _answer_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    faults = [
        Fault(location=".".join(map(str, fault["loc"])), message=without_prefix(str(fault["msg"])))
        for fault in error.errors()
    ]
    detail = "; ".join(f"{fault.location}: {fault.message}" for fault in faults)
    return problem(request, HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", detail, faults=faults)


async def _answer_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101
    status = HTTPStatus(error.status_code)
    headers, detail = dict(error.headers or {}), str(error.detail)
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = request.app.state.methods_of(request.url.path)
        headers["Allow"] = ", ".join(sorted(allowed)) or headers.get("allow", "GET")
        detail = f"{request.method} is not what {request.url.path} takes: {headers['Allow']}"
    if status == HTTPStatus.NOT_FOUND:
        detail = f"nothing is at {request.url.path}: /docs shows what there is"
    code = status.phrase.lower().replace(" ", "-")
    return problem(request, status, code, detail, headers=headers)


async def answer_unexpected(request: Request, error: Exception) -> Response:
    """Answer what nobody expected: the log has it, the answer says where it is found."""
    request_id = request_id_of(request)
    # Its text may hold anything: it is for the log alone, which takes secrets out.
    log.warning("request_failed", request_id=request_id, error=unexpected(error))
    detail = f"an error in the platform itself; the log has it under request id {request_id}"
    return problem(request, HTTPStatus.INTERNAL_SERVER_ERROR, "internal", detail)
