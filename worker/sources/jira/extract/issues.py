"""Pages of issues with everything that hangs on them."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import Any

from temporaletl import Page, PageRequest, Reject, extract_method
from temporaletl.external.jira import JiraSettings, open_site
from worker.sources.jira.extract import details
from worker.sources.jira.extract.census import find_gone
from worker.sources.jira.extract.client import JiraClient
from worker.sources.jira.extract.walk import Walk
from worker.sources.jira.issue import IssueRecord
from worker.sources.jira.query import JiraQuery

_Read = Callable[[JiraClient, str], Sequence[Any] | None]


@extract_method("jira-issues")
async def extract_issues(request: PageRequest) -> AsyncGenerator[Page]:
    """Yield the issues of the job's range, oldest first, each one an `IssueRecord`.

    A census yields the issues that are gone instead, each one a `GoneIssue`.

    While the lists of one page are completed, the next page is searched for. An issue may come
    more than once, never not at all.

    Raises: as `temporaletl.external.http.HttpClient.request`.
    """
    settings = JiraSettings.load()
    client = JiraClient(open_site(settings))
    query: JiraQuery = request.query
    if query.census:
        async for page in _pages_of_gone(client, request):
            yield page
        return
    walk = Walk(
        client,
        query.issues(settings.jql),
        query.page_size or settings.page_size,
        request.cursor,
    )
    ahead = client.site.start(walk.next)
    try:
        while (found := await ahead) is not None:
            ahead = client.site.start(walk.next)
            faults = await _complete(client, found.records)
            yield Page(
                records=[each for each in found.records if each.id not in faults],
                cursor=found.cursor,
                rejects=[*found.rejects, *faults.values()],
                extracted_at=found.asked,
            )
    finally:
        client.stop.set()
        await _abandon([ahead])


async def _pages_of_gone(client: JiraClient, request: PageRequest) -> AsyncGenerator[Page]:
    pages = find_gone(client, request)
    try:
        while (page := await client.site.start(next, pages, None)) is not None:
            yield page
    finally:
        client.stop.set()


async def _complete(client: JiraClient, records: Sequence[IssueRecord]) -> dict[str, Reject]:
    """Complete the lists of all records, several at once; return rejects, by id, for failures."""
    rejects: dict[str, Reject] = {}

    async def fill(record: IssueRecord, name: str, read: _Read) -> None:
        try:
            entries = await client.site.start(read, client, record.id)
        except details.DetailError as error:
            rejects[record.id] = _reject(record, f"{name}: {error}")
        else:
            _unite(record, name, entries)

    async def fill_changelogs() -> None:
        ids = [record.id for record in records]
        found = await client.site.start(details.read_changelogs, client, ids)
        for record in records:
            histories = found.get(record.id)
            if isinstance(histories, details.DetailError):
                rejects[record.id] = _reject(record, f"histories: {histories}")
            else:
                _unite(record, "histories", histories)

    jobs = [fill(*missing) for record in records for missing in _missing(client, record)]
    if records and client.site.cloud:
        jobs.append(fill_changelogs())
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.gather(*tasks)
    finally:
        await _abandon(tasks)
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


async def _abandon(futures: Sequence["asyncio.Future[Any]"]) -> None:
    """Wait for nothing any more; what runs in a thread ends there by itself."""
    for future in futures:
        future.cancel()
    await asyncio.gather(*futures, return_exceptions=True)
