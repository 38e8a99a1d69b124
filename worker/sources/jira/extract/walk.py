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
import xxhash
from pydantic import JsonValue

from temporaletl import ConfigurationError, Reject, SourceUnavailableError
from temporaletl.clock import utc_now
from temporaletl.external.answers import decode
from temporaletl.external.jira.site import IssueRange, as_ms
from worker.sources.jira.extract.client import JiraClient
from worker.sources.jira.issue import SEARCHED_FIELDS, IssueRecord
from worker.sources.jira.moments import Moment, ms_of

#: Cloud's index may be so far behind the issues it shows: an issue changed just now can stand
#: where it stood before, with a time that is not its place's.
_SETTLING_MS = 5 * 60_000
_MOST_ROUNDS = 3
_MOST_RESTARTS = 8
_MOST_REPEATS = 4
#: Answers in a row that bring no issue we have not had: far beyond any honest run of ties.
_MOST_FRUITLESS = 2_000
#: A total that counts issues which never come is believed for so many empty answers.
_MOST_EMPTY = 4
_MOST_IDS_IN_CURSOR = 200
#: What a walk needs for itself.
BARE_FIELDS = ("created", "updated")
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


class _Answer(msgspec.Struct, rename="camel"):
    """A page of a search, of either kind of site."""

    issues: list[msgspec.Raw] = []
    next_page_token: str | None = None
    total: int | None = None


class _BareFields(msgspec.Struct):
    created: Moment | None = None
    updated: Moment | None = None


class _BareIssue(msgspec.Struct):
    id: str | int | None = None
    key: str | None = None
    fields: _BareFields | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    """One issue of an answer: a record, or a reject."""

    id: str
    time: int | None
    updated: int
    record: IssueRecord | None
    reject: Reject | None


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
        self._tokens: set[str] = set()
        self._restarts = self._repeats = self._fruitless = self._empty = 0
        self._round_is_new = True  # whether the present round brought anything
        self._ended = False

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

    def _step(self) -> list[_Row]:
        """Ask once, move on, and return what was not delivered before."""
        asked_ms = as_ms(utc_now())
        answer = self._ask()
        if answer is None:
            self._restart()
            return []
        rows = [self._row(raw) for raw in answer.issues]
        fresh: list[_Row] = []
        for row in rows:
            if row.id not in self._seen or self._seen[row.id][1] != row.updated:
                self._seen[row.id] = (row.time, row.updated)
                fresh.append(row)
        self._fruitless = 0 if fresh else self._fruitless + 1
        if self._fruitless > _MOST_FRUITLESS:
            raise SourceUnavailableError("jira: the search goes on and on without a new issue")
        if fresh:
            self._restarts = 0
            self._round_is_new = True
        self._move(rows, answer, asked_ms)
        return fresh

    def _ask(self) -> _Answer | None:
        """Search from where we stand; None if our token is refused."""
        place = self._place
        bounds = self._range if place.at is None else replace(self._range, from_ms=place.at)
        query: dict[str, Any] = {
            "jql": bounds.jql(ordered=True),
            "maxResults": self._page_size,
            "fields": self._fields,
        }
        if not self._client.site.cloud:
            query["startAt"] = place.start
            if self._fields != BARE_FIELDS:
                query["expand"] = ["changelog"]
        elif place.token:
            query["nextPageToken"] = place.token
        accept = {_BAD_REQUEST} if "nextPageToken" in query else ()
        response = self._client.site.search(query, accept=accept, stop=self._client.stop)
        if response.status_code == _BAD_REQUEST:
            return None
        return decode(_Answer, response, source="jira")

    def _move(self, rows: Sequence[_Row], answer: _Answer, asked_ms: int) -> None:
        times = [row.time for row in rows if row.time is not None]
        anchor = self._next_anchor(times, asked_ms)
        last = self._is_last(len(rows), answer)
        if anchor is None and not last:
            self._follow(len(rows), answer)
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

    def _go_to(self, place: Position) -> None:
        self._place = place
        self._tokens.clear()
        self._empty = 0
        self._round_is_new = False

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

    def _is_last(self, rows: int, answer: _Answer) -> bool:
        if self._client.site.cloud:
            # Not every answer says isLast: the token's absence is what ends a search.
            return not answer.next_page_token
        total = answer.total or 0
        if rows:
            self._empty = 0
            return self._place.start + rows == total
        self._empty += 1
        return total <= self._place.start or self._empty >= _MOST_EMPTY

    def _follow(self, rows: int, answer: _Answer) -> None:
        """Go on with the server's own paging, inside a run of equal times."""
        place = self._place
        token = answer.next_page_token
        if not self._client.site.cloud:
            # By what came, not by what was asked for: the server may give less.
            self._place = msgspec.structs.replace(place, start=place.start + rows)
        elif token in self._tokens or token == place.token:
            # Following it would go round in circles; the same question may get another answer.
            self._repeats += 1
            if self._repeats > _MOST_REPEATS:
                raise SourceUnavailableError("jira: the server repeats a page token")
        else:
            self._repeats = 0
            self._tokens.add(str(token))
            self._place = msgspec.structs.replace(place, token=token)

    def _restart(self) -> None:
        """Go back to the anchor: our token has expired."""
        self._restarts += 1
        if self._restarts > _MOST_RESTARTS:
            raise SourceUnavailableError("jira: the server keeps refusing its own page tokens")
        is_new = self._round_is_new
        self._go_to(Position(at=self._place.at, round=self._place.round))
        self._round_is_new = is_new

    def _row(self, raw: msgspec.Raw) -> _Row:
        by_created = self._range.order == "created"
        try:
            record = IssueRecord.read(raw)
        except msgspec.DecodeError as error:
            return _undecodable(raw, error, by_created=by_created)
        fields = record.issue.fields
        updated = ms_of(fields.updated)
        time = ms_of(fields.created) if by_created else updated
        return _Row(record.id, time, updated or 0, record, None)


def _undecodable(raw: msgspec.Raw, error: Exception, *, by_created: bool) -> _Row:
    try:
        bare = msgspec.json.decode(raw, type=_BareIssue)
    except msgspec.DecodeError:
        bare = _BareIssue()
    fields = bare.fields or _BareFields()
    updated = ms_of(fields.updated)
    time = ms_of(fields.created) if by_created else updated
    id_ = str(bare.id) if bare.id is not None else xxhash.xxh3_64_hexdigest(bytes(raw))
    reject = Reject(stage="extract", reason=str(error), key=bare.key, payload=raw)
    return _Row(id_, time, updated or 0, None, reject)


def _before(time: int | None, anchor: int) -> bool:
    # An issue without a time may come up anywhere, so it stays known.
    return time is not None and time < anchor
