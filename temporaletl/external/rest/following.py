"""Pagination by continuation token, or by link to the next page."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, unquote_plus, urljoin, urlsplit

import msgspec
from pydantic import JsonValue

from temporaletl.errors import SourceProtocolError, SourceUnavailableError
from temporaletl.external.headway import Headway
from temporaletl.external.rest.api import RestApi
from temporaletl.external.rest.records import Answer, Shape, marks_of, resumed
from temporaletl.extraction import Page, PageRequest
from temporaletl.query import Query
from temporaletl.secrets import redacted

#: How a token that has expired is refused.
_EXPIRED = frozenset({400, 404, 410})
_MOST_RESTARTS = 4
#: A shorter token holds no credential, whatever it looks like.
_SHORTEST_CREDENTIAL = 8


class _Cursor(msgspec.Struct, frozen=True):
    """A cursor: what to follow, None at the beginning; `done` behind the last page."""

    follow: str | None = None
    done: bool = False
    page: int | None = None  # what the page before it is known by
    stale: int = 0  # how many pages in a row held only known records


async def by_token(
    api: RestApi,
    path: str,
    request: PageRequest[Query],
    *,
    records: str,
    next: str,  # noqa: A002 - what APIs call it
    token: str,
    id: str = "id",  # noqa: A002
    size: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> AsyncGenerator[Page]:
    """Follow a token: found at `next` in an answer, sent as the parameter `token`.

    `records` is the dotted path of the records, `id` that of a record's key for people, `size` the
    parameter of the page size. The list ends where the token is missing, null, empty or false. A
    token that has expired begins the list anew; one that is repeated is requested again, and then
    given up.

    Raises:
        SourceUnavailableError: the tokens lead in circles, or on and on without a record that is
            new by its id, or all expire.
        SourceProtocolError: what should be a token is none, or holds a credential, which no
            cursor may keep.
        ETLError: as `RestApi.page`.
    """
    first_query = _params(api, params, size)
    pagination = _Pagination(api, Shape(records, id, [next]), request.cursor)
    while not pagination.cursor.done:
        follow = pagination.cursor.follow
        query = first_query if follow is None else {**first_query, token: follow}
        answer = await pagination.fetch(path, query)
        if answer is None:
            continue
        page = pagination.advance(
            answer, _token(answer.values[next], f"{api.source}: {path}", next)
        )
        if page is not None:
            yield page


async def by_link(
    api: RestApi,
    path: str,
    request: PageRequest[Query],
    *,
    records: str,
    next: str | None = None,  # noqa: A002
    id: str = "id",  # noqa: A002
    size: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> AsyncGenerator[Page]:
    """Follow a link: found at `next` in an answer, or without it in the header `Link`.

    Of a link only path and query are followed, so that no credential leaves for another host,
    and so that an API behind a proxy may name another host. A relative link goes
    on from the address of the page that gave it. A parameter of it that repeats a credential is
    left out, lest a cursor keeps it: the API's settings send theirs with every request, and such
    a one of `params` is sent again.

    Raises: as `by_token`.
    """
    first_query = _params(api, params, size)
    pagination = _Pagination(api, Shape(records, id, [next] if next else ()), request.cursor)
    while not pagination.cursor.done:
        follow = pagination.cursor.follow
        answer = await (
            pagination.fetch(path, first_query)
            if follow is None
            else pagination.fetch(follow, _credentials(first_query, follow))
        )
        if answer is None:
            continue
        link = answer.values[next] if next else answer.links.get("next", {}).get("url")
        page = pagination.advance(answer, _target(link, answer.url, f"{api.source}: {path}"))
        if page is not None:
            yield page


def _params(api: RestApi, params: Mapping[str, Any] | None, size: str | None) -> dict[str, Any]:
    return {**(params or {}), **({} if size is None else {size: api.settings.page_size})}


def _token(found: Any, what: str, path: str) -> str | None:
    if found is None or found is False or found == "":
        return None
    if found is True or not isinstance(found, str | int | float):
        raise SourceProtocolError(f"{what} gave a {path!r} that is no token")
    token = str(found)
    if len(token) >= _SHORTEST_CREDENTIAL and _is_secret(token):
        raise SourceProtocolError(
            f"{what} gave a {path!r} that holds a credential, which no cursor may keep; "
            "where it is a link, read the list by_link"
        )
    return token


def _target(link: Any, url: str, what: str) -> str | None:
    """The path and query that a link leads to from an address, without credentials."""
    if not link:
        return None
    if not isinstance(link, str):
        raise SourceProtocolError(f"{what} gave a link that is none")
    try:
        parts = urlsplit(urljoin(url, link))
    except ValueError:
        raise SourceProtocolError(f"{what} gave a link that cannot be read") from None
    query = "&".join(
        parameter
        for parameter in parts.query.split("&")
        if not any(map(_is_secret, (parameter, unquote(parameter), unquote_plus(parameter))))
    )
    return f"{parts.path or '/'}?{query}" if query else parts.path or "/"


def _credentials(params: Mapping[str, Any], follow: str) -> dict[str, Any]:
    """The parameters that were left out of what is followed, as they were first sent."""
    present = {name for name, _ in parse_qsl(urlsplit(follow).query, keep_blank_values=True)}
    return {
        name: value
        for name, value in params.items()
        if name not in present and _is_secret(str(value))
    }


def _is_secret(text: str) -> bool:
    return redacted(text) != text


class _Pagination:
    """The state of a pagination: its cursor, and whether the pages still lead on."""

    def __init__(self, api: RestApi, shape: Shape, cursor: JsonValue) -> None:
        self.cursor = resumed(_Cursor, cursor)
        self._api = api
        self._shape = shape
        self._headway = Headway(f"{api.source}: the list", begin=self.cursor.follow)
        self._headway.resume(self.cursor.page, self.cursor.stale)
        self._restarts = 0

    async def fetch(self, path: str, params: Mapping[str, Any] | None) -> Answer | None:
        """Fetch a page; None where the token or link has expired: the list begins anew."""
        following = self.cursor.follow is not None
        accept = _EXPIRED if following else frozenset[int]()
        answer = await self._api.page(path, params, self._shape, accept=accept)
        if answer is not None:
            return answer
        self._restarts += 1
        if self._restarts > _MOST_RESTARTS:
            raise SourceUnavailableError(f"{self._api.source}: {path} keeps refusing its own pages")
        self.cursor = _Cursor()
        self._headway.begin_anew()
        return None

    def advance(self, answer: Answer, follow: str | None) -> Page | None:
        """Advance behind a page, and return it; None for one without records."""
        rows = answer.records
        if follow is None:
            self.cursor = _Cursor(done=True)
        elif self._headway.leads_on(follow, rows=len(rows)):
            self._headway.brings_news(marks_of(rows))
            self.cursor = _Cursor(follow, page=self._headway.page, stale=self._headway.stale)
        cursor: JsonValue = msgspec.to_builtins(self.cursor)
        return Page(records=rows, cursor=cursor) if rows else None
