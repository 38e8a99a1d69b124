"""The data of one Jira site: issues, people, and the catalogues that describe them."""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, Protocol
from uuid import NAMESPACE_URL, uuid5
from zoneinfo import ZoneInfo

import xxhash

from tests.fakes.jira.catalogue import SYSTEM_FIELDS, Catalogue
from tests.fakes.jira.timestamps import Clockface

Json = dict[str, Any]

_PEOPLE = ("creator", "reporter")


class Personality(StrEnum):
    """The kind of Jira: Cloud or Server."""

    CLOUD = "cloud"
    SERVER = "server"


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much each kind of answer holds. The service may always return less than requested."""

    #: Comments inside an issue's fields on Cloud; Server gives all.
    inline_comments: int = 100
    inline_worklogs: int = 20
    #: Histories of `expand=changelog` on Cloud, in a search and on one issue; Server gives all.
    search_histories: int = 40
    issue_histories: int = 100
    #: Issues of a search page with fields, and with nothing beyond id and key (Cloud).
    search_page: int = 100
    id_page: int = 5_000
    #: A page of an issue's changelog, comments or worklogs.
    detail_page: int = 100
    #: Histories of one page of the bulk changelog: by default, and at most.
    bulk_page: int = 1_000
    bulk_page_most: int = 10_000
    worklog_ids_page: int = 1_000
    #: How the bulk changelog writes `created`: epoch milliseconds, text, or both by turns.
    bulk_created: Literal["epoch", "iso", "mixed"] = "epoch"
    #: Cloud leaves `isLast` out of some search pages.
    is_last: Literal["always", "sometimes", "never"] = "sometimes"
    #: Worklogs changed within the last so many milliseconds are not listed as updated yet.
    worklogs_withheld_ms: int = 60_000


@dataclass(slots=True)
class User:
    """One account. `person` is the JSON that issues embed; its e-mail may be hidden there."""

    id: str
    name: str
    time_zone: str
    person: Json


#: Whose credentials clients use where the data name nobody.
_READER = User(
    id="reader",
    name="Reader",
    time_zone="UTC",
    person={"accountId": "reader", "key": "reader", "name": "reader", "displayName": "Reader"},
)


@dataclass(slots=True)
class Issue:
    """All of one issue, in Jira's own shapes.

    Times are text as found or epoch milliseconds; histories, comments and worklogs are oldest
    first. Rich text is wiki text or a document, whichever it was made as.
    """

    fields: Json
    histories: list[Json] = field(default_factory=list)
    comments: list[Json] = field(default_factory=list)
    worklogs: list[Json] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Row:
    """What searches need of one issue, cheap enough to keep for every one of them."""

    id: int
    key: str
    project: str
    sequence: int
    created: int
    updated: int
    status: str
    issuetype: str
    assignee: str | None = None
    labels: tuple[str, ...] = ()
    #: Place in the generated series; -1 for an issue that only exists as `issue`.
    index: int = -1
    #: The issue itself, once it differs from the generated one at its index.
    issue: Issue | None = None
    revision: int = 0


class Series(Protocol):
    """A generated series: issues are derived from their index on every use."""

    def issue(self, row: Row) -> Issue:
        """Generate an issue."""

    def worklogs(self, row: Row) -> list[Json]:
        """Generate only the issue's worklogs, the same ones."""

    def worklog_row(self, worklog_id: int) -> int | None:
        """Return the index of the issue that would hold a worklog id."""


class Site:
    """One Jira. Safe to change (see `edit`) while it is being served."""

    def __init__(
        self,
        personality: Personality | str,
        catalogue: Catalogue,
        users: Iterable[User],
        rows: Iterable[Row],
        *,
        series: Series | None = None,
        limits: Limits | None = None,
        time_zone: str = "UTC",
        clock: Callable[[], int] | None = None,
    ) -> None:
        # The editor needs the model above, so it is imported when there is a site to edit.
        from tests.fakes.jira.edit import Editor  # noqa: PLC0415

        self.personality = Personality(personality)
        self.catalogue = catalogue
        self.users = {user.id: user for user in users}
        self.rows = list(rows)
        self.by_id = {row.id: row for row in self.rows}
        self.by_key = {row.key: row for row in self.rows}
        self.series = series
        self.limits = limits or Limits()
        self.face = Clockface(ZoneInfo(time_zone))
        self.clock = clock or (lambda: time.time_ns() // 1_000_000)
        #: Whose credentials clients use; JQL text dates are read in this person's time zone.
        self.owner: User | None = next(iter(self.users.values()), _READER)
        self.base_url = "http://127.0.0.1"
        #: The site's own id, which stays when it is served elsewhere.
        self.identity = str(uuid5(NAMESPACE_URL, f"{personality} {sorted(catalogue.projects)}"))
        self.lock = threading.RLock()
        #: Moves with every change, so that whoever caches knows.
        self.version = 0
        #: Moves when an issue comes or goes.
        self.membership = 0
        self.deleted_worklogs: list[tuple[int, int]] = []
        self.hidden_projects: set[str] = set()
        #: Whether the account is anonymous, and sees no issue.
        self.closed = False
        self.null_people = 0.0
        self.shape_seed = 0
        self.edit = Editor(self)

    @property
    def cloud(self) -> bool:
        return self.personality is Personality.CLOUD

    def bind(self, base_url: str) -> None:
        """Take the address, which people's links contain."""
        with self.lock:
            for user in self.users.values():
                link = user.person.get("self")
                if link is None or link.startswith(self.base_url):
                    query = "accountId" if self.cloud else "username"
                    user.person["self"] = f"{base_url}/rest/api/2/user?{query}={user.id}"
            self.base_url = base_url
            self.version += 1

    def find(self, id_or_key: str) -> Row | None:
        """Return the visible issue with this id or key."""
        row = self.by_id.get(int(id_or_key)) if id_or_key.isdecimal() else None
        row = row or self.by_key.get(id_or_key.upper())
        if row is None or self.closed or row.project in self.hidden_projects:
            return None
        return row

    def issue(self, row: Row) -> Issue:
        """Return all of an issue; change it only through `edit`."""
        if row.issue is not None:
            return row.issue
        if self.series is None:
            raise LookupError(f"{row.key} has no content")
        issue = self.series.issue(row)
        issue.fields["updated"] = row.updated
        self.strip_people(row, issue)
        return issue

    def pin(self, row: Row) -> Issue:
        """Return the issue in a stored form, so that it can be changed."""
        if row.issue is None:
            row.issue = self.issue(row)
        return row.issue

    def worklogs(self, row: Row) -> list[Json]:
        """Return the issue's worklogs, if possible without generating the rest of it."""
        if row.issue is None and self.series is not None:
            return self.series.worklogs(row)
        return self.issue(row).worklogs

    def worklog_row(self, worklog_id: int) -> Row | None:
        """Return the issue that has this worklog."""
        index = self.series.worklog_row(worklog_id) if self.series is not None else None
        if index is not None and index < len(self.rows):
            # Rows are only ever appended or removed, so an index is at most off to the left.
            for row in self.rows[index::-1]:
                if row.index == index:
                    return row
                if row.index < index:
                    return None
        for row in self.rows:
            if row.issue is not None and any(
                int(each["id"]) == worklog_id for each in row.issue.worklogs
            ):
                return row
        return None

    def changed(self, row: Row) -> None:
        """Invalidate the cached views of the issue and of searches."""
        row.revision += 1
        self.version += 1

    def hide_project(self, key: str) -> None:
        """Revoke the permission to browse a project: its issues vanish, as in Jira."""
        with self.lock:
            self.hidden_projects.add(key)
            self.version += 1

    def show_project(self, key: str) -> None:
        """Restore the permission to browse a project."""
        with self.lock:
            self.hidden_projects.discard(key)
            self.version += 1

    def fields(self) -> list[Json]:
        """Return the definitions of all fields, the system's first."""
        return SYSTEM_FIELDS + list(self.catalogue.custom_fields.values())

    def shape_ties(self, rate: float, seed: int = 0) -> None:
        """Give a share of the issues one `updated`, as a bulk change does."""
        with self.lock:
            newest = max((row.updated for row in self.rows), default=0)
            for row in self.rows:
                if _chance(seed, "ties", row.id) < rate:
                    row.updated = newest
                    if row.issue is not None:
                        row.issue.fields["updated"] = newest
                    self.changed(row)

    def shape_null_people(self, rate: float, seed: int = 0) -> None:
        """Make a share of the people in issues null, or leave them out."""
        with self.lock:
            self.null_people, self.shape_seed = rate, seed
            for row in self.rows:
                if _chance(seed, "assignee", row.id) < rate:
                    row.assignee = None
                    if row.issue is not None:
                        row.issue.fields["assignee"] = None
                if row.issue is not None:
                    self.strip_people(row, row.issue)
                self.changed(row)

    def strip_people(self, row: Row, issue: Issue) -> None:
        if not self.null_people:
            return
        self._strip(row, issue.fields, _PEOPLE)
        for history in issue.histories:
            self._strip(row, history, ("author",))
        for each in (*issue.comments, *issue.worklogs):
            self._strip(row, each, ("author", "updateAuthor"))

    def _strip(self, row: Row, holder: Json, names: tuple[str, ...]) -> None:
        for name in names:
            draw = _chance(self.shape_seed, name, row.id, holder.get("id", ""))
            if draw < self.null_people / 2:
                holder[name] = None
            elif draw < self.null_people:
                holder.pop(name, None)


def _chance(*parts: object) -> float:
    return xxhash.xxh3_64_intdigest("|".join(map(str, parts)).encode()) / 2**64
