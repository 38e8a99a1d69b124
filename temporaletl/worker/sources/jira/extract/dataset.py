"""Extraction of issues from the dataset in Trino.

The dataset may hold less than Jira: lists are cut off where the search that filled it cut them.
Such lists are completed over the API where that is configured; else what is there is loaded, and
a reject says how much is missing.
"""

import contextlib
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Any

import msgspec

from temporaletl import Page, PageRequest, RecordError, Reject
from temporaletl.clock import utc_now
from temporaletl.external.jira.dataset import ISSUE_COLUMNS, open_issues
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.external.jira.site import open_site
from temporaletl.external.trino.order import Position
from temporaletl.external.trino.results import Undecodable
from temporaletl.telemetry.logs import get_logger
from temporaletl.worker.sources.jira.extract.client import JiraClient
from temporaletl.worker.sources.jira.extract.completion import (
    LISTS,
    Completed,
    complete,
    missing_of,
)
from temporaletl.worker.sources.jira.issue import IssueRecord
from temporaletl.worker.sources.jira.query import JiraQuery

log = get_logger("temporaletl.worker.sources.jira")

_SET_API = "With JIRA_URL and credentials set, they are read from Jira"


async def issues(request: PageRequest[JiraQuery]) -> AsyncGenerator[Page]:
    """Yield the issues of the job's range, oldest first, each one an `IssueRecord`.

    Raises: as `temporaletl.external.trino.server.Statement.fetch`, and where lists are completed,
    as `temporaletl.external.http.HttpClient.request`.
    """
    settings = JiraSettings.load()
    query = request.query
    table = open_issues(settings)
    client = JiraClient(open_site(settings)) if settings.has_api else None
    after = Position.of(request.cursor)
    ordered = await table.server.start(table.ordered, query.issues(None))
    requested_at = utc_now()
    statement = ordered.statement(table.server, after, name=table.name)
    count = query.page_size or settings.page_size
    batches = ordered.read(table.server, statement, after, count)
    listless: set[str] = set()
    try:
        async with contextlib.aclosing(batches):
            async for rows, position in batches:
                # Decoding a page of issues takes long enough to be felt elsewhere.
                records, rejects = await table.server.start(_decoded, rows)
                completed = Completed()
                if client is not None:
                    completed = await complete(client, _cut_off(records))
                    # What Jira has no more can only be as the dataset has it.
                    unfilled = [record for record in records if record.id in completed.gone]
                else:
                    unfilled = records
                remedy = _SET_API if client is None else "Jira does not have it any more"
                rejects += _shortened(unfilled, listless, remedy)
                yield Page(
                    records=[record for record in records if record.id not in completed.faults],
                    cursor=position.cursor,
                    rejects=[*rejects, *completed.rejects],
                    extracted_at=requested_at,
                    note=completed.note,
                )
    finally:
        if client is not None:
            client.stop.set()


def _decoded(rows: Sequence[Sequence[Any]]) -> tuple[list[IssueRecord], list[Reject]]:
    records: list[IssueRecord] = []
    rejects: list[Reject] = []
    for row in rows:
        columns = dict(zip(ISSUE_COLUMNS, row, strict=False))
        broken = [value for value in columns.values() if isinstance(value, Undecodable)]
        if broken:
            texts = {n: v.text if v in broken else v for n, v in columns.items()}
            key = texts["key"] or texts["id"]
            rejects.append(Reject(stage="extract", reason=broken[0].reason, key=key, payload=texts))
            continue
        try:
            record = IssueRecord.read(_issue(columns))
        except RecordError as error:
            reason = "column fields is null" if columns["fields"] is None else str(error)
            key = columns["key"] or columns["id"]
            rejects.append(Reject(stage="extract", reason=reason, key=key, payload=columns))
        else:
            records.append(record)
    return records, rejects


def _issue(columns: dict[str, str | None]) -> bytes:
    """Compose the issue's JSON, as Jira's API has it, from the columns.

    Without a key, people know it by its id.
    """
    id_ = _text(columns["id"])
    key = _text(columns["key"]) or id_
    parts: dict[str, Any] = {"id": id_, "key": key, "self": _text(columns["self"])}
    for name in ("fields", "changelog"):
        text = columns[name]
        if text is not None:
            parts[name] = msgspec.Raw(text.encode("utf-8", "replace"))
    return msgspec.json.encode(parts)


def _text(column: str | None) -> str | None:
    """A text without halves of surrogate pairs, which no JSON can hold."""
    return None if column is None else column.encode("utf-8", "replace").decode()


def _cut_off(records: Sequence[IssueRecord]) -> list[IssueRecord]:
    return [record for record in records if not record.complete.issuperset(LISTS)]


def _shortened(records: Sequence[IssueRecord], listless: set[str], remedy: str) -> Iterator[Reject]:
    """Yield a reject for each issue whose lists are shorter than its totals.

    Lists that the dataset does not keep at all, or of which it does not know how long they are,
    are reported in the log; `listless` holds those that were reported.
    """
    for record in records:
        for name in LISTS:
            known = name in record.complete or record.total(name) is not None
            if not known and name not in listless:
                listless.add(name)
                log.warning("dataset_without_whole_lists", lists=name, first_issue=record.key)
        missing = [what for what in missing_of(record) if what not in LISTS]
        if missing:
            yield Reject(
                stage="extract",
                reason=f"{', '.join(missing)} are not in the dataset; the rest is loaded. {remedy}",
                key=record.key,
                payload=record.fetched,
            )
