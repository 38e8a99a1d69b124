"""The ids of all issues, in several stretches of time at once, resumable on every page.

Cloud gives thousands of ids in one answer, where nothing else is requested of an issue; by the
page tokens of a search, which has no high-water mark then: an issue may be left out where others
come or go meanwhile. Data Center gives no more ids than issues, and is read by keyset pagination;
so is a stretch of which a search for ids fails.
"""

from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import msgspec
import requests
from pydantic import JsonValue

from temporaletl import ConfigurationError, SourceUnavailableError
from temporaletl.clock import utc_now
from temporaletl.external.headway import Headway
from temporaletl.external.jira.site import IssueRange, as_ms
from temporaletl.worker.sources.jira.extract.client import FAILURES, JiraClient
from temporaletl.worker.sources.jira.extract.keyset import KeysetPagination
from temporaletl.worker.sources.jira.extract.search_results import (
    BARE_FIELDS,
    Answer,
    bare_of,
    read_answer,
)

#: As many as a search may ever give; a site gives fewer.
_IDS_AT_ONCE = 5_000
_ISSUES_AT_ONCE = 1_000
#: At most: a cursor names each one that is not read to its end.
_MOST_STRETCHES = 64
_MOST_RESTARTS = 8
_BAD_REQUEST = 400


class Stretch(msgspec.Struct, omit_defaults=True):
    """What is left of the issues that were created in [from_ms, to_ms), None unbounded.

    `token` is the next page's, in a search for ids; `keyset` the cursor of a keyset pagination,
    null at its beginning.
    """

    from_ms: int | None = None
    to_ms: int | None = None
    token: str | None = None
    keyset: Any = msgspec.UNSET


class Position(msgspec.Struct):
    """The state of a listing; as JSON it is its cursor."""

    stretches: list[Stretch]


@dataclass(frozen=True, slots=True)
class _Page:
    ids: Collection[str]
    left: Stretch | None  # None: the stretch was read to its end


def list_ids(
    client: JiraClient, issues: IssueRange, position: JsonValue
) -> Iterator[tuple[Collection[str], JsonValue]]:
    """Yield the ids of issues from a position on, and the position behind them.

    Blocks, and not in one of the site's threads: it waits for these. An issue may come twice, and
    one may be left out that was there all the time.

    Raises:
        ConfigurationError: the position is none of a listing's.
        ETLError: as `JiraSite.search`.
    """
    left = _stretches(client, issues, position)
    reading: dict[Future[_Page], tuple[int, _Reader]] = {}
    waiting = iter([*left])

    def read_on(number: int, reader: _Reader) -> None:
        reading[client.site.submit(reader.next)] = (number, reader)

    try:
        while left:
            while len(reading) < client.site.settings.concurrency:
                if (number := next(waiting, None)) is None:
                    break
                read_on(number, _Reader(client, issues, left[number]))
            found: list[str] = []
            for done in wait(reading, return_when=FIRST_COMPLETED).done:
                number, reader = reading.pop(done)
                page = done.result()
                found += page.ids
                if page.left is None:
                    del left[number]
                else:
                    left[number] = page.left
                    # Its next page is under way while this one is taken.
                    read_on(number, reader)
            yield found, msgspec.to_builtins(Position([*left.values()]))
    finally:
        for future in reading:
            future.cancel()


def _stretches(client: JiraClient, issues: IssueRange, position: JsonValue) -> dict[int, Stretch]:
    if isinstance(position, dict) and "stretches" in position:
        try:
            found = msgspec.convert(position, Position).stretches
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"no cursor of a list of Jira's issues: {error}") from None
    elif position is not None:
        # As it was kept when there was one stretch, read by keyset pagination.
        found = [Stretch(keyset=position)]
    else:
        found = _divided(client, issues)
    return dict(enumerate(found))


def _divided(client: JiraClient, issues: IssueRange) -> list[Stretch]:
    """Divide all time from the oldest issue on, the newest first: there are the most."""
    at_once = _IDS_AT_ONCE if client.site.cloud else _ISSUES_AT_ONCE
    start = client.site.submit(client.site.count, issues).result()
    number = min(_MOST_STRETCHES, start // at_once + 1)
    low = None if number == 1 else client.site.submit(_oldest, client, issues).result()
    if low is None:
        return [Stretch()]
    high = max(as_ms(utc_now()), low + number)
    bounds = [None, *(low + (high - low) * n // number for n in range(1, number)), None]
    return [Stretch(*ends) for ends in reversed([*pairwise(bounds)])]


def _oldest(client: JiraClient, issues: IssueRange) -> int | None:
    query = {"jql": issues.jql(ordered=True), "maxResults": 1, "fields": BARE_FIELDS}
    found = _search(client, query).issues
    return bare_of(found[0]).time(by_created=True) if found else None


def _search(client: JiraClient, query: dict[str, Any]) -> Answer:
    site = client.site
    return site.search(
        query, read=lambda answer: read_answer(answer, cloud=site.cloud), stop=client.stop
    )


@dataclass(slots=True)
class _Reader:
    """Reads one stretch, page by page. Blocks."""

    client: JiraClient
    issues: IssueRange
    stretch: Stretch
    restarts: int = 0
    pagination: KeysetPagination | None = None
    headway: Headway = field(init=False)

    def __post_init__(self) -> None:
        self.headway = Headway("jira: the search for ids", begin=self.stretch.token)

    def next(self) -> _Page:
        if self.stretch.keyset is msgspec.UNSET and self.client.site.cloud:
            try:
                return self._ids()
            except FAILURES as error:
                if not self.client.may_narrow(error):
                    raise
        return self._keyset()

    @property
    def _range(self) -> IssueRange:
        stretch = self.stretch
        return replace(self.issues, from_ms=stretch.from_ms, to_ms=stretch.to_ms)

    def _keyset(self) -> _Page:
        stretch = self.stretch
        if self.pagination is None:
            cursor = None if stretch.keyset is msgspec.UNSET else stretch.keyset
            self.pagination = KeysetPagination(
                self.client, self._range, _ISSUES_AT_ONCE, cursor, fields=BARE_FIELDS
            )
        page = self.pagination.next()
        if page is None:
            return _Page((), None)
        self.stretch = Stretch(stretch.from_ms, stretch.to_ms, keyset=page.cursor)
        return _Page(page.ids, self.stretch)

    def _ids(self) -> _Page:
        stretch = self.stretch
        query: dict[str, Any] = {
            "jql": self._range.jql(ordered=True),
            "maxResults": _IDS_AT_ONCE,
            "fields": ["id"],
        }
        if stretch.token is not None:
            query["nextPageToken"] = stretch.token

        def read(response: requests.Response) -> Answer | None:
            if response.status_code == _BAD_REQUEST:
                return None
            return read_answer(response, cloud=True)

        accept = () if stretch.token is None else {_BAD_REQUEST}
        answer = self.client.site.search(query, read=read, accept=accept, stop=self.client.stop)
        if answer is None:
            return self._restart()
        ids = [str(bare.id) for bare in map(bare_of, answer.issues) if bare.id is not None]
        token = answer.next_page_token
        if not token:
            return _Page(ids, None)
        if self.headway.leads_on(token, rows=len(ids)):
            self.stretch = Stretch(stretch.from_ms, stretch.to_ms, token=token)
        return _Page(ids, self.stretch)

    def _restart(self) -> _Page:
        """Begin the stretch anew: its page token has expired."""
        self.restarts += 1
        if self.restarts > _MOST_RESTARTS:
            raise SourceUnavailableError("jira: the server keeps refusing its own page tokens")
        self.headway.begin_anew()
        self.stretch = Stretch(self.stretch.from_ms, self.stretch.to_ms)
        return _Page((), self.stretch)
