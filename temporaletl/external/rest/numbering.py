"""Lists that are counted through by page number."""

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
_MOST_ROUNDS = 3


class _Numbered(msgspec.Struct, frozen=True):
    """A cursor: how many pages are behind us, and of which size."""

    pages: int = 0
    size: int | None = None  # as it was first asked for: another would move every page
    rows: int = 0  # delivered in this round, without pages that came again
    total: int | None = None  # as the round's first page told it
    moved: bool = False  # the total changed on the way: rows may have moved between pages
    round: int = 1
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

    `total` is the place of the number of all records, `more` of what tells whether pages follow;
    where both are told, `more` decides. A short page is never taken for the last one; without
    `more` and `total` the end is where pages stay empty, or where the last page comes again, as
    APIs do that take a number too large for the largest. Where the total changes on the way, rows
    may have moved between pages, and where it is not reached, some did not come: the list is read
    again, at most three times. Lists in the order of creation move least. A page that cannot be
    had is read one by one: see `Pages`.

    Raises:
        SourceUnavailableError: the total was not reached in any round, the API says for ever that
            more follows, or it gives the same page whatever its number.
        ETLError: as `RestApi.page`.
    """
    place = resumed(_Numbered, request.cursor)
    place = msgspec.structs.replace(place, size=place.size or api.settings.page_size)
    told = [each for each in (total, more) if each is not None]
    shape = Shape(records, id, told, must_have=[more] if more else [])
    pages = Pages(api, path, shape, page=page, size=size, first=first)
    what = f"{api.source}: {path}"
    headway = Headway(what)
    headway.resume(place.last, 0)
    idle = 0
    known: Sequence[Record] = ()
    while not place.done:
        answer, rows, rejects = await pages.read(params or {}, place.pages, place.size or 1)
        headway.leads_on(f"{place.pages}", rows=len(rows))
        news = headway.brings_news(marks_of(rows)) or bool(rejects)
        idle = 0 if news else idle + 1
        # Of records that came one by one, nobody says how many there are.
        count = place.total if answer is None else count_in(answer, total)
        place = msgspec.structs.replace(
            place,
            pages=place.pages + 1,
            rows=place.rows + (len(rows) + len(rejects) if news else 0),
            total=count if place.pages == 0 else place.total,
            moved=place.moved or (place.pages > 0 and count != place.total),
            last=headway.page,
        )
        again = bool(rows) and idle >= _IDLE_AT_THE_END
        wanted = place.total if count is None else count
        missing = more is None and wanted is not None and place.rows < wanted
        if more is not None:
            last = answer is not None and not answer.values[more]
        elif wanted is not None:
            last = not missing or again or idle >= _IDLE_BEFORE_THE_TOTAL
        else:
            last = idle >= _IDLE_AT_THE_END
        if again and not missing:
            alone = place.rows == len(rows) > 1
            await _check_numbers(pages, params or {}, what, page, last=last, alone=alone)
        # Of a page that came again, what changed meanwhile.
        shown = rows if news else changed(rows, known)
        known = rows or known
        if last:
            if (place.moved or missing) and place.round < _MOST_ROUNDS:
                place = _Numbered(size=place.size, round=place.round + 1)
                headway.begin_anew()
                idle = 0
            elif missing:
                raise SourceUnavailableError(
                    f"{what} gave {place.rows:,} of the {wanted:,} records that it counts"
                    + (f": {_ignored(page)}" if again else "")
                )
            else:
                place = msgspec.structs.replace(place, done=True)
        if shown or rejects:
            yield Page(records=shown, cursor=msgspec.to_builtins(place), rejects=rejects)


async def _check_numbers(
    pages: Pages, params: Mapping[str, Any], what: str, page: str, *, last: bool, alone: bool
) -> None:
    """See that a page which comes again is the last one, and not the same for each number.

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
