"""Keyset paging: a page of items, and an opaque cursor for the next one."""

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
from fastapi import Query, Request, Response
from pydantic import BaseModel, Field

from temporaletl.errors import ConfigurationError

#: The most items of one page.
MOST = 200

Limit = Annotated[int, Query(ge=1, le=MOST, description="items of one page")]
After = Annotated[
    str | None,
    Query(max_length=500, description="the `next` of the page before; none for the first page"),
]


class PageOf[T](BaseModel):
    """A page of items; `next` leads on, and is null on the last page."""

    items: list[T]
    next: str | None = Field(None, examples=["WyIyMDI2LTExLTI3VDE4OjAwOjAwWiIsIngiXQ"])


def encode_cursor(*values: str | int) -> str:
    """Return the cursor behind an item with these values of the list's order."""
    return base64.urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def decode_cursor[T](text: str | None, kind: type[T]) -> T | None:
    """Return the values of a cursor; None for none.

    Raises:
        ConfigurationError: it is no cursor of such a list.
    """
    if text is None:
        return None
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return msgspec.json.decode(raw, type=kind)
    except (binascii.Error, msgspec.DecodeError, ValueError):
        raise ConfigurationError(
            "after: is no cursor of this list: take the `next` of its last answer"
        ) from None


def page[T](
    request: Request,
    response: Response,
    found: Sequence[T],
    *,
    limit: int,
    cursor_of: Callable[[T], str],
) -> tuple[list[T], str | None]:
    """Cut what was read, one item more than a page has, to a page; link to the next one."""
    items = list(found[:limit])
    following = cursor_of(items[-1]) if len(found) > limit else None
    link(request, response, following)
    return items, following


def link(request: Request, response: Response, following: str | None) -> None:
    """Name the next page in a header, where there is one."""
    if following is not None:
        url = request.url.include_query_params(after=following)
        response.headers["Link"] = f'<{url.path}?{url.query}>; rel="next"'
