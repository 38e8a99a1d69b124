"""Two sites of one source, with the same ids and other content, in one warehouse."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from temporaletl.connections.entries import settings_of
from temporaletl.errors import ConfigurationError, CredentialsError
from temporaletl.external.launchpad import settings as launchpad_settings
from temporaletl.testing import FakeSourceFixture
from temporaletl.testing.contents import read_content, read_rejects
from temporaletl.testing.harness import Harness, make_harness
from temporaletl.testing.tables import assert_same
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.state import read_states
from tests.fakes.jira import JiraService, generate
from tests.fakes.server import FakeServer
from tests.fakes.servicetitan import generate as generate_tenant
from tests.source_fixtures.jira import JiraFixture
from tests.source_fixtures.launchpad import LaunchpadFixture
from tests.source_fixtures.servicetitan import ServiceTitanFixture

SITES = ("north", "south")


class OtherJiraFixture(JiraFixture):
    def make_server(self) -> FakeServer:
        server = super().make_server()
        self.site = generate(50, seed=2, personality=self.personality, limits=self.site.limits)
        server.service = JiraService(self.site, accepted=[self.accepted])
        return server


class Sites:
    """The two sites served, each with a connection of its own."""

    def __init__(self, harness: Harness, fixtures: Mapping[str, FakeSourceFixture]) -> None:
        self.harness = harness
        self.fixtures = fixtures

    def load(self, warehouse: Warehouse, site: str, mode: Any = "full", *, late: int = 0) -> Any:
        request = self.harness.request(mode, connection=site)
        scheduled = self.harness.fixture.now + timedelta(hours=late)
        return self.harness.load(warehouse, request, scheduled=scheduled)

    def content(self, warehouse: Warehouse, site: str) -> Any:
        return read_content(warehouse, self.harness.source, site)

    def alone(self, site: str) -> Any:
        """What a warehouse would hold that knows this site only."""
        warehouse = self.harness.warehouse()
        self.load(warehouse, site)
        return self.content(warehouse, site)


@contextmanager
def served(
    kinds: tuple[type[FakeSourceFixture], type[FakeSourceFixture]],
    request: pytest.FixtureRequest,
    patch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    folder: Path,
) -> Iterator[Sites]:
    with make_harness(kinds[0], request, patch, caplog, folder) as harness:
        other = kinds[1]()
        with contextmanager(other.serve)() as environment:
            assert isinstance(harness.fixture, FakeSourceFixture)
            fixtures = dict(zip(SITES, (harness.fixture, other), strict=True))
            lines = []
            known = settings_of(harness.source)
            for site, given in zip(SITES, (harness.environment, environment), strict=True):
                lines += [f"[{site}]", f'source = "{harness.source}"']
                for name, value in {**given, **harness.fixture.scans}.items():
                    variable = f"{site.upper()}_{name}"
                    patch.setenv(variable, value)
                    secret = known[name]
                    lines.append(
                        f'{name} = {{ env = "{variable}" }}' if secret else f'{name} = "{value}"'
                    )
            (folder / "sites.toml").write_text("\n".join(lines))
            patch.setenv("ETL_CONNECTIONS", "sites.toml")
            # Nothing of them is in the environment itself.
            for name in harness.environment:
                patch.delenv(name)
            yield Sites(harness, fixtures)


@pytest.fixture
def jira(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> Iterator[Sites]:
    with served((JiraFixture, OtherJiraFixture), request, monkeypatch, caplog, tmp_path) as sites:
        yield sites


class OtherTenantFixture(ServiceTitanFixture):
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
    kinds = (ServiceTitanFixture, OtherTenantFixture)
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
    warehouse = sites.harness.warehouse()
    for site in SITES:
        sites.load(warehouse, site)
    return warehouse


def test_two_jira_sites_are_held_as_if_each_were_alone(jira: Sites) -> None:
    assert_each_is_as_if_alone(jira, load_both(jira))


def test_two_tenants_are_held_as_if_each_were_alone(tenants: Sites) -> None:
    assert_each_is_as_if_alone(tenants, load_both(tenants))


@pytest.mark.parametrize("source", ["jira", "tenants"])
def test_refused_credentials_are_said_to_be_of_their_connection(
    source: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    sites: Sites = request.getfixturevalue(source)
    for name, value in sites.harness.fixture.wrong_credentials.items():
        monkeypatch.setenv(f"SOUTH_{name}", value)
    warehouse = sites.harness.warehouse()
    with pytest.raises(CredentialsError) as error:
        sites.load(warehouse, "south")
    assert str(error.value).count("(connection 'south')") == 1
    sites.load(warehouse, "north")


def test_a_deletion_scan_of_one_site_deletes_nothing_of_the_other(jira: Sites) -> None:
    warehouse = load_both(jira)
    before = {site: jira.content(warehouse, site) for site in SITES}
    fixture = jira.fixtures["north"]
    fixture.delete(fixture.now + timedelta(minutes=30))
    for site in reversed(SITES):
        jira.load(warehouse, site, "incremental", late=1)
    assert_same(jira.content(warehouse, "south"), before["south"])
    assert len(jira.content(warehouse, "north")["events"]) < len(before["north"]["events"])
    assert_same(jira.content(warehouse, "north"), jira.alone("north"))


def test_rejects_and_watermarks_of_one_site_are_none_of_the_other(jira: Sites) -> None:
    fixture = jira.fixtures["north"]
    fixture.corrupt()
    warehouse = load_both(jira)
    assert {each["connection"] for each in read_rejects(warehouse)} == {"north"}
    jira.load(warehouse, "south", "incremental", late=5)
    states = {each.connection: each.watermark for each in read_states(warehouse, "jira")}
    lag = timedelta(minutes=1)
    assert states == {
        "north": fixture.now - lag,
        "south": fixture.now + timedelta(hours=5) - lag,
    }


class JiraServer(JiraFixture):
    personality = "server"


class OtherJiraServer(OtherJiraFixture):
    personality = "server"


class OtherLaunchpadFixture(LaunchpadFixture):
    def make_server(self) -> FakeServer:
        server = super().make_server()
        self.archive.edit.report_bug(next(iter(self.archive.people)), "alpha")
        return server


KINDS: dict[str, tuple[Any, Any]] = {
    "cloud": (JiraFixture, OtherJiraFixture),
    "server": (JiraServer, OtherJiraServer),
    "tenants": (ServiceTitanFixture, OtherTenantFixture),
    "launchpad": (LaunchpadFixture, OtherLaunchpadFixture),
}


@pytest.mark.parametrize("kinds", KINDS)
def test_a_connection_that_is_turned_to_another_site_loads_nothing(
    kinds: str,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    with served(KINDS[kinds], request, monkeypatch, caplog, tmp_path) as sites:
        # Launchpads are known by their addresses.
        addresses = (f"{fixture.server.url}/" for fixture in sites.fixtures.values())
        known = dict(zip(("production", "staging"), addresses, strict=True))
        monkeypatch.setattr(launchpad_settings, "_ROOTS", known)
        warehouse = sites.harness.warehouse()
        sites.load(warehouse, "north")
        before, watermarks = sites.content(warehouse, "north"), watermarks_of(warehouse)
        file = tmp_path / "sites.toml"
        tables = file.read_text()
        north, south = tables.split("[south]")
        file.write_text(f"[north]{south}")
        for mode in ("incremental", "full"):
            with pytest.raises(ConfigurationError, match="a connection of its own"):
                sites.load(warehouse, "north", mode, late=1)
            assert_same(sites.content(warehouse, "north"), before)
            assert watermarks_of(warehouse) == watermarks
        # The first site again, and all is as it was.
        file.write_text(north)
        assert sites.load(warehouse, "north", late=2).rows.inserted == 0
        assert_same(sites.content(warehouse, "north"), before)


def watermarks_of(warehouse: Warehouse) -> dict[str, Any]:
    return {state.stream: state.watermark for state in read_states(warehouse)}


def test_a_site_that_has_moved_is_the_same_site(jira: Sites) -> None:
    warehouse = jira.harness.warehouse()
    jira.load(warehouse, "north")
    before = jira.content(warehouse, "north")
    fixture = jira.fixtures["north"]
    with FakeServer(fixture.corruptible.service) as moved:  # type: ignore[attr-defined]
        jira.harness.patch.setenv("NORTH_JIRA_URL", moved.url)
        file = Path("sites.toml")
        file.write_text(file.read_text().replace(fixture.server.url, moved.url))
        assert jira.load(warehouse, "north", late=1).rows.inserted == 0
    assert_same(jira.content(warehouse, "north"), before)
