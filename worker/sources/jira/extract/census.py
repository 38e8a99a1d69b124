"""Which issues are gone: Jira does not tell of deletions, so all that there are is listed."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from temporaletl import Page, PageRequest, SourceProtocolError
from temporaletl.external.jira.site import IssueRange
from worker.sources.jira.extract.client import ABSENT, JiraClient
from worker.sources.jira.extract.walk import BARE_FIELDS, Walk
from worker.sources.jira.issue import GoneIssue

#: As many as a search may ever give; a site gives fewer.
_ISSUES_AT_ONCE = 1_000
_GONE_PER_PAGE = 500
#: The share of the stored issues that may be gone before it looks like a mistake...
_MOST_GONE = 0.1
#: ...unless they are so few.
_FEW_GONE = 10


def find_gone(client: JiraClient, request: PageRequest) -> Iterator[Page]:
    """Yield the stored issues that the site does not have: see `pages_of_gone`. Blocks."""
    yield from pages_of_gone(request, lambda: _listed(client, request), client)


def pages_of_gone(
    request: PageRequest, list_ids: Callable[[], set[str]], client: JiraClient | None
) -> Iterator[Page]:
    """Yield the stored issues that are not listed, each one a `GoneIssue`. Blocks.

    An index may lag and a listing may slip, so each one is asked for by itself before it counts
    as gone; without a client, the listing is all there is to go by.

    Raises:
        SourceProtocolError: so many are gone that permissions or a filter may be the reason.
        RetryableError, PermanentError: as `HttpClient.request`.
    """
    stored = request.stored_items()
    if not stored:
        return
    missing = stored - list_ids()
    asked = datetime.now(UTC)
    gone = [
        id_
        for id_ in sorted(missing)
        if id_.isdigit() and (client is None or _is_gone(client, id_))
    ]
    most = max(_FEW_GONE, _MOST_GONE * len(stored))
    if len(gone) > most and not request.query.accept_deletions:
        raise SourceProtocolError(
            f"jira: {len(gone):,} of the {len(stored):,} issues that are loaded are not shown any "
            "more: was a permission taken away from the account? If they are gone indeed, run once "
            "with --param accept_deletions=true"
        )
    for first in range(0, len(gone), _GONE_PER_PAGE):
        some = gone[first : first + _GONE_PER_PAGE]
        yield Page(records=[GoneIssue(id_) for id_ in some], cursor=some[-1], extracted_at=asked)


def _listed(client: JiraClient, request: PageRequest) -> set[str]:
    filters = request.query.issues(client.site.settings.jql).filters
    walk = Walk(client, IssueRange("created", filters=filters), _ISSUES_AT_ONCE, fields=BARE_FIELDS)
    ids: set[str] = set()
    while (found := walk.next()) is not None:
        ids.update(found.ids)
    return ids


def _is_gone(client: JiraClient, id_: str) -> bool:
    answer = client.site.request(
        "GET", f"issue/{id_}", params={"fields": "created"}, accept=ABSENT, stop=client.stop
    )
    return answer.status_code in ABSENT
