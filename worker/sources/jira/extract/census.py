"""What the census of issues asks of a site: Jira does not tell of deletions."""

from temporaletl import PageRequest
from temporaletl.external.jira.site import IssueRange
from worker.sources.jira.extract.client import ABSENT, JiraClient
from worker.sources.jira.extract.walk import BARE_FIELDS, Walk

#: As many as a search may ever give; a site gives fewer.
_ISSUES_AT_ONCE = 1_000


def listed(client: JiraClient, request: PageRequest) -> set[str]:
    """List the ids of all issues that the site shows, whatever the job's range. Blocks."""
    filters = request.query.issues(client.site.settings.jql).filters
    walk = Walk(client, IssueRange("created", filters=filters), _ISSUES_AT_ONCE, fields=BARE_FIELDS)
    ids: set[str] = set()
    while (found := walk.next()) is not None:
        ids.update(found.ids)
    return ids


def is_gone(client: JiraClient, id_: str) -> bool:
    """Ask for one issue. Blocks; raises as `HttpClient.request`."""
    if not id_.isdigit():
        return False
    answer = client.site.request(
        "GET", f"issue/{id_}", params={"fields": "created"}, accept=ABSENT, stop=client.stop
    )
    return answer.status_code in ABSENT
