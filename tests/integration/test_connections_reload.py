"""Every source's rows of before there were connections: a reload finds them as they are."""

from pathlib import Path

import pytest

from temporaletl.testing import Rig
from temporaletl.testing.bench import make_bench
from temporaletl.testing.contents import read_places, read_rows, tables_of
from temporaletl.warehouse.migration import migrate
from tests.integration.old_warehouse import CONNECTIONS, take_connections_out
from tests.integration.trino_server import TrinoServer
from tests.rigs.jira import JiraRig
from tests.rigs.launchpad import LaunchpadRig
from tests.rigs.salesforce import SalesforceRig
from tests.rigs.servicetitan import ServiceTitanRig
from tests.rigs.trino import TrinoRig


def check(
    rig: type[Rig],
    request: pytest.FixtureRequest,
    patch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    folder: Path,
) -> None:
    with make_bench(rig, request, patch, caplog, folder) as bench:
        warehouse = bench.warehouse()
        bench.load(warehouse)
        rows, places = read_rows(warehouse, bench.source), read_places(warehouse, bench.source)
        take_connections_out(warehouse, tables_of(bench.source).values())
        assert migrate(warehouse) == [CONNECTIONS]
        assert read_rows(warehouse, bench.source) == rows
        again = bench.load(warehouse).rows
        assert (again.inserted, again.updated, again.rejected) == (0, 0, 0)
        assert again.unchanged > 0
        assert read_places(warehouse, bench.source) == places
        bench.add_connection("other")
        other = bench.load(warehouse, bench.ask_for(connection="other")).rows
        assert other.inserted > 0
        assert read_places(warehouse, bench.source) == places


@pytest.mark.parametrize("rig", [JiraRig, LaunchpadRig, SalesforceRig, ServiceTitanRig])
def test_a_reload_after_the_migration_changes_nothing(
    rig: type[Rig],
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    check(rig, request, monkeypatch, caplog, tmp_path)


@pytest.mark.timeout(300)  # the server takes long to start where the machine is busy
def test_a_reload_of_trino_after_the_migration_changes_nothing(
    trino_server: TrinoServer,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    if trino_server.secured is None:
        pytest.skip("no Trino server: the one of TRINO_TEST_URL does not take our tokens")
    TrinoRig.use(trino_server)
    check(TrinoRig, request, monkeypatch, caplog, tmp_path)
