"""The complete lists of an issue, whatever a search cuts off."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import msgspec
import structlog

from temporaletl.external.answers import decode
from worker.sources.jira.extract.client import JiraClient
from worker.sources.jira.issue import Comment, History, Id, Worklog

log = structlog.get_logger("worker.sources.jira")

#: An issue's list could be read, but an entry of it is not what it should be.
DetailError = msgspec.ValidationError

_LIST_PAGE = 100
_MOST_ROUNDS = 3
_MOST_EMPTY = 4
_MOST_RESTARTS = 4
_MOST_REPEATS = 4
_BULK_ISSUES = 1_000
_BULK_HISTORIES = 1_000
#: The endpoint is missing, or one of the issues is gone and it refuses them all; 400 also for a
#: page token that has expired.
_NO_BULK = frozenset({400, 404, 405})


class _Entry(Protocol):
    @property
    def id(self) -> Id: ...


class _Listed(msgspec.Struct, rename="camel"):
    """A page of an issue's comments, worklogs or changelog, each under its own name."""

    total: int | None = None
    is_last: bool | None = None
    comments: list[msgspec.Raw] | None = None
    worklogs: list[msgspec.Raw] | None = None
    values: list[msgspec.Raw] | None = None
    histories: list[msgspec.Raw] | None = None

    @property
    def entries(self) -> list[msgspec.Raw]:
        return self.comments or self.worklogs or self.values or self.histories or []


class _BulkLog(msgspec.Struct, rename="camel"):
    issue_id: Id
    change_histories: list[msgspec.Raw] | None = None


class _Bulk(msgspec.Struct, rename="camel"):
    issue_change_logs: list[_BulkLog] | None = None
    next_page_token: str | None = None


class _WithChangelog(msgspec.Struct):
    changelog: _Listed | None = None


def read_comments(client: JiraClient, issue_id: str) -> list[Comment] | None:
    """Return all comments of an issue, None if it is gone. Blocks."""
    return _read_list(client, f"issue/{issue_id}/comment", Comment)


def read_worklogs(client: JiraClient, issue_id: str) -> list[Worklog] | None:
    """Return all worklogs of an issue, None if it is gone. Blocks."""
    return _read_list(client, f"issue/{issue_id}/worklog", Worklog)


def read_changelog(client: JiraClient, issue_id: str) -> list[History] | None:
    """Return all histories of an issue, None if it is gone. Blocks.

    Data Center has no list of them: there the issue itself holds all of it.
    """
    if client.site.cloud:
        return _read_list(client, f"issue/{issue_id}/changelog", History)
    found = client.read(_WithChangelog, f"issue/{issue_id}", fields="created", expand="changelog")
    if found is None or found.changelog is None:
        return None
    histories = [msgspec.json.decode(raw, type=History) for raw in found.changelog.entries]
    _check_total(f"issue/{issue_id}", len(histories), found.changelog.total)
    return histories


def _read_list[E: _Entry](client: JiraClient, path: str, kind: type[E]) -> list[E] | None:
    """Read a list to its end, and again where it changed meanwhile or lacks what it counts.

    Raises:
        DetailError: an entry is not what it should be.
    """
    found: dict[str, E] = {}
    for _ in range(_MOST_ROUNDS):
        known = len(found)
        totals = _read_pages(client, path, kind, found)
        if totals is None:
            return None
        total = max(totals, default=None)
        if len(totals) <= 1 and (total is None or len(found) >= total):
            break
        if len(found) == known:
            _check_total(path, known, min(totals, default=None))
            break
    return list(found.values())


def _read_pages[E: _Entry](
    client: JiraClient, path: str, kind: type[E], found: dict[str, E]
) -> set[int] | None:
    """Add each entry of a list; return the totals that its pages told, None if it is gone."""
    totals: set[int] = set()
    start = empty = 0
    while empty < _MOST_EMPTY:
        page = client.read(_Listed, path, startAt=start, maxResults=_LIST_PAGE)
        if page is None:
            return None
        known = len(found)
        for raw in page.entries:
            entry = msgspec.json.decode(raw, type=kind)
            found[str(entry.id)] = entry
        # By what came: the server may give less than it is asked for.
        start += len(page.entries)
        empty = 0 if page.entries else empty + 1
        if page.total is None:
            # Nothing to compare with: what brings nothing new is the end.
            if page.is_last or len(found) == known:
                break
        else:
            totals.add(page.total)
            if start >= page.total:
                break
    return totals


def _check_total(path: str, found: int, total: int | None) -> None:
    """Some sites count entries that nobody may see; whoever reads the log can tell."""
    if total is not None and found < total:
        log.warning("list_shorter_than_its_total", path=path, found=found, total=total)


Changelogs = Mapping[str, Sequence[History] | DetailError]


def read_changelogs(client: JiraClient, issue_ids: Sequence[str]) -> Changelogs:
    """Return the histories of many issues of a Cloud site by issue id. Blocks.

    An issue that is missing there has none, or is gone. One with an entry that is not what it
    should be has that error instead.
    """
    found: dict[str, dict[str, History]] = {}
    faults: dict[str, DetailError] = {}
    for first in range(0, len(issue_ids), _BULK_ISSUES):
        ids = issue_ids[first : first + _BULK_ISSUES]
        if not _read_bulk(client, ids, found, faults):
            for issue_id in ids:
                try:
                    histories = read_changelog(client, issue_id) or ()
                except DetailError as error:
                    faults[issue_id] = error
                else:
                    found[issue_id] = {str(each.id): each for each in histories}
                    faults.pop(issue_id, None)
    return {issue_id: list(each.values()) for issue_id, each in found.items()} | faults


def _read_bulk(
    client: JiraClient,
    issue_ids: Sequence[str],
    found: dict[str, dict[str, History]],
    faults: dict[str, DetailError],
) -> bool:
    """Add the histories of up to 1,000 issues; False where bulk does not work."""
    token: str | None = None
    used: set[str] = set()
    restarts = repeats = 0
    while True:
        query: dict[str, Any] = {"issueIdsOrKeys": issue_ids, "maxResults": _BULK_HISTORIES}
        if token:
            query["nextPageToken"] = token
        response = client.site.request(
            "POST", "changelog/bulkfetch", json=query, accept=_NO_BULK, stop=client.stop
        )
        if response.status_code in _NO_BULK:
            if token is None or restarts == _MOST_RESTARTS:
                return False
            # The token expired: begin anew, what is known stays known.
            restarts += 1
            token = None
            used.clear()
            continue
        page = decode(_Bulk, response, source="jira")
        _sort_out(page.issue_change_logs or (), found, faults)
        following = page.next_page_token
        if not following:
            return True
        if following in used:
            # Following it would go round in circles; the same question may get another answer.
            repeats += 1
            if repeats > _MOST_REPEATS:
                return False
        else:
            repeats = 0
            used.add(following)
            token = following


def _sort_out(
    logs: Iterable[_BulkLog],
    found: dict[str, dict[str, History]],
    faults: dict[str, DetailError],
) -> None:
    decoded: Callable[[msgspec.Raw], History] = msgspec.json.Decoder(History).decode
    for each in logs:
        issue_id = str(each.issue_id)
        histories = found.setdefault(issue_id, {})
        try:
            for raw in each.change_histories or ():
                history = decoded(raw)
                histories[str(history.id)] = history
        except DetailError as error:
            faults[issue_id] = error
