"""The extract method for issues, with their comments, worklogs and changelogs."""

import contextlib
from collections.abc import AsyncGenerator

from temporaletl import Page, PageRequest, extract_method
from temporaletl.external.ahead import in_order
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.external.jira.site import open_site
from temporaletl.worker.sources.jira.extract import dataset
from temporaletl.worker.sources.jira.extract.client import JiraClient
from temporaletl.worker.sources.jira.extract.completion import complete
from temporaletl.worker.sources.jira.extract.keyset import FetchedPage, KeysetPagination
from temporaletl.worker.sources.jira.issue import searched_fields
from temporaletl.worker.sources.jira.query import JiraQuery

#: Pages completed at once. The lists of a page are some requests, a few of them one after another:
#: so many pages keep the requests of one job's site in use, and fit in a worker's memory.
_AHEAD = 4


@extract_method("jira-issues")
async def extract_issues(request: PageRequest[JiraQuery]) -> AsyncGenerator[Page]:
    """Yield the issues of the job's range, oldest first, each one an `IssueRecord`.

    An issue may come more than once, never not at all.

    Raises: as `temporaletl.external.http.HttpClient.request`; where the issues are
    read from Trino, also as its queries do.
    """
    settings = JiraSettings.load()
    if settings.extract_from == "trino":
        pages = dataset.issues(request)
    else:
        pages = _issues(JiraClient(open_site(settings)), request)
    async with contextlib.aclosing(pages):
        async for page in pages:
            yield page


async def _issues(client: JiraClient, request: PageRequest[JiraQuery]) -> AsyncGenerator[Page]:
    """Yield pages of issues from the site's search.

    While the lists of pages are completed, the next ones are searched for.
    """
    settings, query = client.site.settings, request.query
    pagination = KeysetPagination(
        client,
        query.issues(settings.jql),
        query.page_size or settings.page_size,
        request.cursor,
        fields=searched_fields(settings),
    )

    async def completed(page: FetchedPage) -> Page:
        lists = await complete(client, page.records)
        return Page(
            records=[record for record in page.records if record.id not in lists.faults],
            cursor=page.cursor,
            rejects=[*page.rejects, *lists.rejects],
            extracted_at=page.requested_at,
            note="; ".join(filter(None, (page.note, lists.note))) or None,
        )

    pages = in_order(request, lambda: client.site.start(pagination.next), completed, most=_AHEAD)
    try:
        async with contextlib.aclosing(pages):
            async for page in pages:
                yield page
    finally:
        client.stop.set()
