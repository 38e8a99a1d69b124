"""Every source's rows of before there were connections: a reload finds them as they are."""

from pathlib import Path

import pytest

from temporaletl.testing import SourceFixture
from temporaletl.testing.contents import read_locations, read_rows, tables_of
from temporaletl.testing.harness import make_harness
from temporaletl.warehouse.migration import migrate
from tests.integration.old_warehouse import CONNECTIONS, take_connections_out
from tests.integration.trino_server import TrinoServer
from tests.source_fixtures.jira import JiraFixture
from tests.source_fixtures.launchpad import LaunchpadFixture
from tests.source_fixtures.salesforce import SalesforceFixture
from tests.source_fixtures.servicetitan import ServiceTitanFixture
from tests.source_fixtures.trino import TrinoFixture


def check(
    fixture: type[SourceFixture],
    request: pytest.FixtureRequest,
    patch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    folder: Path,
) -> None:
    with make_harness(fixture, request, patch, caplog, folder) as harness:
        warehouse = harness.warehouse()
        harness.load(warehouse)
        rows, locations = (
            read_rows(warehouse, harness.source),
            read_locations(warehouse, harness.source),
        )
        take_connections_out(warehouse, tables_of(harness.source).values())
        assert migrate(warehouse) == [CONNECTIONS]
        assert read_rows(warehouse, harness.source) == rows
        again = harness.load(warehouse).rows
        assert (again.inserted, again.updated, again.rejected) == (0, 0, 0)
        assert again.unchanged > 0
        assert read_locations(warehouse, harness.source) == locations
        harness.add_connection("other")
        other = harness.load(warehouse, harness.request(connection="other")).rows
        assert other.inserted > 0
        assert read_locations(warehouse, harness.source) == locations


@pytest.mark.parametrize(
    "fixture", [JiraFixture, LaunchpadFixture, SalesforceFixture, ServiceTitanFixture]
)
def test_a_reload_after_the_migration_changes_nothing(
    fixture: type[SourceFixture],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    check(fixture, request, monkeypatch, caplog, tmp_path)


def test_a_reload_of_trino_after_the_migration_changes_nothing(
    trino_server: TrinoServer,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    if trino_server.secured is None:
        pytest.skip("no Trino server: the one of TRINO_TEST_URL does not take our tokens")
    TrinoFixture.use(trino_server)
    check(TrinoFixture, request, monkeypatch, caplog, tmp_path)
