"""A fake Jira and the platform that loads it, once for all acceptance tests."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from tests.acceptance.platform import Platform, access_to, platform_in
from tests.fakes.jira import Site, generate, serve
from tests.fakes.server import FakeServer

#: About 8,000 events.
ISSUES = 400


@pytest.fixture(scope="session")
def site() -> Site:
    return generate(ISSUES, seed=11, personality="cloud")


@pytest.fixture(scope="session")
def jira(site: Site) -> Iterator[FakeServer]:
    # So slow that a run lasts for some interruptions.
    with serve(site, latency=timedelta(milliseconds=150)) as server:
        yield server


@pytest.fixture(scope="session")
def platform(jira: FakeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    environment = {
        **access_to(jira),
        "JIRA_PAGE_SIZE": "8",
        # Small pages: many transactions in which a process can be killed.
        "ETL_ROWS_PER_PAGE": "80",
    }
    with platform_in(tmp_path_factory.mktemp("platform"), environment) as running:
        yield running
