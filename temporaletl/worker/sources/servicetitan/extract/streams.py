"""The extract method of the four streams, over lists or export feeds."""

import contextlib
from collections.abc import AsyncGenerator

from temporaletl import Page, PageRequest, extract_method
from temporaletl.external.ahead import in_order
from temporaletl.external.servicetitan.account import servicetitan_account
from temporaletl.external.servicetitan.resources import RESOURCES
from temporaletl.external.servicetitan.settings import SOURCE, ServiceTitanSettings
from temporaletl.external.servicetitan.site import open_site
from temporaletl.worker.sources.servicetitan.extract.client import (
    FetchedPage,
    ServiceTitanClient,
    Span,
)
from temporaletl.worker.sources.servicetitan.extract.feed import Feed
from temporaletl.worker.sources.servicetitan.extract.keyset import KeysetPagination
from temporaletl.worker.sources.servicetitan.query import ServiceTitanQuery

#: Importing it registers it.
ACCOUNT = servicetitan_account

#: Pages that wait to be loaded; each may have thousands of records.
_AHEAD = 2


async def extract(request: PageRequest[ServiceTitanQuery]) -> AsyncGenerator[Page]:
    """Yield what the job's stream has in its span, each record a `Record`.

    A record may come more than once, never not at all; one that ServiceTitan cannot render is a
    reject. The last page of an export may hold nothing but the token with which the next job goes
    on.

    Raises: as `ServiceTitanSite.read`, `Feed.next` and `KeysetPagination.next`.
    """
    settings = ServiceTitanSettings.load()
    job, query = request.job, request.query
    client = ServiceTitanClient(open_site(settings), RESOURCES[job.stream])
    span = Span.of(job.window, job.mode)
    size = query.page_size or settings.page_size
    reading = (
        Feed(client, span, size, query.continue_from, request.cursor)
        if query.paging == "export"
        else KeysetPagination(client, span, size, request.cursor)
    )
    # Each page tells where the next one begins: one is fetched while others are loaded.
    pages = in_order(request, lambda: client.site.start(reading.next), _page, most=_AHEAD)
    try:
        async with contextlib.aclosing(pages):
            async for page in pages:
                yield page
    finally:
        client.stop.set()


async def _page(found: FetchedPage) -> Page:
    return Page(
        records=found.records,
        rejects=found.rejects,
        cursor=found.cursor,
        extracted_at=found.requested_at,
    )


for _stream in RESOURCES:
    extract_method(f"{SOURCE}-{_stream}")(extract)
