"""Pagination by page number."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

import msgspec

from temporaletl.errors import SourceUnavailableError
from temporaletl.external.headway import Headway
from temporaletl.external.rest.api import RestApi
from temporaletl.external.rest.narrowing import Pages
from temporaletl.external.rest.records import Record, Shape, changed, count_in, marks_of, resumed
from temporaletl.extraction import Page, PageRequest
from temporaletl.query import Query

#: A list without a total ends where so many pages in a row bring nothing new.
_IDLE_AT_THE_END = 3
#: One whose total is not reached yet may have longer gaps.
_IDLE_BEFORE_THE_TOTAL = 20
_MOST_PASSES = 3


class _Numbered(msgspec.Struct, frozen=True):
    """A cursor: how many pages are delivered, and of which size."""

    pages: int = 0
    size: int | None = None  # as first requested: another would move every page
    rows: int = 0  # delivered in this pass, without pages that came again
    total: int | None = None  # as the pass's first page reported it
    moved: bool = False  # the total changed on the way: rows may have moved between pages
    pass_number: int = msgspec.field(default=1, name="round")  # its name in stored cursors
    done: bool = False
    last: int | None = None  # what the last page with records is known by


async def by_number(
    api: RestApi,
    path: str,
    request: PageRequest[Query],
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

    `total` is the dotted path of the number of all records, `more` of a flag whether pages follow;
    where both are given, `more` decides. A short page is never taken for the last one; without
    `more` and `total` the end is where pages stay empty, or where the last page comes again, as
    APIs do that take a number too large for the largest. Where the total changes on the way, rows
    may have moved between pages, and where it is not reached, some did not come: the list is read
    again, at most three times. Lists in the order of creation move least. A page that cannot be
    had is read one by one: see `Pages`.

    Raises:
        SourceUnavailableError: the total was not reached in any pass, the API says for ever that
            more follows, or it gives the same page whatever its number.
        ETLError: as `RestApi.page`.
    """
    cursor = resumed(_Numbered, request.cursor)
    cursor = msgspec.structs.replace(cursor, size=cursor.size or api.settings.page_size)
    values = [value for value in (total, more) if value is not None]
    shape = Shape(records, id, values, must_have=[more] if more else [])
    pages = Pages(api, path, shape, page=page, size=size, first=first)
    what = f"{api.source}: {path}"
    headway = Headway(what)
    headway.resume(cursor.last, 0)
    idle = 0
    known: Sequence[Record] = ()
    while not cursor.done:
        answer, rows, rejects = await pages.read(params or {}, cursor.pages, cursor.size or 1)
        headway.leads_on(f"{cursor.pages}", rows=len(rows))
        news = headway.brings_news(marks_of(rows)) or bool(rejects)
        idle = 0 if news else idle + 1
        # Of records that came one by one, nobody says how many there are.
        count = cursor.total if answer is None else count_in(answer, total, came=cursor.rows)
        cursor = msgspec.structs.replace(
            cursor,
            pages=cursor.pages + 1,
            rows=cursor.rows + (len(rows) + len(rejects) if news else 0),
            total=count if cursor.pages == 0 else cursor.total,
            moved=cursor.moved or (cursor.pages > 0 and count != cursor.total),
            last=headway.page,
        )
        again = bool(rows) and idle >= _IDLE_AT_THE_END
        wanted = cursor.total if count is None else count
        missing = more is None and wanted is not None and cursor.rows < wanted
        if more is not None:
            last = answer is not None and not answer.values[more]
        elif wanted is not None:
            last = not missing or again or idle >= _IDLE_BEFORE_THE_TOTAL
        else:
            last = idle >= _IDLE_AT_THE_END
        if again and not missing:
            alone = cursor.rows == len(rows) > 1
            await _check_numbers(pages, params or {}, what, page, last=last, alone=alone)
        # Of a page that came again, what changed meanwhile.
        shown = rows if news else changed(rows, known)
        known = rows or known
        if last:
            if (cursor.moved or missing) and cursor.pass_number < _MOST_PASSES:
                cursor = _Numbered(size=cursor.size, pass_number=cursor.pass_number + 1)
                headway.begin_anew()
                idle = 0
            elif missing:
                raise SourceUnavailableError(
                    f"{what} gave {cursor.rows:,} of the {wanted:,} records that it counts"
                    + (f": {_ignored(page)}" if again else "")
                )
            else:
                cursor = msgspec.structs.replace(cursor, done=True)
        if shown or rejects:
            yield Page(records=shown, cursor=msgspec.to_builtins(cursor), rejects=rejects)


async def _check_numbers(
    pages: Pages, params: Mapping[str, Any], what: str, page: str, *, last: bool, alone: bool
) -> None:
    """Check that a page which comes again is the last one, and not the same for each number.

    `last` is whether it would be the last, `alone` whether no other page has come.

    Raises:
        SourceUnavailableError: it is the same for each number, or more pages should follow.
    """
    if not last:
        raise SourceUnavailableError(f"{what} says that more follows, but {_ignored(page)}")
    if alone and not await pages.differ(params):
        raise SourceUnavailableError(f"{what}: {_ignored(page)}")


def _ignored(page: str) -> str:
    return f"the same page comes for each number: does it take the parameter {page!r}?"
