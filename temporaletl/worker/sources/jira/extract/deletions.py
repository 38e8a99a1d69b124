"""What a deletion scan asks of a Jira site: Jira does not tell of deletions."""

from collections.abc import Collection, Iterator

from pydantic import JsonValue

from temporaletl import PageRequest
from temporaletl.external.jira.site import IssueRange
from temporaletl.worker.sources.jira.extract.client import ABSENT, JiraClient
from temporaletl.worker.sources.jira.extract.found import BARE_FIELDS
from temporaletl.worker.sources.jira.extract.walk import Walk

#: As many as a search may ever give; a site gives fewer.
_ISSUES_AT_ONCE = 1_000


def listed(
    client: JiraClient, request: PageRequest, position: JsonValue
) -> Iterator[tuple[Collection[str], JsonValue]]:
    """List the ids of all issues that the site shows, whatever the job's range. Blocks."""
    filters = request.query.issues(client.site.settings.jql).filters
    issues = IssueRange("created", filters=filters)
    walk = Walk(client, issues, _ISSUES_AT_ONCE, position, fields=BARE_FIELDS)
    while (found := walk.next()) is not None:
        yield found.ids, found.cursor


def scope_of(client: JiraClient, request: PageRequest) -> tuple[str]:
    """What is listed, in words."""
    filters = request.query.issues(client.site.settings.jql).filters
    return (f"the issues of {' AND '.join(filters)}" if filters else "all issues",)


def is_gone(client: JiraClient, id_: str) -> bool:
    """Ask for one issue. Blocks; raises as `HttpClient.request`."""
    if not (id_.isascii() and id_.isdecimal()):
        return False
    answer = client.site.request(
        "GET", f"issue/{id_}", params={"fields": "created"}, accept=ABSENT, stop=client.stop
    )
    return answer.status_code in ABSENT
