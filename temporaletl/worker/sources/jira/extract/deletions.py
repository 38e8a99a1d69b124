"""How issues that are gone are found: neither Jira nor the dataset tells of deletions."""

from collections.abc import Collection, Iterator
from functools import partial

from pydantic import JsonValue

from temporaletl import DeletionScan, Items, PageRequest, deletion_scan
from temporaletl.external.jira.dataset import open_issues
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.external.jira.site import IssueRange, open_site
from temporaletl.worker.sources.jira.extract.client import ABSENT, JiraClient
from temporaletl.worker.sources.jira.extract.found import BARE_FIELDS
from temporaletl.worker.sources.jira.extract.walk import Walk
from temporaletl.worker.sources.jira.query import JiraQuery

#: As many as a search may ever give; a site gives fewer.
_ISSUES_AT_ONCE = 1_000


@deletion_scan("jira-issues")
def scan_issues(request: PageRequest[JiraQuery]) -> Iterator[DeletionScan]:
    """List the issues where they are read: on the site, or in the dataset in Trino."""
    settings = JiraSettings.load()
    if settings.extract_from == "trino":
        yield from _of_dataset(settings)
    else:
        yield from _of_site(settings, request.query)


def _of_site(settings: JiraSettings, query: JiraQuery) -> Iterator[DeletionScan]:
    client = JiraClient(open_site(settings))
    # Whatever the job's range: all that the site shows.
    filters = query.issues(settings.jql).filters
    try:
        yield DeletionScan(
            "issues",
            Items(),
            partial(_listed, client, IssueRange("created", filters=filters)),
            partial(is_gone, client),
            scope=(f"the issues of {' AND '.join(filters)}" if filters else "all issues",),
            start=client.site.start,
        )
    finally:
        client.stop.set()


def _of_dataset(settings: JiraSettings) -> Iterator[DeletionScan]:
    """List the dataset; where Jira can be asked, it has the last word on each."""
    table = open_issues(settings)
    client = JiraClient(open_site(settings)) if settings.has_api else None
    try:
        yield DeletionScan(
            "issues",
            Items(),
            lambda _: iter([(table.ids(), None)]),
            None if client is None else partial(is_gone, client),
            scope=[table.name],
            # In Jira's threads, where there are any: there, requests wait for their turn.
            start=table.server.start if client is None else client.site.start,
        )
    finally:
        if client is not None:
            client.stop.set()


def _listed(
    client: JiraClient, issues: IssueRange, position: JsonValue
) -> Iterator[tuple[Collection[str], JsonValue]]:
    walk = Walk(client, issues, _ISSUES_AT_ONCE, position, fields=BARE_FIELDS)
    while (found := walk.next()) is not None:
        yield found.ids, found.cursor


def is_gone(client: JiraClient, id_: str) -> bool:
    """Ask for one issue. Blocks; raises as `HttpClient.request`."""
    if not (id_.isascii() and id_.isdecimal()):
        return False
    answer = client.site.request(
        "GET", f"issue/{id_}", params={"fields": "created"}, accept=ABSENT, stop=client.stop
    )
    return answer.status_code in ABSENT
