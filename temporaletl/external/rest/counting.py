"""Lists that are counted through by offset."""

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
    """A cursor: how many rows are behind us, and the last of them."""

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
    were added or removed in front of us, and our place is looked for before it is gone on from.
    Steps by what came, not by what was asked for. `total` is the place of the number of all
    records; without it the end is where nothing new comes.

    Raises:
        SourceUnavailableError: the list changes faster than it can be read, ends before its total
            is reached, or is given from its beginning whatever the offset.
        ETLError: as `RestApi.page`.
    """
    place = resumed(_Counted, request.cursor)
    count = max(2, api.settings.page_size)  # the last row again, and a new one
    start = max(0, place.offset - 1)
    shape = Shape(records, id, [total] if total else ())
    what = f"{api.source}: {path}"
    delivered = place.offset
    held: int | None = None
    idle = displaced = restarts = 0
    while not place.done:
        asked = {**(params or {}), offset: start, size: count}
        answer = await api.page(path, asked, shape)
        assert answer is not None  # noqa: S101 - no refusal is accepted
        rows = answer.records
        told = count_in(answer, total)
        held = held if told is None else told
        known = _position(rows, place.last)
        if known is None and (rows or idle >= _IDLE_AT_THE_END):
            # Not where we left it: further in front now, or gone.
            if start > 0:
                start = max(0, start - count + 1)
                continue
            restarts += 1
            if restarts > _MOST_RESTARTS:
                raise SourceUnavailableError(f"{what} changes faster than it can be read by offset")
            place = _Counted()
            continue
        fresh = rows[(known or 0) :] if place.last is None else rows[(known or 0) + 1 :]
        idle = 0 if fresh else idle + 1
        # Rows were added in front, or the offset was not heard: the next page tells.
        displaced = displaced + 1 if known and not fresh else 0
        if rows:
            place = _Counted(offset=start + len(rows), last=rows[-1].mark())
        start = max(0, place.offset - 1)
        delivered = delivered if displaced else place.offset
        at_end = idle >= _IDLE_AT_THE_END and (rows or place.last is None)
        if at_end or (rows and held is not None and delivered >= held and not displaced):
            heard = displaced < _IDLE_AT_THE_END or await _differ(
                api, path, shape, asked, offset, size
            )
            _check_end(what, delivered, held, heard=heard, offset=offset)
            place = msgspec.structs.replace(place, done=True)
        if fresh:
            yield Page(records=fresh, cursor=msgspec.to_builtins(place))


def _check_end(what: str, delivered: int, held: int | None, *, heard: bool, offset: str) -> None:
    """See that a list which brings nothing new has been given as a whole.

    Raises:
        SourceUnavailableError: the offset is not heard, or the total was not reached.
    """
    came = "" if held is None else f"{delivered:,} of the {held:,} records that it counts"
    if not heard:
        raise SourceUnavailableError(
            f"{what} begins anew at each offset: does it take the parameter {offset!r}?"
            + (came and f" It gave {came}")
        )
    if held is not None and delivered < held:
        raise SourceUnavailableError(f"{what} gave {came}")


async def _differ(
    api: RestApi, path: str, shape: Shape, asked: Mapping[str, Any], offset: str, size: str
) -> bool:
    """Whether another row stands at the second place than at the first."""
    first: list[list[str]] = []
    for start in (0, 1):
        answer = await api.page(path, {**asked, offset: start, size: 1}, shape)
        assert answer is not None  # noqa: S101 - no refusal is accepted
        first.append([row.mark() for row in answer.records[:1]])
    return first[0] != first[1]


def _position(rows: list[Record], mark: str | None) -> int | None:
    """Where the row of that mark stands, 0 where none is looked for, None where it is not."""
    if mark is None:
        return 0
    return next((n for n, row in enumerate(rows) if row.mark() == mark), None)
