"""Lists that say where they go on: by a token, or by a link."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec
from pydantic import JsonValue

from temporaletl.errors import SourceUnavailableError
from temporaletl.external.headway import Headway
from temporaletl.external.rest.api import RestApi
from temporaletl.external.rest.records import Answer, Shape, resumed
from temporaletl.strategies import Page, PageRequest

#: How a token that has expired is refused.
_EXPIRED = frozenset({400, 404, 410})
_MOST_RESTARTS = 4


class _Place(msgspec.Struct, frozen=True):
    """A cursor: what to follow, None at the beginning; `done` behind the last page."""

    follow: str | None = None
    done: bool = False


async def by_token(
    api: RestApi,
    path: str,
    request: PageRequest,
    *,
    records: str,
    next: str,  # noqa: A002 - what APIs call it
    token: str,
    id: str = "id",  # noqa: A002
    size: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> AsyncGenerator[Page]:
    """Follow a token: found at `next` in an answer, sent as the parameter `token`.

    `records` is the place of the records, `id` what a person knows one by, `size` the parameter
    of the page size. A token that has expired begins the list anew; one that is repeated is asked
    again, and then given up.

    Raises:
        SourceUnavailableError: the tokens lead in circles, or on and on without a record, or all
            expire.
        ETLError: as `RestApi.page`.
    """
    asked = _params(api, params, size)
    walk = _Walk(api, Shape(records, id, [next]), request.cursor)
    while not walk.place.done:
        follow = walk.place.follow
        query = asked if follow is None else {**asked, token: follow}
        answer = await walk.ask(path, query)
        if answer is None:
            continue
        found = answer.values[next]
        page = walk.step(answer, None if found in (None, "") else str(found))
        if page is not None:
            yield page


async def by_link(
    api: RestApi,
    path: str,
    request: PageRequest,
    *,
    records: str,
    next: str | None = None,  # noqa: A002
    id: str = "id",  # noqa: A002
    size: str | None = None,
    params: Mapping[str, Any] | None = None,
) -> AsyncGenerator[Page]:
    """Follow a link: found at `next` in an answer, or without it in the header `Link`.

    Of a link only path and query are followed, so that no credential leaves for another host,
    and so that an API behind a proxy may tell the host it takes itself for.

    Raises: as `by_token`.
    """
    asked = _params(api, params, size)
    walk = _Walk(api, Shape(records, id, [next] if next else ()), request.cursor)
    while not walk.place.done:
        follow = walk.place.follow
        answer = await (walk.ask(path, asked) if follow is None else walk.ask(follow, None))
        if answer is None:
            continue
        link = answer.values[next] if next else answer.links.get("next", {}).get("url")
        page = walk.step(answer, _path_of(link) if link else None)
        if page is not None:
            yield page


def _params(api: RestApi, params: Mapping[str, Any] | None, size: str | None) -> dict[str, Any]:
    return {**(params or {}), **({} if size is None else {size: api.settings.page_size})}


def _path_of(link: str) -> str:
    parts = urlsplit(str(link))
    return f"{parts.path}?{parts.query}" if parts.query else parts.path


class _Walk:
    """Where a list is read, and whether it still leads anywhere."""

    def __init__(self, api: RestApi, shape: Shape, cursor: JsonValue) -> None:
        self.place = resumed(_Place, cursor)
        self._api = api
        self._shape = shape
        self._headway = Headway(f"{api.source}: the list", begin=self.place.follow)
        self._restarts = 0

    async def ask(self, path: str, params: Mapping[str, Any] | None) -> Answer | None:
        """Ask for a page; None where what was followed has expired: the list begins anew."""
        following = self.place.follow is not None
        accept = _EXPIRED if following else frozenset[int]()
        answer = await self._api.page(path, params, self._shape, accept=accept)
        if answer is not None:
            return answer
        self._restarts += 1
        if self._restarts > _MOST_RESTARTS:
            raise SourceUnavailableError(f"{self._api.source}: {path} keeps refusing its own pages")
        self.place = _Place()
        self._headway.begin_anew()
        return None

    def step(self, answer: Answer, follow: str | None) -> Page | None:
        """Move on; return the records there were."""
        rows = answer.records
        if follow is None:
            self.place = _Place(done=True)
        elif self._headway.leads_on(follow, rows=len(rows)):
            self.place = _Place(follow)
        cursor: JsonValue = msgspec.to_builtins(self.place)
        return Page(records=rows, cursor=cursor) if rows else None
