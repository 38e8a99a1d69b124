"""Two sites of one source, with the same ids and other content, in one warehouse."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from temporaletl.connection_file import settings_of
from temporaletl.testing import FakeRig
from temporaletl.testing.bench import Bench, make_bench
from temporaletl.testing.contents import read_content, read_rejects
from temporaletl.testing.tables import assert_same
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.state import read_states
from tests.fakes.jira import JiraService, generate
from tests.fakes.server import FakeServer
from tests.fakes.servicetitan import generate as generate_tenant
from tests.rigs.jira import JiraRig
from tests.rigs.servicetitan import ServiceTitanRig

SITES = ("north", "south")


class OtherJiraRig(JiraRig):
    def make_server(self) -> FakeServer:
        server = super().make_server()
        self.site = generate(50, seed=2, personality=self.personality, limits=self.site.limits)
        server.service = JiraService(self.site, accepted=[self.accepted])
        return server


class Sites:
    """The two sites served, each with a connection of its own."""

    def __init__(self, bench: Bench, rigs: Mapping[str, FakeRig]) -> None:
        self.bench = bench
        self.rigs = rigs

    def load(self, warehouse: Warehouse, site: str, mode: Any = "full", *, late: int = 0) -> Any:
        request = self.bench.ask_for(mode, connection=site)
        nominal = self.bench.rig.now + timedelta(hours=late)
        return self.bench.load(warehouse, request, nominal=nominal)

    def content(self, warehouse: Warehouse, site: str) -> Any:
        return read_content(warehouse, self.bench.source, site)

    def alone(self, site: str) -> Any:
        """What a warehouse would hold that knows this site only."""
        warehouse = self.bench.warehouse()
        self.load(warehouse, site)
        return self.content(warehouse, site)


@contextmanager
def served(
    kinds: tuple[type[FakeRig], type[FakeRig]],
    request: pytest.FixtureRequest,
    patch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    folder: Path,
) -> Iterator[Sites]:
    with make_bench(kinds[0], request, patch, caplog, folder) as bench:
        other = kinds[1]()
        with contextmanager(other.serve)() as environment:
            assert isinstance(bench.rig, FakeRig)
            rigs = dict(zip(SITES, (bench.rig, other), strict=True))
            lines = []
            known = settings_of(bench.source)
            for site, given in zip(SITES, (bench.environment, environment), strict=True):
                lines += [f"[{site}]", f'source = "{bench.source}"']
                for name, value in {**given, **bench.rig.scans}.items():
                    variable = f"{site.upper()}_{name}"
                    patch.setenv(variable, value)
                    secret = known[name]
                    lines.append(
                        f'{name} = {{ env = "{variable}" }}' if secret else f'{name} = "{value}"'
                    )
            (folder / "sites.toml").write_text("\n".join(lines))
            patch.setenv("ETL_CONNECTIONS", "sites.toml")
            # Nothing of them is in the environment itself.
            for name in bench.environment:
                patch.delenv(name)
            yield Sites(bench, rigs)


@pytest.fixture
def jira(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> Iterator[Sites]:
    with served((JiraRig, OtherJiraRig), request, monkeypatch, caplog, tmp_path) as sites:
        yield sites


class OtherTenantRig(ServiceTitanRig):
    def make_server(self) -> FakeServer:
        server = super().make_server()
        other = generate_tenant(25, seed=2)
        self.tenant.number = other.number = self.tenant.number + 1
        self.tenant.collections = other.collections
        return server


@pytest.fixture
def tenants(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> Iterator[Sites]:
    kinds = (ServiceTitanRig, OtherTenantRig)
    with served(kinds, request, monkeypatch, caplog, tmp_path) as sites:
        yield sites


def assert_each_is_as_if_alone(sites: Sites, warehouse: Warehouse) -> None:
    north, south = (sites.alone(site) for site in SITES)
    shared = {table: north[table].keys() & south[table].keys() for table in north}
    assert any(shared.values()), "they share no ids"
    assert any(north[table][key] != south[table][key] for table in shared for key in shared[table])
    for site, expected in zip(SITES, (north, south), strict=True):
        assert_same(sites.content(warehouse, site), expected)


def load_both(sites: Sites) -> Warehouse:
    warehouse = sites.bench.warehouse()
    for site in SITES:
        sites.load(warehouse, site)
    return warehouse


def test_two_jira_sites_are_held_as_if_each_were_alone(jira: Sites) -> None:
    assert_each_is_as_if_alone(jira, load_both(jira))


def test_two_tenants_are_held_as_if_each_were_alone(tenants: Sites) -> None:
    assert_each_is_as_if_alone(tenants, load_both(tenants))


def test_a_deletion_scan_of_one_site_deletes_nothing_of_the_other(jira: Sites) -> None:
    warehouse = load_both(jira)
    before = {site: jira.content(warehouse, site) for site in SITES}
    rig = jira.rigs["north"]
    rig.delete(rig.now + timedelta(minutes=30))
    for site in reversed(SITES):
        jira.load(warehouse, site, "incremental", late=1)
    assert_same(jira.content(warehouse, "south"), before["south"])
    assert len(jira.content(warehouse, "north")["events"]) < len(before["north"]["events"])
    assert_same(jira.content(warehouse, "north"), jira.alone("north"))


def test_rejects_and_watermarks_of_one_site_are_none_of_the_other(jira: Sites) -> None:
    rig = jira.rigs["north"]
    rig.spoil()
    warehouse = load_both(jira)
    assert {each["connection"] for each in read_rejects(warehouse)} == {"north"}
    jira.load(warehouse, "south", "incremental", late=5)
    states = {each.connection: each.watermark for each in read_states(warehouse, "jira")}
    lag = timedelta(minutes=1)
    assert states == {
        "north": rig.now - lag,
        "south": rig.now + timedelta(hours=5) - lag,
    }
