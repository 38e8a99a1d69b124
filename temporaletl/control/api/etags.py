"""ETags: what was read is replaced or deleted only as it was read (RFC 9110, section 13)."""

import hashlib
import re
from collections.abc import Mapping
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Header, Request, Response
from pydantic import BaseModel

from temporaletl.control.api.problems import PreconditionRequiredError
from temporaletl.warehouse.source_connections import VersionConflictError

IfMatch = Annotated[
    str | None,
    Header(
        max_length=500,
        description="the `ETag` under which it was read, or `*` for whatever is there; without "
        "one, 428",
        examples=['"9f2b7c1e5d3a4f60a1b2c3d4e5f60718-3"', "*"],
    ),
]
IfNoneMatch = Annotated[
    str | None,
    Header(max_length=500, description="the `ETag` of an answer that the client has: 304"),
]
#: A tag, of RFC 9110's characters; a weak one is no proof of what was read.
_TAG = re.compile(r'(W/)?("[\x21\x23-\x7e\x80-\xff]*")')

#: For the document: what conditional reads answer besides the resource.
NOT_MODIFIED: dict[int | str, dict[str, Any]] = {304: {"description": "Not Modified"}}


def digest_of(model: BaseModel) -> str:
    """The ETag of what has no version: a digest of it."""
    return f'"{hashlib.sha256(model.model_dump_json().encode()).hexdigest()[:32]}"'


def check_match(if_match: str | None, etag: str, what: str) -> None:
    """Check that what is there is what the client has read.

    Raises:
        PreconditionRequiredError: the client does not say what it has read.
        VersionConflictError: it has read something else.
    """
    if if_match is None:
        raise PreconditionRequiredError(
            f"{what} is changed only as it was read: send its ETag as If-Match"
        )
    strong = [tag for weak, tag in _TAG.findall(if_match) if not weak]
    if if_match.strip() != "*" and etag not in strong:
        raise VersionConflictError(
            f"{what} is not what was read under {if_match}: read it again, it was changed meanwhile"
        )


def tagged(
    request: Request,
    model: BaseModel,
    etag: str,
    *,
    status: HTTPStatus = HTTPStatus.OK,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Answer with a resource and its ETag; 304 where the client has just that."""
    headers = {**(headers or {}), "ETag": etag, "Cache-Control": "private, no-cache"}
    if request.method in ("GET", "HEAD"):
        known = request.headers.get("if-none-match", "")
        if known.strip() == "*" or etag in (tag for _, tag in _TAG.findall(known)):
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    body = model.model_dump_json(by_alias=True)
    return Response(body, status_code=status, media_type="application/json", headers=headers)
