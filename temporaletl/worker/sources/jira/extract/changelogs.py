"""Changelogs of many issues, from Cloud's bulk endpoint, else issue by issue."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import requests

from temporaletl import RecordError, SourceUnavailableError
from temporaletl.external.answers import (
    DECODE_FAULTS,
    decode,
    decode_record,
    parse,
    text_of,
)
from temporaletl.external.headway import Headway
from temporaletl.telemetry.logs import get_logger
from temporaletl.worker.sources.jira.extract.client import FAILURES, JiraClient
from temporaletl.worker.sources.jira.extract.details import DetailError, Listing, read_changelog
from temporaletl.worker.sources.jira.issue import History, Id

log = get_logger("temporaletl.worker.sources.jira")

_BULK_ISSUES = 1_000
_BULK_HISTORIES = 1_000
_MOST_RESTARTS = 4
#: The endpoint is missing, or one of the issues is gone and it refuses them all; 400 also for a
#: page token that has expired.
_NO_BULK = frozenset({400, 404, 405})
#: Issues that are read by themselves where the bulk endpoint reports no histories at all.
_MOST_PROBED = 3


class _Log(msgspec.Struct, rename="camel"):
    issue_id: Id
    change_histories: list[History]


class _Bulk(msgspec.Struct, rename="camel"):
    issue_change_logs: list[_Log]
    next_page_token: str | None = None


class _RawLog(msgspec.Struct, rename="camel"):
    issue_id: Id
    change_histories: list[msgspec.Raw]


class _RawBulk(msgspec.Struct, rename="camel"):
    """An answer in which something cannot be decoded: then it is found log by log."""

    issue_change_logs: list[msgspec.Raw]
    next_page_token: str | None = None


#: By issue id; None where there is no such list.
Changelogs = Mapping[str, Listing[History] | DetailError | None]


def read_changelogs(client: JiraClient, issue_ids: Sequence[str]) -> Changelogs:
    """Return the histories of many issues of a Cloud site by issue id. Blocks.

    An issue that is missing there has none, or is gone. One with an entry that is not what it
    should be has that error instead.
    """
    found: dict[str, dict[str, History]] = {}
    faults: dict[str, DetailError] = {}
    single: dict[str, Listing[History] | None] = {}
    for first in range(0, len(issue_ids), _BULK_ISSUES):
        ids = issue_ids[first : first + _BULK_ISSUES]
        try:
            complete = _read_bulk(client, ids, found, faults)
        except FAILURES as error:
            if not client.may_narrow(error):
                raise
            log.warning("bulk_changelog_failed", issues=len(ids), error=str(error))
            complete = False
        if complete and not _hides_all(client, ids, found, faults):
            continue
        for issue_id in ids:
            found.pop(issue_id, None)
            faults.pop(issue_id, None)
            try:
                single[issue_id] = read_changelog(client, issue_id)
            except DetailError as error:
                faults[issue_id] = error
    listings = {issue_id: Listing(list(logs.values())) for issue_id, logs in found.items()}
    return listings | single | faults


def _hides_all(
    client: JiraClient,
    issue_ids: Sequence[str],
    found: Mapping[str, Mapping[str, History]],
    faults: Mapping[str, DetailError],
) -> bool:
    """Whether issues have histories though the bulk endpoint reports none at all."""
    if any(id_ in found or id_ in faults for id_ in issue_ids):
        return False
    for issue_id in issue_ids[:_MOST_PROBED]:
        try:
            listing = read_changelog(client, issue_id)
        except DetailError:
            return True  # it has some, and whoever reads it by itself says what is wrong
        if listing is not None and (listing.entries or listing.failed):
            log.warning("bulk_changelog_empty", issues=len(issue_ids))
            return True
    return False


def _read_bulk(
    client: JiraClient,
    issue_ids: Sequence[str],
    found: dict[str, dict[str, History]],
    faults: dict[str, DetailError],
) -> bool:
    """Add the histories of up to 1,000 issues; False where bulk does not work."""
    token: str | None = None
    headway = Headway("jira: changelog/bulkfetch")
    restarts = 0
    while True:
        query: dict[str, Any] = {"issueIdsOrKeys": issue_ids, "maxResults": _BULK_HISTORIES}
        if token:
            query["nextPageToken"] = token
        page = client.site.request(
            "POST",
            "changelog/bulkfetch",
            json=query,
            read=_decoded,
            accept=_NO_BULK,
            stop=client.stop,
        )
        if page is None:
            if token is None or restarts == _MOST_RESTARTS:
                return False
            # The token expired: begin anew, what is known stays known.
            restarts += 1
            token = None
            headway.begin_anew()
            continue
        try:
            _sort_out(page.issue_change_logs, found, faults)
        except RecordError as error:
            # Nobody can tell whose histories these are.
            log.warning("bulk_changelog_failed", issues=len(issue_ids), error=str(error))
            return False
        following = page.next_page_token
        if not following:
            return True
        try:
            leads_on = headway.leads_on(following, rows=len(page.issue_change_logs))
        except SourceUnavailableError as error:
            log.warning("bulk_changelog_failed", issues=len(issue_ids), error=str(error))
            return False
        if leads_on:
            token = following


def _decoded(answer: requests.Response) -> _Bulk | _RawBulk | None:
    if answer.status_code in _NO_BULK:
        return None
    try:
        return parse(_Bulk, text_of(answer))
    except DECODE_FAULTS:
        return decode(_RawBulk, answer, source="jira")


def _sort_out(
    logs: Iterable[_Log | msgspec.Raw],
    found: dict[str, dict[str, History]],
    faults: dict[str, DetailError],
) -> None:
    """Group histories by their issues, into `found` and `faults`.

    Raises:
        RecordError: there is no telling what one of the logs is.
    """
    for each in logs:
        log_of_issue = each if isinstance(each, _Log) else decode_record(_RawLog, each)
        issue_id = str(log_of_issue.issue_id)
        histories = found.setdefault(issue_id, {})
        try:
            for one in log_of_issue.change_histories:
                history = one if isinstance(one, History) else decode_record(History, one)
                histories[str(history.id)] = history
        except DetailError as error:
            faults[issue_id] = error
