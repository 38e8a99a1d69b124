"""The extract method for issues, with their comments, worklogs and changelogs."""

import contextlib
from collections.abc import AsyncGenerator

from temporaletl import Page, PageRequest, extract_method
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.external.jira.site import open_site
from temporaletl.external.threads import abandon
from temporaletl.worker.sources.jira.extract import dataset
from temporaletl.worker.sources.jira.extract.client import JiraClient
from temporaletl.worker.sources.jira.extract.completion import complete
from temporaletl.worker.sources.jira.extract.keyset import KeysetPagination
from temporaletl.worker.sources.jira.issue import searched_fields
from temporaletl.worker.sources.jira.query import JiraQuery


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

    While the lists of one page are completed, the next page is searched for.
    """
    settings, query = client.site.settings, request.query
    pagination = KeysetPagination(
        client,
        query.issues(settings.jql),
        query.page_size or settings.page_size,
        request.cursor,
        fields=searched_fields(settings),
    )
    ahead = client.site.start(pagination.next)
    try:
        while (page := await ahead) is not None:
            ahead = client.site.start(pagination.next)
            completed = await complete(client, page.records)
            yield Page(
                records=[record for record in page.records if record.id not in completed.faults],
                cursor=page.cursor,
                rejects=[*page.rejects, *completed.rejects],
                extracted_at=page.requested_at,
                note="; ".join(filter(None, (page.note, completed.note))) or None,
            )
    finally:
        client.stop.set()
        await abandon([ahead])
