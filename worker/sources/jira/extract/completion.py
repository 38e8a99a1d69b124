"""The lists of issues, completed over the API."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from temporaletl import Reject
from temporaletl.external.threads import abandon
from worker.sources.jira.extract import details
from worker.sources.jira.extract.client import JiraClient
from worker.sources.jira.issue import IssueRecord

_Read = Callable[[JiraClient, str], Sequence[Any] | None]


async def complete(client: JiraClient, records: Sequence[IssueRecord]) -> dict[str, Reject]:
    """Complete the lists of all records, several at once; return rejects, by id, for failures."""
    rejects: dict[str, Reject] = {}

    async def fill(record: IssueRecord, name: str, read: _Read) -> None:
        try:
            entries = await client.site.start(read, client, record.id)
        except details.DetailError as error:
            rejects[record.id] = _reject(record, f"{name}: {error}")
        else:
            _unite(record, name, entries)

    lacking = [record for record in records if "histories" not in record.complete]

    async def fill_changelogs() -> None:
        ids = [record.id for record in lacking]
        found = await client.site.start(details.read_changelogs, client, ids)
        for record in lacking:
            histories = found.get(record.id)
            if isinstance(histories, details.DetailError):
                rejects[record.id] = _reject(record, f"histories: {histories}")
            else:
                _unite(record, "histories", histories)

    jobs = [fill(*missing) for record in records for missing in _missing(client, record)]
    if lacking and client.site.cloud:
        jobs.append(fill_changelogs())
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        await abandon(tasks)
    return rejects


def _missing(client: JiraClient, record: IssueRecord) -> Iterator[tuple[IssueRecord, str, _Read]]:
    """Yield the lists that did not come whole with the issue, each with what reads it."""
    if "comments" not in record.complete:
        yield record, "comments", details.read_comments
    if "worklogs" not in record.complete:
        yield record, "worklogs", details.read_worklogs
    if not client.site.cloud and "histories" not in record.complete:
        yield record, "histories", details.read_changelog


def _unite(record: IssueRecord, name: str, entries: Sequence[Any] | None) -> None:
    """Put a list read apart in place of the one found; neither loses what only it has."""
    if entries is None:
        return
    record.complete.add(name)
    if entries:
        found = getattr(record, name)
        setattr(record, name, list({str(each.id): each for each in (*found, *entries)}.values()))


def _reject(record: IssueRecord, reason: str) -> Reject:
    return Reject(stage="extract", reason=reason, key=record.key, payload=record.found)
