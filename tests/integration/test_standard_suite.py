"""Every source passes the standard suite: each rig of `tests.rigs`, in a few lines."""

import sys
from collections.abc import Iterator

import pytest

from temporaletl.testing import SourceSuite
from tests.integration.trino_server import TrinoServer
from tests.integration.wheels import publish
from tests.rigs.jira import JiraRig, JiraServerRig
from tests.rigs.launchpad import LaunchpadRig
from tests.rigs.salesforce import SalesforceRig
from tests.rigs.servicetitan import ServiceTitanRig
from tests.rigs.shop import ShopRig
from tests.rigs.trino import TrinoRig


@pytest.fixture(scope="module", autouse=True)
def _published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the example be found as a wheel's source is."""
    folder = tmp_path_factory.mktemp("wheels")
    publish(folder, "shop", "tests.examples.shop")
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


#: One check goes through every endpoint of its source, twice.
pytestmark = pytest.mark.timeout(300)


class TestShop(SourceSuite):
    rig = ShopRig


class TestJiraCloud(SourceSuite):
    rig = JiraRig


class TestJiraServer(SourceSuite):
    rig = JiraServerRig


class TestLaunchpad(SourceSuite):
    rig = LaunchpadRig


class TestSalesforce(SourceSuite):
    rig = SalesforceRig


class TestServiceTitan(SourceSuite):
    rig = ServiceTitanRig


@pytest.mark.timeout(300)  # the server takes long to start where the machine is busy
class TestTrino(SourceSuite):
    rig = TrinoRig

    @pytest.fixture(autouse=True)
    def _server(self, trino_server: TrinoServer) -> None:
        if trino_server.secured is None:
            pytest.skip("no Trino server: the one of TRINO_TEST_URL does not take our tokens")
        TrinoRig.use(trino_server)
