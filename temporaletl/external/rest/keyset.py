"""Keyset pagination by a timestamp: each page seeks to where the last one ended."""

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

#: Without a sign of what follows, a list ends where so many pages in a row bring nothing.
_EMPTY_AT_THE_END = 3
#: Known records come again where many share one time, but not for ever.
_MOST_WITHOUT_NEWS = 500
#: How often the very same request is sent.
_MOST_REPEATS = 100
#: How often a run of equal times is read again because it was longer than a page.
_MOST_PASSES = 3
_BEGINNING = datetime.min.replace(tzinfo=UTC)


def iso_utc(timestamp: datetime) -> str:
    """`2025-01-31T06:00:00Z`, with microseconds where there are any."""
    return timestamp.astimezone(UTC).isoformat().replace("+00:00", "Z")


def utc_from_iso(value: Any) -> datetime:
    """Read an ISO 8601 text; without a zone it is UTC."""
    timestamp = datetime.fromisoformat(value)
    return (timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)).astimezone(UTC)


class _HighWaterMark(msgspec.Struct, frozen=True):
    """A cursor: everything before `time` is delivered, and `page` pages of the records at it."""

    time: datetime | None = None
    page: int = 0
    pass_number: int = msgspec.field(default=1, name="round")  # its name in stored cursors
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
    a record that changed later, and a record that changes all the time must not run ahead.

    The API must take the parameter `since`, a lower bound that it includes (`until`, where it has
    one, is the parameter of the window's end), and give the list in the order of `time`: say so in
    `params`. `page` is the parameter of the page number, needed where more records can share one
    time than fit a page. `more` is the dotted path of a flag that says whether anything follows;
    without it the end is where nothing new comes: no record whose id or time is new, though others
    may have changed, or the same page for each number. `write` and `read` turn timestamps into
    what the API takes and gives, and back.

    A record that changes while the list is read only moves to the end, and comes again. One whose
    time cannot be read is left to the transform; where none has a time, a page's note says so. A
    page that cannot be had is read one by one, if pages have numbers: see `Pages`.

    Raises:
        SourceProtocolError: the list is not in the order of that time, or too many records share
            one time.
        SourceUnavailableError: the same page comes for ever, or whatever its number though it may
            not be all.
        ETLError: as `RestApi.page`.
    """
    window = window or Window(start=request.job.window.start)
    mark = resumed(_HighWaterMark, request.cursor)
    known: dict[str, tuple[datetime, int]] = {}  # by id: what was delivered at the mark
    empty = stale = 0
    times = _Times(f"{api.source}: {path}", time, read)
    values = [more] if more else []
    shape = Shape(records, id, values, must_have=values)
    pages = Pages(api, path, shape, page=page, size=size, first=first)
    repeats = _Repeats(f"{api.source}: {path}", page)
    new_in_pass = mark.page > 0
    while not mark.done:
        start = mark.time or window.start
        query = dict(params or {})
        query |= {} if start is None else {since: write(start)}
        query |= {} if until is None or window.end is None else {until: write(window.end)}
        answer, fetched, rejects = await pages.read(query, mark.page, api.settings.page_size)
        rows = times.of(fetched, start)
        fresh, news = _fresh(rows, known, window)
        stale = 0 if news else stale + 1
        repeated = repeats.met(fetched)
        # Where pages have numbers, known records are no sign of the end, but for the same ones.
        empty = 0 if news or (rows and page is not None and not repeated) else empty + 1
        new_in_pass = new_in_pass or (mark.page > 0 and bool(fresh))

        last = _is_last(answer, more, empty)
        await repeats.check(fetched, pages, query, last=last)
        if stale >= _MOST_WITHOUT_NEWS:
            raise SourceProtocolError(
                f"{api.source}: {path} says that more follows, but nothing new comes"
            )
        if window.end is not None and rows and rows[-1][0] >= window.end:
            last = True
        latest = rows[-1][0] if rows else None
        before = mark
        moves = latest is not None and (mark.time is None or latest > mark.time)
        if (moves or last) and new_in_pass and mark.pass_number < _MOST_PASSES:
            # Rows that changed meanwhile may have moved others to a page that was read before.
            mark = _HighWaterMark(mark.time, pass_number=mark.pass_number + 1)
            new_in_pass = False
            repeats.begin_anew()
            empty = 0
        elif last:
            mark = _HighWaterMark(latest or mark.time, done=True)
        elif moves and latest is not None:
            mark = _HighWaterMark(latest)
            known = {key: seen for key, seen in known.items() if seen[0] >= latest}
            new_in_pass = False
        elif rows and len(rows) >= api.settings.page_size:
            mark = _next_of_ties(mark, page, api, path)
        elif rows and page is not None:
            mark = msgspec.structs.replace(mark, page=mark.page + 1)
        repeats.count(same=mark == before)
        if fresh or rejects:
            yield Page(fresh, msgspec.to_builtins(mark), rejects=rejects, note=times.note)


class _Repeats:
    """Detects pages that come again, for other page numbers or for the same request."""

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
        """Check that a page which comes again is the last one, and not the same for each number.

        One that is shorter than others is the last in any case.

        Raises:
            SourceUnavailableError: the API ignores the number of the page.
        """
        full = 1 < len(records) >= self._largest
        if last and self._repeated and full and not await pages.differ(params):
            raise SourceUnavailableError(
                f"{self._what} gives the same page for each number: does it take the parameter "
                f"{self._page!r}?"
            )

    def count(self, *, same: bool) -> None:
        """Note whether the next request is the same as the last.

        Raises:
            SourceUnavailableError: it was sent too often.
        """
        self._standing = self._standing + 1 if same else 0
        if self._standing > _MOST_REPEATS:
            raise SourceUnavailableError(
                f"{self._what} does not end: requested {self._standing} times, it leads no further"
            )


def _is_last(answer: Answer | None, more: str | None, empty: int) -> bool:
    if more is None or answer is None:
        return empty >= _EMPTY_AT_THE_END
    return not answer.values[more]


def _next_of_ties(
    mark: _HighWaterMark, page: str | None, api: RestApi, path: str
) -> _HighWaterMark:
    if page is None:
        raise SourceProtocolError(
            f"{api.source}: {path} holds {api.settings.page_size} records or more of one time, "
            f"{mark.time}: raise {api.settings.variable('page_size')}"
        )
    return msgspec.structs.replace(mark, page=mark.page + 1)


class _Times:
    """The times of records. `note` says that none has had one so far, though there were records."""

    def __init__(self, what: str, time: str, read: Callable[[Any], datetime]) -> None:
        self.note: str | None = None
        self._what = what
        self._time = time
        self._read = read
        self._found = False

    def of(
        self, records: Sequence[Record], start: datetime | None
    ) -> list[tuple[datetime, Record]]:
        """Each record with its time; one that has none stands with the record before it.

        Raises:
            SourceProtocolError: they are not in the order of their times.
        """
        rows: list[tuple[datetime, Record]] = []
        latest = start or _BEGINNING
        for record in records:
            timestamp = self._time_of(record) or latest  # the transform says what is wrong with it
            if rows and timestamp < rows[-1][0]:
                raise SourceProtocolError(
                    f"{self._what} is not in the order of {self._time!r}: {timestamp} stands "
                    f"behind {rows[-1][0]}"
                )
            latest = timestamp
            rows.append((timestamp, record))
        self.note = None
        if rows and not self._found:
            self.note = (
                f"{self._what}: no record has a time at {self._time!r}, by which the list is read: "
                "does `time` name the field?"
            )
        return rows

    def _time_of(self, record: Record) -> datetime | None:
        try:
            raw = at(record.raw, self._time)
            timestamp = self._read(None if raw is None else msgspec.json.decode(raw))
        except (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError):
            return None
        self._found = True
        return timestamp


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
    for timestamp, record in rows:
        digest = record.digest()
        key = record.key or f"{digest:x}"
        if timestamp in window and known.get(key) != (timestamp, digest):
            news = news or key not in known or known[key][0] != timestamp
            known[key] = (timestamp, digest)
            fresh.append(record)
    return fresh, news
