"""Keyset pagination over a range of issues, oldest first, that skips no issue when others move.

Each search seeks to the time of the last issue seen (the high-water mark): what shifts behind it
cannot make it skip. Only issues with the very same time, more than an answer holds, need the
server's own paging; such a run is read in several passes until one brings nothing new, because
offsets, and tokens made of offsets, slip when a row before them moves.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec
import requests
from pydantic import JsonValue

from temporaletl import ConfigurationError, Reject, SourceUnavailableError
from temporaletl.clock import utc_now
from temporaletl.errors import ETLError
from temporaletl.external.exchange import AnswerTooLargeError
from temporaletl.external.headway import Headway
from temporaletl.external.jira.site import IssueRange, as_ms
from temporaletl.worker.sources.jira.extract.client import FAILURES, JiraClient
from temporaletl.worker.sources.jira.extract.narrowing import Narrowing
from temporaletl.worker.sources.jira.extract.search_results import (
    BARE_FIELDS,
    Answer,
    Row,
    read_answer,
    row_of,
)
from temporaletl.worker.sources.jira.issue import SEARCHED_FIELDS, IssueRecord

#: Cloud's index may be so far behind the issues it shows: an issue changed just now can stand
#: where it stood before, with a time that is not its position's.
_SETTLING_MS = 5 * 60_000
_MOST_PASSES = 3
_MOST_RESTARTS = 8
#: Answers in a row that bring no issue we have not had: far beyond any honest run of ties.
_MOST_FRUITLESS = 2_000
#: A total that counts issues which never come is believed for so many empty answers.
_MOST_EMPTY = 4
_MOST_IDS_IN_CURSOR = 200
#: Issues that no search can show: where there are more, something else is wrong.
_MOST_UNREADABLE = 50
_MOST_NOTES = 5
_BAD_REQUEST = 400


class Position(msgspec.Struct, omit_defaults=True):
    """The state of a keyset pagination; as JSON it is a page's cursor.

    `at` is the high-water mark. `ids` are the issues at it that were delivered, with their
    `updated` time; where they are too many they are left out, and delivered again.
    """

    at: int | None = None
    token: str | None = None
    start: int = 0
    pass_number: int = msgspec.field(default=1, name="round")  # its name in stored cursors
    ids: dict[str, int] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """A page of issues from a search, with its rejects, and the cursor behind it."""

    records: Sequence[IssueRecord]
    rejects: Sequence[Reject]
    ids: Sequence[str]  # of both
    cursor: JsonValue
    requested_at: datetime
    note: str | None = None


class KeysetPagination:
    """Keyset pagination over a range of issues: from a cursor on, every issue at least once.

    `fields` are what it requests of each issue; beyond the bare times, changelogs come as well
    where a search can give them.
    """

    def __init__(
        self,
        client: JiraClient,
        issues: IssueRange,
        page_size: int,
        cursor: JsonValue = None,
        *,
        fields: Sequence[str] = SEARCHED_FIELDS,
    ) -> None:
        self._fields = fields
        self._client = client
        self._range = issues
        self._page_size = page_size
        try:
            self._position = msgspec.convert(cursor or {}, Position)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"no cursor of a search for Jira issues: {error}") from None
        #: What was delivered at or after the high-water mark: its time of order, and of its update.
        self._seen = {id_: (self._position.at, time) for id_, time in self._position.ids.items()}
        self._headway = Headway("jira: the search", begin=self._position.token)
        self._restarts = self._fruitless = self._empty = 0
        self._pass_found_new = True  # whether the present pass brought anything
        self._ended = False
        self._unreadable = 0  # issues that were found by what fails without them
        self._notes: list[str] = []

    def next(self) -> FetchedPage | None:
        """Return the next page of issues, None at the end. Blocks.

        Raises:
            SourceUnavailableError: no headway; from the last cursor on there may be.
        """
        requested_at = utc_now()
        while not self._ended:
            fresh = self._step()
            if fresh:
                return FetchedPage(
                    records=[row.record for row in fresh if row.record is not None],
                    rejects=[row.reject for row in fresh if row.reject is not None],
                    ids=[row.id for row in fresh],
                    cursor=self._cursor(),
                    requested_at=requested_at,
                    note="; ".join(self._notes) or None,
                )
        return None

    def _cursor(self) -> JsonValue:
        at = self._position.at
        ids = {id_: updated for id_, (time, updated) in self._seen.items() if time == at}
        if len(ids) > _MOST_IDS_IN_CURSOR:
            ids = {}
        position = msgspec.structs.replace(self._position, ids=ids)
        cursor: JsonValue = msgspec.to_builtins(position)
        return cursor

    def _step(self) -> list[Row]:
        """Send one search, advance, and return the rows that were not delivered before."""
        requested_ms = as_ms(utc_now())
        try:
            answer = self._request()
        except FAILURES as error:
            return self._request_less(error, requested_ms)
        if answer is None:
            self._restart()
            return []
        by_created = self._range.order == "created"
        rows = [row_of(raw, by_created=by_created) for raw in answer.issues]
        return self._take(rows, answer, requested_ms)

    def _request_less(self, error: ETLError, requested_ms: int) -> list[Row]:
        """Read a page that fails: in a smaller size, or around the issue that makes it fail."""
        if isinstance(error, AnswerTooLargeError) and self._page_size > 1:
            self._page_size //= 2
            return []
        position = self._position
        tied = position.token is not None or position.start > 0
        bounds = self._bounds()
        if tied and position.at is not None:
            bounds = replace(bounds, to_ms=position.at + 1)
        narrowed = Narrowing(self._client, bounds, self._query(), error, tied=tied).read()
        self._notes = [*dict.fromkeys((*self._notes, *narrowed.notes))][-_MOST_NOTES:]
        if narrowed.answer is not None:
            return self._take(narrowed.rows, narrowed.answer, requested_ms)
        self._unreadable += 1
        if self._unreadable > _MOST_UNREADABLE or narrowed.without is None:
            raise error
        self._range = replace(self._range, filters=(*self._range.filters, narrowed.without))
        # A page token is that of another query now.
        self._go_to(
            Position(at=position.at, pass_number=position.pass_number), is_new=self._pass_found_new
        )
        return self._fresh(narrowed.rows)

    def _take(self, rows: Sequence[Row], answer: Answer, requested_ms: int) -> list[Row]:
        """Advance behind a page, and return its rows that were not delivered before."""
        fresh = self._fresh(rows)
        self._fruitless = 0 if fresh else self._fruitless + 1
        if self._fruitless > _MOST_FRUITLESS:
            raise SourceUnavailableError("jira: the search does not end, and shows no new issue")
        if fresh:
            self._restarts = 0
            self._pass_found_new = True
        self._move(rows, answer, requested_ms)
        return fresh

    def _fresh(self, rows: Sequence[Row]) -> list[Row]:
        fresh: list[Row] = []
        for row in rows:
            if row.id not in self._seen or self._seen[row.id][1] != row.updated:
                self._seen[row.id] = (row.time, row.updated)
                fresh.append(row)
        return fresh

    def _bounds(self) -> IssueRange:
        at = self._position.at
        return self._range if at is None else replace(self._range, from_ms=at)

    def _query(self) -> dict[str, Any]:
        """The parameters of the search from the present position."""
        position = self._position
        query: dict[str, Any] = {
            "jql": self._bounds().jql(ordered=True),
            "maxResults": self._page_size,
            "fields": self._fields,
        }
        if not self._client.site.cloud:
            query["startAt"] = position.start
            if self._fields != BARE_FIELDS:
                query["expand"] = ["changelog"]
        elif position.token:
            query["nextPageToken"] = position.token
        return query

    def _request(self) -> Answer | None:
        """Search from the present position; None if its page token is refused."""
        query = self._query()
        site = self._client.site

        def read(response: requests.Response) -> Answer | None:
            if response.status_code == _BAD_REQUEST:
                return None
            return read_answer(response, cloud=site.cloud)

        accept = {_BAD_REQUEST} if "nextPageToken" in query else ()
        return site.search(query, read=read, accept=accept, stop=self._client.stop)

    def _move(self, rows: Sequence[Row], answer: Answer, requested_ms: int) -> None:
        times = [row.time for row in rows if row.time is not None]
        high_water_mark = self._next_high_water_mark(times, requested_ms)
        last = self._is_last(len(answer.issues), answer)
        if high_water_mark is None and not last:
            self._follow(len(answer.issues), answer)
            return
        position = self._position
        paged = position.token is not None or position.start > 0
        if paged and self._pass_found_new and position.pass_number < _MOST_PASSES:
            self._go_to(Position(at=position.at, pass_number=position.pass_number + 1))
            self._restarts = 0
            return
        self._ended = last
        if high_water_mark is not None:
            self._go_to(Position(at=high_water_mark))
            for id_ in [i for i, (time, _) in self._seen.items() if _before(time, high_water_mark)]:
                del self._seen[id_]

    def _go_to(self, position: Position, *, is_new: bool = False) -> None:
        self._position = position
        self._headway.begin_anew()
        self._empty = 0
        self._pass_found_new = is_new

    def _next_high_water_mark(self, times: Sequence[int], requested_ms: int) -> int | None:
        """Return a later high-water mark: a time up to which nothing can have been missed."""
        at = self._position.at
        if not times:
            return None
        candidates = [times[-1]]
        if self._range.order == "updated":
            # Times of the last minutes may be out of their order (see _SETTLING_MS), so the latest
            # of the others is safer; where there is none, the smaller of the last two.
            safe = [time for time in times if time <= requested_ms - _SETTLING_MS]
            candidates = [*([max(safe)] if safe else []), min(times[-2:]), times[-1]]
        return next((time for time in candidates if at is None or time > at), None)

    def _is_last(self, rows: int, answer: Answer) -> bool:
        if self._client.site.cloud:
            # Not every answer says isLast: the token's absence is what ends a search.
            return not answer.next_page_token
        total = answer.total or 0
        if rows:
            self._empty = 0
            return self._position.start + rows == total
        self._empty += 1
        return total <= self._position.start or self._empty >= _MOST_EMPTY

    def _follow(self, rows: int, answer: Answer) -> None:
        """Advance by the server's own paging, inside a run of equal times."""
        position = self._position
        token = str(answer.next_page_token)
        if not self._client.site.cloud:
            # By what came, not by what was requested: the server may give less.
            self._position = msgspec.structs.replace(position, start=position.start + rows)
        elif self._headway.leads_on(token, rows=rows):
            self._position = msgspec.structs.replace(position, token=token)

    def _restart(self) -> None:
        """Go back to the high-water mark: the page token has expired."""
        self._restarts += 1
        if self._restarts > _MOST_RESTARTS:
            raise SourceUnavailableError("jira: the server keeps refusing its own page tokens")
        position = self._position
        self._go_to(
            Position(at=position.at, pass_number=position.pass_number), is_new=self._pass_found_new
        )


def _before(time: int | None, high_water_mark: int) -> bool:
    # An issue without a time may come up anywhere, so it stays known.
    return time is not None and time < high_water_mark
