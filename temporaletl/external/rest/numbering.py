"""Lists that are counted through: by page number, or by offset."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec

from temporaletl.errors import SourceUnavailableError
from temporaletl.external.rest.api import RestApi
from temporaletl.external.rest.narrowing import Pages
from temporaletl.external.rest.records import Answer, Record, Shape, resumed
from temporaletl.strategies import Page, PageRequest

#: A list without a total ends where so many pages in a row are empty.
_EMPTY_AT_THE_END = 3
_MOST_ROUNDS = 3
_MOST_RESTARTS = 4


class _Numbered(msgspec.Struct, frozen=True):
    """A cursor: how many pages are behind us, and of which size."""

    pages: int = 0
    size: int | None = None  # as it was first asked for: another would move every page
    rows: int = 0  # delivered in this round
    total: int | None = None  # as the round's first page told it
    moved: bool = False  # the total changed on the way: rows may have moved between pages
    round: int = 1
    done: bool = False


async def by_number(
    api: RestApi,
    path: str,
    request: PageRequest,
    *,
    records: str,
    page: str = "page",
    size: str = "per_page",
    first: int = 1,
    total: str | None = None,
    more: str | None = None,
    id: str = "id",  # noqa: A002
    params: Mapping[str, Any] | None = None,
) -> AsyncGenerator[Page]:
    """Read pages by number, `page` and `size` being the parameters' names.

    `total` is the place of the number of all records, `more` of what tells whether pages follow.
    A short page is never taken for the last one; without `more` and `total` the end is where
    pages stay empty. Where the total changes on the way, rows may have moved between pages, and
    the list is read again, at most three times. Lists in the order of creation move least. A page
    that cannot be had is read one by one: see `Pages`.

    Raises: as `RestApi.page`.
    """
    place = resumed(_Numbered, request.cursor)
    place = msgspec.structs.replace(place, size=place.size or api.settings.page_size)
    told = [each for each in (total, more) if each is not None]
    shape = Shape(records, id, told, must_have=[more] if more else [])
    pages = Pages(api, path, shape, page=page, size=size, first=first)
    empty = 0
    while not place.done:
        answer, rows, rejects = await pages.read(params or {}, place.pages, place.size or 1)
        empty = 0 if rows else empty + 1
        # Of records that came one by one, nobody says how many there are.
        count = place.total if answer is None else _count(answer, total)
        place = msgspec.structs.replace(
            place,
            pages=place.pages + 1,
            rows=place.rows + len(rows) + len(rejects),
            total=count if place.pages == 0 else place.total,
            moved=place.moved or (place.pages > 0 and count != place.total),
        )
        if more is not None:
            last = answer is not None and not answer.values[more]
        else:
            last = count is not None and place.rows >= count
        if last or empty >= _EMPTY_AT_THE_END:
            if place.moved and place.round < _MOST_ROUNDS:
                place = _Numbered(size=place.size, round=place.round + 1)
                empty = 0
            else:
                place = msgspec.structs.replace(place, done=True)
        if rows:
            yield Page(records=rows, cursor=msgspec.to_builtins(place), rejects=rejects)


class _Counted(msgspec.Struct, frozen=True):
    """A cursor: how many rows are behind us, and the last of them."""

    offset: int = 0
    last: str | None = None
    done: bool = False


async def by_offset(
    api: RestApi,
    path: str,
    request: PageRequest,
    *,
    records: str,
    offset: str = "offset",
    size: str = "limit",
    total: str | None = None,
    id: str = "id",  # noqa: A002
    params: Mapping[str, Any] | None = None,
) -> AsyncGenerator[Page]:
    """Read a list by offset, `offset` and `size` being the parameters' names.

    Each page begins with the last row of the page before: where another row stands there, rows
    were added or removed in front of us, and our place is looked for before it is gone on from.
    Steps by what came, not by what was asked for. `total` is the place of the number of all
    records; without it the end is where nothing new comes.

    Raises:
        SourceUnavailableError: the list changes faster than it can be read.
        ETLError: as `RestApi.page`.
    """
    place = resumed(_Counted, request.cursor)
    count = max(2, api.settings.page_size)  # the last row again, and a new one
    start = max(0, place.offset - 1)
    shape = Shape(records, id, [total] if total else ())
    fruitless = restarts = 0
    while not place.done:
        asked = {**(params or {}), offset: start, size: count}
        answer = await api.page(path, asked, shape)
        assert answer is not None  # noqa: S101 - no refusal is accepted
        rows = answer.records
        known = _position(rows, place.last)
        if known is None and (rows or fruitless >= _EMPTY_AT_THE_END):
            # Not where we left it: further in front now, or gone.
            if start > 0:
                start = max(0, start - count + 1)
                continue
            restarts += 1
            if restarts > _MOST_RESTARTS:
                raise SourceUnavailableError(
                    f"{api.source}: {path} changes faster than it can be read by offset"
                )
            place = _Counted()
            continue
        fresh = rows[(known or 0) :] if place.last is None else rows[(known or 0) + 1 :]
        fruitless = 0 if fresh else fruitless + 1
        if rows:
            place = _Counted(offset=start + len(rows), last=mark_of(rows[-1]))
        start = max(0, place.offset - 1)
        held = _count(answer, total)
        if (rows and held is not None and place.offset >= held) or (
            fruitless >= _EMPTY_AT_THE_END and (rows or place.last is None)
        ):
            place = msgspec.structs.replace(place, done=True)
        if fresh:
            yield Page(records=fresh, cursor=msgspec.to_builtins(place))


def mark_of(record: Record) -> str:
    """What a row is known by on the next page."""
    return record.key if record.key is not None else f"{record.digest():x}"


def _position(rows: list[Record], mark: str | None) -> int | None:
    """Where the row of that mark stands, 0 where none is looked for, None where it is not."""
    if mark is None:
        return 0
    return next((n for n, row in enumerate(rows) if mark_of(row) == mark), None)


def _count(answer: Answer, total: str | None) -> int | None:
    value = answer.values[total] if total else None
    return value if isinstance(value, int) else None
