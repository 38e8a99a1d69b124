"""Every source passes the standard suite: one class for each source fixture."""

from collections.abc import Iterator

import pytest

from temporaletl.testing import SourceSuite
from tests.integration.trino_server import TrinoServer
from tests.integration.wheels import installed
from tests.source_fixtures.jira import JiraFixture, JiraServerFixture
from tests.source_fixtures.launchpad import LaunchpadFixture
from tests.source_fixtures.salesforce import SalesforceFixture
from tests.source_fixtures.servicetitan import ServiceTitanFixture
from tests.source_fixtures.shop import ShopFixture
from tests.source_fixtures.trino import TrinoFixture


@pytest.fixture(scope="module", autouse=True)
def _example(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Install the example source."""
    with installed(tmp_path_factory.mktemp("wheels"), "shop", "tests.examples.shop"):
        yield


#: One check goes through every endpoint of its source, twice.
class TestShop(SourceSuite):
    fixture = ShopFixture


class TestJiraCloud(SourceSuite):
    fixture = JiraFixture


class TestJiraServer(SourceSuite):
    fixture = JiraServerFixture


class TestLaunchpad(SourceSuite):
    fixture = LaunchpadFixture


class TestSalesforce(SourceSuite):
    fixture = SalesforceFixture


class TestServiceTitan(SourceSuite):
    fixture = ServiceTitanFixture


class TestTrino(SourceSuite):
    fixture = TrinoFixture

    @pytest.fixture(autouse=True)
    def _server(self, trino_server: TrinoServer) -> None:
        if trino_server.secured is None:
            pytest.skip("no Trino server: the one of TRINO_TEST_URL does not take our tokens")
        TrinoFixture.use(trino_server)
