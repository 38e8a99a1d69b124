"""The walk over a range of issues, oldest first, that survives rows moving under its feet.

Each search starts anew at the time of the last issue seen (the anchor): what shifts behind it
cannot make it skip. Only issues with the very same time, more than an answer holds, need the
server's own paging; such a run is read again until nothing new turns up in it, because offsets,
and tokens made of offsets, slip when a row before them moves.
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
from temporaletl.worker.sources.jira.extract.found import (
    BARE_FIELDS,
    Answer,
    Row,
    read_answer,
    row_of,
)
from temporaletl.worker.sources.jira.extract.narrowing import Narrowing
from temporaletl.worker.sources.jira.issue import SEARCHED_FIELDS, IssueRecord

#: Cloud's index may be so far behind the issues it shows: an issue changed just now can stand
#: where it stood before, with a time that is not its place's.
_SETTLING_MS = 5 * 60_000
_MOST_ROUNDS = 3
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
    """Where a walk stands; as JSON it is a page's cursor.

    `ids` are the issues at the anchor that were delivered, with their `updated` time; where they
    are too many they are left out, and delivered again.
    """

    at: int | None = None
    token: str | None = None
    start: int = 0
    round: int = 1
    ids: dict[str, int] = msgspec.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Found:
    """Issues as a search gave them, and the cursor behind them."""

    records: Sequence[IssueRecord]
    rejects: Sequence[Reject]
    ids: Sequence[str]  # of both
    cursor: JsonValue
    asked: datetime
    note: str | None = None


class Walk:
    """Finds every issue of a range at least once, from a cursor on.

    `fields` are what it asks for of each issue; beyond the bare times, changelogs come as well
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
            self._place = msgspec.convert(cursor or {}, Position)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"no cursor of a walk over Jira issues: {error}") from None
        #: What was delivered at or after the anchor: its time of order, and of its update.
        self._seen = {id_: (self._place.at, time) for id_, time in self._place.ids.items()}
        self._headway = Headway("jira: the search", begin=self._place.token)
        self._restarts = self._fruitless = self._empty = 0
        self._round_is_new = True  # whether the present round brought anything
        self._ended = False
        self._unreadable = 0  # issues that were found by what fails without them
        self._notes: list[str] = []

    def next(self) -> Found | None:
        """Return the next issues, None at the end. Blocks.

        Raises:
            SourceUnavailableError: no headway; from the last cursor on there may be.
        """
        asked = utc_now()
        while not self._ended:
            fresh = self._step()
            if fresh:
                return Found(
                    records=[row.record for row in fresh if row.record is not None],
                    rejects=[row.reject for row in fresh if row.reject is not None],
                    ids=[row.id for row in fresh],
                    cursor=self._cursor(),
                    asked=asked,
                    note="; ".join(self._notes) or None,
                )
        return None

    def _cursor(self) -> JsonValue:
        at = self._place.at
        ids = {id_: updated for id_, (time, updated) in self._seen.items() if time == at}
        if len(ids) > _MOST_IDS_IN_CURSOR:
            ids = {}
        place = msgspec.structs.replace(self._place, ids=ids)
        cursor: JsonValue = msgspec.to_builtins(place)
        return cursor

    def _step(self) -> list[Row]:
        """Ask once, move on, and return what was not delivered before."""
        asked_ms = as_ms(utc_now())
        try:
            answer = self._ask()
        except FAILURES as error:
            return self._ask_for_less(error, asked_ms)
        if answer is None:
            self._restart()
            return []
        by_created = self._range.order == "created"
        rows = [row_of(raw, by_created=by_created) for raw in answer.issues]
        return self._take(rows, answer, asked_ms)

    def _ask_for_less(self, error: ETLError, asked_ms: int) -> list[Row]:
        """Come by what a page holds that fails as a whole."""
        if isinstance(error, AnswerTooLargeError) and self._page_size > 1:
            self._page_size //= 2
            return []
        place = self._place
        tied = place.token is not None or place.start > 0
        bounds = self._bounds()
        if tied and place.at is not None:
            bounds = replace(bounds, to_ms=place.at + 1)
        narrowed = Narrowing(self._client, bounds, self._query(), error, tied=tied).read()
        self._notes = [*dict.fromkeys((*self._notes, *narrowed.notes))][-_MOST_NOTES:]
        if narrowed.answer is not None:
            return self._take(narrowed.rows, narrowed.answer, asked_ms)
        self._unreadable += 1
        if self._unreadable > _MOST_UNREADABLE or narrowed.without is None:
            raise error
        self._range = replace(self._range, filters=(*self._range.filters, narrowed.without))
        # A page token is that of another query now.
        self._go_to(Position(at=place.at, round=place.round), is_new=self._round_is_new)
        return self._fresh(narrowed.rows)

    def _take(self, rows: Sequence[Row], answer: Answer, asked_ms: int) -> list[Row]:
        """Move on behind a page, and return what of it was not delivered before."""
        fresh = self._fresh(rows)
        self._fruitless = 0 if fresh else self._fruitless + 1
        if self._fruitless > _MOST_FRUITLESS:
            raise SourceUnavailableError("jira: the search goes on and on without a new issue")
        if fresh:
            self._restarts = 0
            self._round_is_new = True
        self._move(rows, answer, asked_ms)
        return fresh

    def _fresh(self, rows: Sequence[Row]) -> list[Row]:
        fresh: list[Row] = []
        for row in rows:
            if row.id not in self._seen or self._seen[row.id][1] != row.updated:
                self._seen[row.id] = (row.time, row.updated)
                fresh.append(row)
        return fresh

    def _bounds(self) -> IssueRange:
        at = self._place.at
        return self._range if at is None else replace(self._range, from_ms=at)

    def _query(self) -> dict[str, Any]:
        """The search from where we stand."""
        place = self._place
        query: dict[str, Any] = {
            "jql": self._bounds().jql(ordered=True),
            "maxResults": self._page_size,
            "fields": self._fields,
        }
        if not self._client.site.cloud:
            query["startAt"] = place.start
            if self._fields != BARE_FIELDS:
                query["expand"] = ["changelog"]
        elif place.token:
            query["nextPageToken"] = place.token
        return query

    def _ask(self) -> Answer | None:
        """Search from where we stand; None if our token is refused."""
        query = self._query()
        site = self._client.site

        def read(response: requests.Response) -> Answer | None:
            if response.status_code == _BAD_REQUEST:
                return None
            return read_answer(response, cloud=site.cloud)

        accept = {_BAD_REQUEST} if "nextPageToken" in query else ()
        return site.search(query, read=read, accept=accept, stop=self._client.stop)

    def _move(self, rows: Sequence[Row], answer: Answer, asked_ms: int) -> None:
        times = [row.time for row in rows if row.time is not None]
        anchor = self._next_anchor(times, asked_ms)
        last = self._is_last(len(answer.issues), answer)
        if anchor is None and not last:
            self._follow(len(answer.issues), answer)
            return
        place = self._place
        paged = place.token is not None or place.start > 0
        if paged and self._round_is_new and place.round < _MOST_ROUNDS:
            self._go_to(Position(at=place.at, round=place.round + 1))
            self._restarts = 0
            return
        self._ended = last
        if anchor is not None:
            self._go_to(Position(at=anchor))
            for id_ in [i for i, (time, _) in self._seen.items() if _before(time, anchor)]:
                del self._seen[id_]

    def _go_to(self, place: Position, *, is_new: bool = False) -> None:
        self._place = place
        self._headway.begin_anew()
        self._empty = 0
        self._round_is_new = is_new

    def _next_anchor(self, times: Sequence[int], asked_ms: int) -> int | None:
        """Return a time after the anchor up to which nothing can have been missed."""
        at = self._place.at
        if not times:
            return None
        candidates = [times[-1]]
        if self._range.order == "updated":
            # Times of the last minutes may be out of their place (see _SETTLING_MS), so the latest
            # of the others is safer; where there is none, the smaller of the last two.
            safe = [time for time in times if time <= asked_ms - _SETTLING_MS]
            candidates = [*([max(safe)] if safe else []), min(times[-2:]), times[-1]]
        return next((time for time in candidates if at is None or time > at), None)

    def _is_last(self, rows: int, answer: Answer) -> bool:
        if self._client.site.cloud:
            # Not every answer says isLast: the token's absence is what ends a search.
            return not answer.next_page_token
        total = answer.total or 0
        if rows:
            self._empty = 0
            return self._place.start + rows == total
        self._empty += 1
        return total <= self._place.start or self._empty >= _MOST_EMPTY

    def _follow(self, rows: int, answer: Answer) -> None:
        """Go on with the server's own paging, inside a run of equal times."""
        place = self._place
        token = str(answer.next_page_token)
        if not self._client.site.cloud:
            # By what came, not by what was asked for: the server may give less.
            self._place = msgspec.structs.replace(place, start=place.start + rows)
        elif self._headway.leads_on(token, rows=rows):
            self._place = msgspec.structs.replace(place, token=token)

    def _restart(self) -> None:
        """Go back to the anchor: our token has expired."""
        self._restarts += 1
        if self._restarts > _MOST_RESTARTS:
            raise SourceUnavailableError("jira: the server keeps refusing its own page tokens")
        place = self._place
        self._go_to(Position(at=place.at, round=place.round), is_new=self._round_is_new)


def _before(time: int | None, anchor: int) -> bool:
    # An issue without a time may come up anywhere, so it stays known.
    return time is not None and time < anchor
