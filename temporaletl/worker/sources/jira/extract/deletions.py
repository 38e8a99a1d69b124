"""Deletion scans of issues: neither Jira nor the dataset reports what was deleted."""

from collections.abc import Callable, Iterator
from functools import partial

from temporaletl import DeletionScan, Items, PageRequest, deletion_scan
from temporaletl.external.jira.dataset import open_issues
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.external.jira.site import IssueRange, open_site
from temporaletl.worker.sources.jira.extract.client import ABSENT, JiraClient
from temporaletl.worker.sources.jira.extract.id_listing import list_ids
from temporaletl.worker.sources.jira.query import JiraQuery


@deletion_scan("jira-issues")
def scan_issues(request: PageRequest[JiraQuery]) -> Iterator[DeletionScan]:
    """Scan the issues of the site, or of the dataset in Trino where issues are read from there."""
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
            partial(list_ids, client, IssueRange("created", filters=filters)),
            _check(client),
            scope=(f"the issues of {' AND '.join(filters)}" if filters else "all issues",),
        )
    finally:
        client.stop.set()


def _of_dataset(settings: JiraSettings) -> Iterator[DeletionScan]:
    """Scan the dataset; where the API is configured, it confirms that an issue is deleted."""
    table = open_issues(settings)
    client = JiraClient(open_site(settings)) if settings.has_api else None
    try:
        yield DeletionScan(
            "issues",
            Items(),
            lambda _: iter([(table.ids(), None)]),
            None if client is None else _check(client),
            scope=[table.name],
            start=table.server.start,
        )
    finally:
        if client is not None:
            client.stop.set()


def _check(client: JiraClient) -> Callable[[str], bool]:
    """The check of one issue, in one of the site's threads: these are as many as its requests."""
    return lambda id_: client.site.submit(is_gone, client, id_).result()


def is_gone(client: JiraClient, id_: str) -> bool:
    """Whether Jira no longer has an issue. Blocks; raises as `HttpClient.request`."""
    if not (id_.isascii() and id_.isdecimal()):
        return False
    answer = client.site.request(
        "GET", f"issue/{id_}", params={"fields": "created"}, accept=ABSENT, stop=client.stop
    )
    return answer.status_code in ABSENT
