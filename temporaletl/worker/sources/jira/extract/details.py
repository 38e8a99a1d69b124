"""The complete comments, worklogs and changelog of an issue, less entries Jira cannot give."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from temporaletl import RecordError
from temporaletl.errors import ETLError
from temporaletl.external.answers import decode_record
from temporaletl.external.threads import Begun
from temporaletl.telemetry.logs import get_logger
from temporaletl.worker.sources.jira.extract.client import FAILURES, FEW_ATTEMPTS, JiraClient
from temporaletl.worker.sources.jira.issue import Comment, History, Id, Worklog

log = get_logger("temporaletl.worker.sources.jira")

#: An issue's list could be read, but an entry of it is not what it should be.
DetailError = RecordError

_LIST_PAGE = 100
#: Pages of one list that are requested at once.
_MOST_AHEAD = 8
_MOST_PASSES = 3
_MOST_EMPTY = 4
#: Pages in a row of entries that came before: the server does not heed where they shall begin.
_MOST_KNOWN = 4
#: Of the issues found lately, so many may fail as well before it is the site's fault.
_MOST_NEIGHBOURS = 3
#: Entries that fail one after the other: not they do, but the list.
_MOST_FAILING = 3


class _Entry(Protocol):
    @property
    def id(self) -> Id: ...


@dataclass(frozen=True, slots=True)
class Listing[E]:
    """A list of an issue. `failed` are reasons for missing entries; empty where it is complete."""

    entries: list[E]
    failed: list[str] = field(default_factory=list)


class _Page(msgspec.Struct, rename="camel", kw_only=True):
    """A page of a list; each kind has its entries under a name of its own."""

    total: int | None = None
    is_last: bool | None = None

    @property
    def entries(self) -> list[msgspec.Raw]:
        raise NotImplementedError


class _Comments(_Page, kw_only=True):
    comments: list[msgspec.Raw]

    @property
    def entries(self) -> list[msgspec.Raw]:
        return self.comments


class _Worklogs(_Page, kw_only=True):
    worklogs: list[msgspec.Raw]

    @property
    def entries(self) -> list[msgspec.Raw]:
        return self.worklogs


class _Changelog(_Page, kw_only=True):
    values: list[msgspec.Raw]

    @property
    def entries(self) -> list[msgspec.Raw]:
        return self.values


class _Histories(msgspec.Struct):
    histories: list[msgspec.Raw]
    total: int | None = None


class _WithChangelog(msgspec.Struct):
    changelog: _Histories


class _Bare(msgspec.Struct):
    id: Id


def read_comments(client: JiraClient, issue_id: str) -> Listing[Comment] | None:
    """Return all comments of an issue, None if there is no such list. Blocks.

    Raises:
        DetailError: an entry is not what it should be.
        ETLError: as `JiraSite.request`, unless it is this list alone that fails.
    """
    return _read_list(client, issue_id, "comment", _Comments, Comment)


def read_worklogs(client: JiraClient, issue_id: str) -> Listing[Worklog] | None:
    """Return all worklogs of an issue; otherwise as `read_comments`."""
    return _read_list(client, issue_id, "worklog", _Worklogs, Worklog)


def read_changelog(client: JiraClient, issue_id: str) -> Listing[History] | None:
    """Return all histories of an issue; otherwise as `read_comments`.

    Data Center has no list of them: there the issue itself holds all of it.
    """
    if client.site.cloud:
        return _read_list(client, issue_id, "changelog", _Changelog, History)
    path = f"issue/{issue_id}"

    def fetch() -> _WithChangelog | None:
        return client.read(_WithChangelog, path, fields="created", expand="changelog")

    try:
        found = fetch()
    except FAILURES as error:
        if not _fails_alone(client, issue_id, error):
            raise
        try:
            found = fetch()  # the site is well: so it is the list, or it was bad luck
        except FAILURES as again:
            return Listing([], [str(again)])
    if found is None:
        return None
    histories = [decode_record(History, raw) for raw in found.changelog.histories]
    _check_total(path, len(histories), found.changelog.total)
    return Listing(histories)


def is_there(client: JiraClient, issue_id: str) -> bool:
    """Whether Jira has an issue. Blocks; raises as `JiraSite.request`."""
    return client.read(_Bare, f"issue/{issue_id}", fields="created") is not None


def _fails_alone(client: JiraClient, issue_id: str, error: ETLError) -> bool:
    """Whether the requested list failed by itself, and not the site.

    Then the issue itself answers, or others do: an issue may fail at every request.
    """
    if not client.may_narrow(error):
        return False
    try:
        is_there(client, issue_id)
    except FAILURES as again:
        return client.may_narrow(again) and _others_answer(client, issue_id)
    return True


def _others_answer(client: JiraClient, issue_id: str) -> bool:
    known = client.neighbours
    others = [id_ for id_ in known if id_ != issue_id][-_MOST_NEIGHBOURS:]
    for other in others:
        try:
            client.read(_Bare, f"issue/{other}", attempts=FEW_ATTEMPTS, fields="created")
        except FAILURES as error:
            if not client.may_narrow(error):
                return False
        else:
            return True
    if others:
        return False
    try:
        client.read(msgspec.Raw, "serverInfo", attempts=FEW_ATTEMPTS)
    except FAILURES:
        return False
    return True


def _read_list[E: _Entry](
    client: JiraClient, issue_id: str, name: str, page: type[_Page], kind: type[E]
) -> Listing[E] | None:
    """Read a list to its end, and again where it changed meanwhile or lacks what it counts."""
    found: dict[str, E] = {}
    path = f"issue/{issue_id}/{name}"
    for _ in range(_MOST_PASSES):
        known = len(found)
        pages = _Pages(client, issue_id, path)
        if not pages.read(page, kind, found):
            return None
        if pages.failed:
            return Listing(list(found.values()), pages.failed)
        total = max(pages.totals, default=None)
        if len(pages.totals) <= 1 and (total is None or len(found) >= total):
            break
        if len(found) == known:
            _check_total(path, known, min(pages.totals, default=None))
            break
    return Listing(list(found.values()))


class _Pages:
    """One pass over the pages of a list, which skips each entry that Jira cannot give.

    A list is read from its beginning, also where the search brought some of it: that shows what was
    deleted meanwhile. Once two pages showed how long they are, the others are requested at once.
    """

    def __init__(self, client: JiraClient, issue_id: str, path: str) -> None:
        self.totals: set[int] = set()  # as the pages reported them
        self.failed: list[str] = []
        self._client = client
        self._issue_id = issue_id
        self._path = path
        self._start = 0
        self._size = _LIST_PAGE
        self._failing = 0  # entries in a row
        self._met: set[str] = set()  # ids
        self._repeated = 0  # pages in a row
        self._doubted: int | None = None  # the entry that failed by itself, and is requested again
        self._length = 0  # of the latest page, where all of it was new
        self._ahead: dict[int, Begun[_Page | None]] = {}  # by where they start

    def read[E: _Entry](self, page: type[_Page], kind: type[E], found: dict[str, E]) -> bool:
        """Add each entry; False where there is no such list."""
        try:
            return self._read(page, kind, found)
        finally:
            self._leave_ahead()

    def _read[E: _Entry](self, page: type[_Page], kind: type[E], found: dict[str, E]) -> bool:
        empty = 0
        while empty < _MOST_EMPTY:
            begun = self._ahead.pop(self._start, None)
            try:
                answer = self._fetch(page, self._start) if begun is None else begun.result()
            except FAILURES as error:
                self._leave_ahead()
                if not self._narrow(error):
                    raise
                if self._failing >= _MOST_FAILING:
                    first = self._start - self._failing + 1
                    self.failed[-self._failing :] = [f"all from place {first} on: {error}"]
                    return True
                continue
            if answer is None:
                return False
            known = len(found)
            self._add(answer.entries, kind, found)
            if self._repeated > _MOST_KNOWN:
                self.failed.append(
                    f"from place {self._start + 1} on, only entries that came before"
                )
                return True
            # By what came: the server may give less than is requested.
            self._start += len(answer.entries)
            self._size = min(2 * self._size, _LIST_PAGE)
            self._failing = 0
            empty = 0 if answer.entries else empty + 1
            if answer.total is None:
                # Nothing to compare with: what brings nothing new is the end.
                if answer.is_last or len(found) == known:
                    break
            else:
                self.totals.add(answer.total)
                if self._start >= answer.total:
                    break
                self._read_ahead(page, len(answer.entries), answer.total)
        return True

    def _fetch(self, page: type[_Page], start: int) -> _Page | None:
        # A single entry gets all attempts before it counts as unreadable.
        attempts = FEW_ATTEMPTS if 1 < self._size < _LIST_PAGE else None
        return self._client.read(
            page, self._path, attempts=attempts, startAt=start, maxResults=self._size
        )

    def _read_ahead(self, page: type[_Page], length: int, total: int) -> None:
        """Begin to request the pages behind one of such a length, if that is what they have."""
        all_new = self._repeated == 0
        if all_new and self._size == _LIST_PAGE and 0 < length == self._length:
            end = min(total, self._start + _MOST_AHEAD * length)
            for start in range(self._start, end, length):
                if start not in self._ahead:
                    self._ahead[start] = self._client.site.begin(self._fetch, page, start)
        self._length = length if all_new else 0

    def _leave_ahead(self) -> None:
        while self._ahead:
            self._ahead.popitem()[1].abandon()

    def _add[E: _Entry](
        self, entries: Sequence[msgspec.Raw], kind: type[E], found: dict[str, E]
    ) -> None:
        """Add a page's entries, and count the pages in a row that held none that is new."""
        met = len(self._met)
        for raw in entries:
            entry = decode_record(kind, raw)
            found[str(entry.id)] = entry
            self._met.add(str(entry.id))
        self._repeated = 0 if len(self._met) > met else self._repeated + bool(entries)

    def _narrow(self, error: ETLError) -> bool:
        """Halve the page size, or skip an entry that fails alone; False if the site fails."""
        if self._size == _LIST_PAGE and not _fails_alone(self._client, self._issue_id, error):
            return False
        if not self._client.may_narrow(error):
            return False
        if self._size > 1:
            self._size //= 2
        elif self._doubted != self._start:
            self._doubted = self._start
        else:
            self.failed.append(f"the one at place {self._start + 1}: {error}")
            self._start += 1
            self._failing += 1
        return True


def _check_total(path: str, found: int, total: int | None) -> None:
    """Log a list that is shorter than its total: some sites count entries that nobody may see."""
    if total is not None and found < total:
        log.warning("list_shorter_than_its_total", path=path, found=found, total=total)
