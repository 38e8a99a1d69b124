"""Bisection of a page of a search that fails because of an issue that Jira cannot render.

One issue that Jira cannot render makes every search fail whose answer would hold it. Most can be
seen with fewer fields, or read one by one. The others are found by halving: a search for a
part of the projects, then of the keys, or of the time fails as long as the issue is in that part.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from temporaletl import ConfigurationError, Reject
from temporaletl.errors import ETLError
from temporaletl.external.jira.account import NotReportedError, Project, projects
from temporaletl.external.jira.site import IssueRange
from temporaletl.telemetry.logs import get_logger
from temporaletl.worker.sources.jira.extract.client import FAILURES, FEW_ATTEMPTS, JiraClient
from temporaletl.worker.sources.jira.extract.search_results import (
    BARE_FIELDS,
    Answer,
    BareIssue,
    Row,
    bare_of,
    read_answer,
    row_of,
)

log = get_logger("temporaletl.worker.sources.jira")

_MOST_KEYS = 1 << 31
#: Before and after it, in milliseconds, no issue was created: 557 years.
_MOST_MS = 1 << 44
#: Pages of issues of the very same time that are looked through for one.
_MOST_PAGES = 1_000


@dataclass(frozen=True, slots=True)
class Narrowed:
    """The result of a bisection: what could be read of a failing page.

    `answer` is the page as far as it could be seen. Where it could not be at all, `rows` is the
    one issue which is the reason, and searches with the filter `without` leave it out.
    """

    rows: list[Row]
    answer: Answer | None = None
    without: str | None = None
    notes: list[str] = field(default_factory=list)


class Narrowing:
    """The bisection of one page: the first issues of `bounds`, or those `tied` to one time."""

    def __init__(
        self,
        client: JiraClient,
        bounds: IssueRange,
        query: Mapping[str, Any],
        error: ETLError,
        *,
        tied: bool,
    ) -> None:
        """`query` is the search that failed with `error`, again and again."""
        self._client = client
        self._bounds = bounds
        self._query = query
        self._error = error
        self._tied = tied
        self._fields: Sequence[str] = query["fields"]
        self._by_created = bounds.order == "created"
        self._notes: list[str] = []

    def read(self) -> Narrowed:
        """Read what there is around the issue that cannot be shown, and that one by itself.

        Raises:
            ETLError: the error of the page, where it is the site's and not an issue's.
        """
        if not self._client.may_narrow(self._error):
            raise self._error
        if self._fields != BARE_FIELDS and (bare := self._bare()) is not None:
            return Narrowed(self._by_parts(bare.issues), bare, notes=self._notes)
        if self._fails(f"{self._bounds.order} is EMPTY"):
            raise self._error  # no issue is like that: it is the site that fails
        row, without = self._unrenderable_issue()
        return Narrowed([row] if row else [], without=without, notes=self._notes)

    def _search(self, query: Mapping[str, Any], *, attempts: int | None = FEW_ATTEMPTS) -> Answer:
        site, stop = self._client.site, self._client.stop
        return site.search(
            query,
            read=lambda answer: read_answer(answer, cloud=site.cloud),
            stop=stop,
            attempts=attempts,
        )

    def _bare(self) -> Answer | None:
        query = {**self._query, "fields": BARE_FIELDS}
        query.pop("expand", None)
        try:
            return self._search(query)
        except (*FAILURES, ConfigurationError):
            return None

    def _by_parts(self, found: Sequence[msgspec.Raw]) -> list[Row]:
        """Read the issues of a page that could be seen bare, in its order."""
        bare = {str(b.id): b for b in map(bare_of, found) if b.id is not None}
        rows: dict[str, Row | None] = {}
        if bare:
            self._read_part(list(bare), bare, rows)
        read = [row for row in map(rows.get, bare) if row is not None]
        if len(read) > 1 and all(row.record is None for row in read):
            raise self._error
        return read

    def _read_part(
        self, ids: Sequence[str], bare: Mapping[str, BareIssue], rows: dict[str, Row | None]
    ) -> None:
        if len(ids) == 1:
            rows[ids[0]] = self._single(ids[0], bare[ids[0]])
            return
        query = {**self._query, "jql": f"id in ({', '.join(ids)})", "maxResults": len(ids)}
        query.pop("nextPageToken", None)
        query.pop("startAt", None)
        try:
            found = [row_of(raw, by_created=self._by_created) for raw in self._search(query).issues]
        except (*FAILURES, ConfigurationError) as error:
            if isinstance(error, FAILURES) and not self._client.may_narrow(error):
                raise
            found = []
        rows.update({row.id: row for row in found})
        missing = [id_ for id_ in ids if id_ not in rows]
        for part in (missing[: len(missing) // 2], missing[len(missing) // 2 :]):
            if part:
                self._read_part(part, bare, rows)

    def _single(self, name: str, bare: BareIssue) -> Row | None:
        """Read one issue by its id or key; None where there is none, a reject where it fails."""
        params: dict[str, Any] = {"fields": ",".join(self._fields)}
        if "expand" in self._query:
            params["expand"] = "changelog"
        try:
            raw = self._patiently(f"issue/{name}", params)
        except FAILURES as error:
            if not self._client.may_narrow(error):
                raise
            log.warning("issue_not_readable", issue=name, error=str(error))
            key = bare.key or name
            reject = Reject(
                stage="extract",
                reason=f"issue {key} cannot be read, neither by a search nor by itself: {error}",
                key=key,
                payload={"id": bare.id, "key": bare.key},
            )
            time = bare.time(by_created=self._by_created)
            return Row(str(bare.id or name), time, bare.time(by_created=False) or 0, reject=reject)
        if raw is None:
            return None
        self._notes.append(f"no search can show issue {bare.key or name}: it is read by itself")
        return row_of(raw, by_created=self._by_created)

    def _patiently(self, path: str, params: Mapping[str, Any]) -> msgspec.Raw | None:
        """Read with few attempts, then with all; an issue that fails both is skipped."""
        try:
            return self._client.read(msgspec.Raw, path, attempts=FEW_ATTEMPTS, **params)
        except FAILURES as error:
            if not self._client.may_narrow(error):
                raise
        return self._client.read(msgspec.Raw, path, **params)

    def _unrenderable_issue(self) -> tuple[Row | None, str]:
        """Find one issue that makes the page fail; return it, and a filter that leaves it out."""
        if (key := self._key()) is not None:
            log.warning("issue_not_searchable", key=key, error=str(self._error))
            return self._single(key, self._named(key)), f'key != "{key}"'
        if not self._tied and (timestamp := self._timestamp()) is not None:
            order = self._bounds.order
            reason = f"an issue {order} at {timestamp} ms since 1970 cannot be read: {self._error}"
            payload = {order: timestamp}
            reject = Reject(stage="extract", reason=reason, key=None, payload=payload)
            row = Row(f"{order} {timestamp}", timestamp, timestamp, reject=reject)
            return row, f"{order} < {timestamp} OR {order} > {timestamp}"
        raise self._error

    def _named(self, key: str) -> BareIssue:
        try:
            found = self._client.read(
                BareIssue, f"issue/{key}", attempts=FEW_ATTEMPTS, fields=",".join(BARE_FIELDS)
            )
        except FAILURES:
            found = None
        if found is None:
            return BareIssue(key=key)
        return BareIssue(id=found.id, key=key, fields=found.fields)

    def _key(self) -> str | None:
        try:
            project = self._project()
            if project is None:
                return None
            ours = f"project = {project.id} AND key"
            above = _smallest(1, _MOST_KEYS, lambda n: self._fails(f'{ours} < "{project.key}-{n}"'))
            key = f"{project.key}-{(above or 1) - 1}"
            return key if self._fails(f'key = "{key}"', attempts=None) else None
        except ConfigurationError as error:
            # Not every site compares keys that it does not have.
            log.warning("keys_not_comparable", error=str(error))
            return None

    def _project(self) -> Project | None:
        try:
            some = list(projects(self._client.site))
        except (NotReportedError, *FAILURES) as error:
            log.warning("projects_not_told", error=str(error))
            return None
        while len(some) > 1:
            half = some[: len(some) // 2]
            among = f"project in ({', '.join(project.id for project in half)})"
            some = half if self._fails(among) else some[len(half) :]
        return some[0] if some else None

    def _timestamp(self) -> int | None:
        order, begin = self._bounds.order, self._bounds.from_ms
        lowest = -_MOST_MS // 2 if begin is None else begin
        above = _smallest(lowest, _MOST_MS, lambda n: self._fails(f"{order} < {n}"))
        if above is None or not self._fails(f"{order} = {above - 1}", attempts=None):
            return None
        return above - 1

    def _fails(self, clause: str, *, attempts: int | None = FEW_ATTEMPTS) -> bool:
        """Whether the search fails even for that part of the page."""
        bounds = replace(self._bounds, filters=(*self._bounds.filters, clause))
        query = {**self._query, "jql": bounds.jql(ordered=True), "fields": BARE_FIELDS}
        query.pop("expand", None)
        query.pop("nextPageToken", None)
        if "startAt" in query:
            query["startAt"] = 0
        # Issues of the very same time may be more than one answer holds.
        for _ in range(_MOST_PAGES if self._tied else 1):
            try:
                answer = self._search(query, attempts=attempts)
            except FAILURES as error:
                if not self._client.may_narrow(error):
                    raise
                return True
            if self._client.site.cloud:
                if not answer.next_page_token:
                    break
                query["nextPageToken"] = answer.next_page_token
            else:
                query["startAt"] += len(answer.issues)
                if not answer.issues or query["startAt"] >= (answer.total or 0):
                    break
        return False


def _smallest(above: int, within: int, fits: Callable[[int], bool]) -> int | None:
    """Return the smallest number above one that fits, where all that are larger fit as well."""
    step = 1
    while not fits(above + step):
        step *= 2
        if step > within:
            return None
    low, high = above + step // 2, above + step
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            high = middle
        else:
            low = middle
    return high
