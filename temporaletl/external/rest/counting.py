"""Pagination by offset."""

from collections.abc import AsyncGenerator, Mapping
from typing import Any

import msgspec

from temporaletl.errors import SourceUnavailableError
from temporaletl.external.rest.api import RestApi
from temporaletl.external.rest.records import Record, Shape, count_in, resumed
from temporaletl.extraction import Page, PageRequest
from temporaletl.query import Query

#: A list ends where so many pages in a row bring nothing new.
_IDLE_AT_THE_END = 3
_MOST_RESTARTS = 4


class _Counted(msgspec.Struct, frozen=True):
    """A cursor: how many rows are delivered, and the last of them."""

    offset: int = 0
    last: str | None = None
    done: bool = False


async def by_offset(
    api: RestApi,
    path: str,
    request: PageRequest[Query],
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
    were added or removed before it, and its new offset is looked for first.
    Steps by what came, not by what was requested. `total` is the dotted path of the number of all
    records; without it the end is where nothing new comes.

    Raises:
        SourceUnavailableError: the list changes faster than it can be read, ends before its total
            is reached, or is given from its beginning whatever the offset.
        ETLError: as `RestApi.page`.
    """
    cursor = resumed(_Counted, request.cursor)
    count = max(2, api.settings.page_size)  # the last row again, and a new one
    start = max(0, cursor.offset - 1)
    shape = Shape(records, id, [total] if total else ())
    what = f"{api.source}: {path}"
    delivered = cursor.offset
    held: int | None = None
    idle = displaced = restarts = 0
    while not cursor.done:
        query = {**(params or {}), offset: start, size: count}
        answer = await api.page(path, query, shape)
        assert answer is not None  # noqa: S101 - no refusal is accepted
        rows = answer.records
        counted = count_in(answer, total)
        held = held if counted is None else counted
        known = _position(rows, cursor.last)
        if known is None and (rows or idle >= _IDLE_AT_THE_END):
            # Not at its offset: further in front now, or deleted.
            if start > 0:
                start = max(0, start - count + 1)
                continue
            restarts += 1
            if restarts > _MOST_RESTARTS:
                raise SourceUnavailableError(f"{what} changes faster than it can be read by offset")
            cursor = _Counted()
            continue
        fresh = rows[(known or 0) :] if cursor.last is None else rows[(known or 0) + 1 :]
        idle = 0 if fresh else idle + 1
        # Rows were added in front, or the offset was ignored: the next page shows it.
        displaced = displaced + 1 if known and not fresh else 0
        if rows:
            cursor = _Counted(offset=start + len(rows), last=rows[-1].mark())
        start = max(0, cursor.offset - 1)
        delivered = delivered if displaced else cursor.offset
        at_end = idle >= _IDLE_AT_THE_END and (rows or cursor.last is None)
        if at_end or (rows and held is not None and delivered >= held and not displaced):
            accepted = displaced < _IDLE_AT_THE_END or await _differ(
                api, path, shape, query, offset, size
            )
            _check_end(what, delivered, held, accepted=accepted, offset=offset)
            cursor = msgspec.structs.replace(cursor, done=True)
        if fresh:
            yield Page(records=fresh, cursor=msgspec.to_builtins(cursor))


def _check_end(what: str, delivered: int, held: int | None, *, accepted: bool, offset: str) -> None:
    """Check that a list which brings nothing new has been read completely.

    Raises:
        SourceUnavailableError: the API ignores the offset, or the total was not reached.
    """
    came = "" if held is None else f"{delivered:,} of the {held:,} records that it counts"
    if not accepted:
        raise SourceUnavailableError(
            f"{what} begins anew at each offset: does it take the parameter {offset!r}?"
            + (came and f" It gave {came}")
        )
    if held is not None and delivered < held:
        raise SourceUnavailableError(f"{what} gave {came}")


async def _differ(
    api: RestApi, path: str, shape: Shape, query: Mapping[str, Any], offset: str, size: str
) -> bool:
    """Whether another row stands at the second offset than at the first."""
    first: list[list[str]] = []
    for start in (0, 1):
        answer = await api.page(path, {**query, offset: start, size: 1}, shape)
        assert answer is not None  # noqa: S101 - no refusal is accepted
        first.append([row.mark() for row in answer.records[:1]])
    return first[0] != first[1]


def _position(rows: list[Record], mark: str | None) -> int | None:
    """The index of the row with that mark; 0 where none is looked for, None where it is missing."""
    if mark is None:
        return 0
    return next((n for n, row in enumerate(rows) if row.mark() == mark), None)
