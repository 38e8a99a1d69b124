"""Lists in the order of a time: each page begins where the last one ended, whatever moved."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from temporaletl.errors import SourceProtocolError, SourceUnavailableError
from temporaletl.external.rest.api import RestApi
from temporaletl.external.rest.narrowing import Pages
from temporaletl.external.rest.records import Answer, Record, Shape, at, marks_of, resumed
from temporaletl.extraction import Page, PageRequest
from temporaletl.messages import Window
from temporaletl.query import Query

#: Without word of what follows, a list ends where so many pages in a row bring nothing.
_EMPTY_AT_THE_END = 3
#: Known records come again where many share one time, but not for ever.
_MOST_WITHOUT_NEWS = 500
#: How often the very same question is asked.
_MOST_REPEATS = 100
#: How often a run of equal times is read again because it was longer than a page.
_MOST_ROUNDS = 3
_BEGINNING = datetime.min.replace(tzinfo=UTC)


def iso_utc(moment: datetime) -> str:
    """`2025-01-31T06:00:00Z`, with microseconds where there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def utc_from_iso(value: Any) -> datetime:
    """Read an ISO 8601 text; without a zone it is UTC."""
    moment = datetime.fromisoformat(value)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


class _Anchor(msgspec.Struct, frozen=True):
    """A cursor: everything before `time` is delivered, and `page` pages of what is at it."""

    time: datetime | None = None
    page: int = 0
    round: int = 1
    done: bool = False


async def by_time(
    api: RestApi,
    path: str,
    request: PageRequest[Query],
    *,
    records: str,
    time: str,
    since: str,
    until: str | None = None,
    window: Window | None = None,
    page: str | None = None,
    first: int = 1,
    size: str = "per_page",
    more: str | None = None,
    id: str = "id",  # noqa: A002
    params: Mapping[str, Any] | None = None,
    write: Callable[[datetime], str | int] = iso_utc,
    read: Callable[[Any], datetime] = utc_from_iso,
) -> AsyncGenerator[Page]:
    """Read the records whose `time` lies in the window, oldest first.

    By default the window has the start of the job's and no end: what happened in it may belong to
    a record that changed later, and a record that changes all the time must not run ahead of us.

    The API must take the parameter `since`, a lower bound that it includes (`until`, where it has
    one, is the parameter of the window's end), and give the list in
    the order of `time`: say so in `params`. `page` is the parameter of the page number, needed
    where more records can share one time than fit a page. `more` is the place of what tells
    whether anything follows; without it the end is where nothing new comes: no record whose id or
    time is new, though others may have changed, or the same page for each number. `write` and
    `read` turn moments into what the API takes and gives, and back.

    A record that changes while the list is read only moves behind us, and comes again. One whose
    time cannot be read is left to the transform. A page that cannot be had is read one by one, if
    pages have numbers: see `Pages`.

    Raises:
        SourceProtocolError: the list is not in the order of that time, or too many records share
            one time.
        SourceUnavailableError: the same page comes for ever, or whatever its number though it may
            not be all.
        ETLError: as `RestApi.page`.
    """
    window = window or Window(start=request.job.window.start)
    anchor = resumed(_Anchor, request.cursor)
    known: dict[str, tuple[datetime, int]] = {}  # by id: what was delivered at the anchor
    empty = stale = 0
    told = [more] if more else []
    shape = Shape(records, id, told, must_have=told)
    pages = Pages(api, path, shape, page=page, size=size, first=first)
    repeats = _Repeats(f"{api.source}: {path}", page)
    new_in_round = anchor.page > 0
    while not anchor.done:
        start = anchor.time or window.start
        asked = dict(params or {})
        asked |= {} if start is None else {since: write(start)}
        asked |= {} if until is None or window.end is None else {until: write(window.end)}
        answer, found, rejects = await pages.read(asked, anchor.page, api.settings.page_size)
        rows = _timed(found, time, read, start, f"{api.source}: {path}")
        fresh, news = _fresh(rows, known, window)
        stale = 0 if news else stale + 1
        repeated = repeats.met(found)
        # Where pages have numbers, known records are no sign of the end, but for the same ones.
        empty = 0 if news or (rows and page is not None and not repeated) else empty + 1
        new_in_round = new_in_round or (anchor.page > 0 and bool(fresh))

        last = _is_last(answer, more, empty)
        await repeats.check(found, pages, asked, last=last)
        if stale >= _MOST_WITHOUT_NEWS:
            raise SourceProtocolError(
                f"{api.source}: {path} says that more follows, but nothing new comes"
            )
        if window.end is not None and rows and rows[-1][0] >= window.end:
            last = True
        latest = rows[-1][0] if rows else None
        before = anchor
        moves = latest is not None and (anchor.time is None or latest > anchor.time)
        if (moves or last) and new_in_round and anchor.round < _MOST_ROUNDS:
            # Rows that changed meanwhile may have moved others to a page that was read before.
            anchor = _Anchor(anchor.time, round=anchor.round + 1)
            new_in_round = False
            repeats.begin_anew()
            empty = 0
        elif last:
            anchor = _Anchor(latest or anchor.time, done=True)
        elif moves and latest is not None:
            anchor = _Anchor(latest)
            known = {key: found for key, found in known.items() if found[0] >= latest}
            new_in_round = False
        elif rows and len(rows) >= api.settings.page_size:
            anchor = _next_of_ties(anchor, page, api, path)
        elif rows and page is not None:
            anchor = msgspec.structs.replace(anchor, page=anchor.page + 1)
        repeats.count(same=anchor == before)
        if fresh or rejects:
            yield Page(records=fresh, cursor=msgspec.to_builtins(anchor), rejects=rejects)


class _Repeats:
    """Pages that come again, whether their number is asked for or the very same question."""

    def __init__(self, what: str, page: str | None) -> None:
        self._what = what
        self._page = page
        self._previous: list[str] = []
        self._repeated = False
        self._largest = self._standing = 0

    def begin_anew(self) -> None:
        """Pages that were read are read again."""
        self._previous = []

    def met(self, records: Sequence[Record]) -> bool:
        """Note a page; return whether it holds what the page of the number before held."""
        marks = marks_of(records)
        self._repeated = bool(marks) and marks == self._previous and self._page is not None
        self._previous = marks
        self._largest = max(self._largest, len(records))
        return self._repeated

    async def check(
        self, records: Sequence[Record], pages: Pages, params: Mapping[str, Any], *, last: bool
    ) -> None:
        """See that a page which comes again is the last one, and not the same for each number.

        One that is shorter than others is the last in any case.

        Raises:
            SourceUnavailableError: the number of the page is not heard.
        """
        full = 1 < len(records) >= self._largest
        if last and self._repeated and full and not await pages.differ(params):
            raise SourceUnavailableError(
                f"{self._what} gives the same page for each number: does it take the parameter "
                f"{self._page!r}?"
            )

    def count(self, *, same: bool) -> None:
        """Note whether the next question is the same as the last.

        Raises:
            SourceUnavailableError: it was asked too often.
        """
        self._standing = self._standing + 1 if same else 0
        if self._standing > _MOST_REPEATS:
            raise SourceUnavailableError(
                f"{self._what} goes on and on: asked {self._standing} times, it leads no further"
            )


def _is_last(answer: Answer | None, more: str | None, empty: int) -> bool:
    if more is None or answer is None:
        return empty >= _EMPTY_AT_THE_END
    return not answer.values[more]


def _next_of_ties(anchor: _Anchor, page: str | None, api: RestApi, path: str) -> _Anchor:
    if page is None:
        raise SourceProtocolError(
            f"{api.source}: {path} holds {api.settings.page_size} records or more of one time, "
            f"{anchor.time}: raise {api.settings.variable('page_size')}"
        )
    return msgspec.structs.replace(anchor, page=anchor.page + 1)


def _timed(
    records: Sequence[Record],
    time: str,
    read: Callable[[Any], datetime],
    start: datetime | None,
    what: str,
) -> list[tuple[datetime, Record]]:
    """Each record with its time; one that has none stands with the record before it."""
    rows: list[tuple[datetime, Record]] = []
    latest = start or _BEGINNING
    for record in records:
        try:
            raw = at(record.raw, time)
            moment = read(None if raw is None else msgspec.json.decode(raw))
        except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError):
            moment = latest  # the transform will say what is wrong with it
        if rows and moment < rows[-1][0]:
            raise SourceProtocolError(
                f"{what} is not in the order of {time!r}: {moment} stands behind {rows[-1][0]}"
            )
        latest = moment
        rows.append((moment, record))
    return rows


def _fresh(
    rows: Sequence[tuple[datetime, Record]],
    known: dict[str, tuple[datetime, int]],
    window: Window,
) -> tuple[list[Record], bool]:
    """The records of the window that were not delivered before; adds them to the known ones.

    And whether there is one whose id or time is new: what only changed is no headway.
    """
    fresh = []
    news = False
    for moment, record in rows:
        digest = record.digest()
        key = record.key or f"{digest:x}"
        if moment in window and known.get(key) != (moment, digest):
            news = news or key not in known or known[key][0] != moment
            known[key] = (moment, digest)
            fresh.append(record)
    return fresh, news
