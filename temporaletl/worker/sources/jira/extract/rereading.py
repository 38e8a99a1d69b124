"""Second attempts at issues that an earlier run could not read, one by one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, get_args

import msgspec

from temporaletl import PageRequest, Reread, Unread, reread_method
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.external.jira.site import IssueRange, Order, open_site
from temporaletl.worker.sources.jira.extract.client import FAILURES, FEW_ATTEMPTS, JiraClient
from temporaletl.worker.sources.jira.extract.completion import complete
from temporaletl.worker.sources.jira.extract.keyset import KeysetPagination
from temporaletl.worker.sources.jira.extract.search_results import Row, row_of
from temporaletl.worker.sources.jira.issue import searched_fields
from temporaletl.worker.sources.jira.query import JiraQuery


@reread_method("jira-issues")
async def reread_issue(unread: Unread, request: PageRequest[JiraQuery]) -> Reread | None:
    """Read an issue with its lists; where only its time is known, all issues of that time.

    None for a dataset in Trino: there it has no other form than the one that was found.
    """
    settings = JiraSettings.load()
    if settings.extract_from == "trino":
        return None
    client = JiraClient(open_site(settings))
    try:
        if (name := _name_of(unread)) is not None:
            read = client.site.start(_issue, client, name)
        elif (
            issues := _range_of_timestamp(unread, request.query.issues(settings.jql))
        ) is not None:
            read = client.site.start(_issues, client, issues)
        else:
            return None
        try:
            rows = await read
        except FAILURES as error:
            return Reread(fault=f"it cannot be read yet: {error}")
        records = [row.record for row in rows if row.record is not None]
        completed = await complete(client, records)
        faults = [row.reject.reason for row in rows if row.reject is not None]
        faults += [reject.reason for reject in completed.rejects]
        return Reread(
            [record for record in records if record.id not in completed.faults],
            "; ".join(faults) or None,
        )
    finally:
        client.stop.set()


def _name_of(unread: Unread) -> str | None:
    found = unread.payload.get("id") if isinstance(unread.payload, dict) else None
    return str(found) if isinstance(found, str | int) else unread.key


def _range_of_timestamp(unread: Unread, issues: IssueRange) -> IssueRange | None:
    payload: Any = unread.payload if isinstance(unread.payload, dict) else {}
    for order in get_args(Order):
        if isinstance(at := payload.get(order), int):
            return replace(issues, order=order, from_ms=at, to_ms=at + 1, updated_from_ms=None)
    return None


def _issue(client: JiraClient, name: str) -> Sequence[Row]:
    fields = searched_fields(client.site.settings)
    params = {"fields": ",".join(fields), "expand": "changelog"}
    raw = client.read(msgspec.Raw, f"issue/{name}", attempts=FEW_ATTEMPTS, **params)
    return [] if raw is None else [row_of(raw, by_created=True)]


def _issues(client: JiraClient, issues: IssueRange) -> Sequence[Row]:
    settings = client.site.settings
    fields = searched_fields(settings)
    pagination = KeysetPagination(client, issues, settings.page_size, fields=fields)
    rows: list[Row] = []
    while (found := pagination.next()) is not None:
        rows += [Row(record.id, None, 0, record) for record in found.records]
        rows += [Row("", None, 0, reject=reject) for reject in found.rejects]
    return rows
