"""A fake Jira as its own tests ask it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.fakes.client import Client, Json
from tests.fakes.jira import Site, serve

MINUTE = 60_000


@contextmanager
def client_of(site: Site, **more: Any) -> Iterator[Client]:
    with serve(site, **more) as server:
        client = Client(server)
        with client.session:
            yield client


def count(client: Client, jql: str) -> int:
    found: int = client.post("/rest/api/3/search/approximate-count", jql=jql)["count"]
    return found


def longest(site: Site, part: str) -> tuple[str, list[Json]]:
    """Return the key of the issue with most histories, comments or worklogs, and those."""
    row = max(site.rows, key=lambda each: len(getattr(site.issue(each), part)))
    return row.key, getattr(site.issue(row), part)
