"""Wrong clocks and black-hole connections while data changes: no row is lost.

The rows must end as those of a fresh load, within three minutes of the fault's end.
"""

import contextlib
import dataclasses
import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import monotonic, time
from typing import Any

import psycopg
import pytest
from psycopg import conninfo

from temporaletl.messages import BatchSummary
from tests.acceptance.platform import Platform, access_to, platform_in, shifted_clock
from tests.fakes.jira import Site, expected_counts, generate, serve
from tests.fakes.server import FakeServer
from tests.integration.tcp_relay import TcpRelay

_ISSUES = 80
_WELL_WITHIN_SECONDS = 180
_DATA = (
    "event_id, parent_item_id, event_type, relation_type, event_time_utc, event_properties, "
    "relation_properties, metrics, version, specific_version"
)
#: Longer than the search may lag behind, shorter than the overlap of two loads.
_AGO_MS = 90_000


@pytest.fixture
def site() -> Site:
    return generate(_ISSUES, seed=5, personality="cloud")


@pytest.fixture
def jira(site: Site) -> Iterator[FakeServer]:
    with serve(site) as server:
        yield server


@pytest.fixture
def platform(jira: FakeServer, tmp_path: Path) -> Iterator[Platform]:
    environment = {
        **access_to(jira),
        "JIRA_PAGE_SIZE": "10",
        "JIRA_READ_TIMEOUT_SECONDS": "5",
        "ETL_ROWS_PER_PAGE": "50",
        "WPE_DB_NETWORK_TIMEOUT_SECONDS": "5",
        "WPE_DB_IDLE_TRANSACTION_TIMEOUT_SECONDS": "10",
    }
    with platform_in(tmp_path / "platform", environment) as running:
        yield running


class Changes:
    """Makes small changes to the site, always to another issue."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._number = 0

    def make(self) -> None:
        rows = self._site.rows
        at = self._site.clock() - _AGO_MS
        for _ in range(5):
            self._number += 1
            row = rows[self._number * 7 % _ISSUES]
            self._site.edit.add_comment(row.key, f"thought {self._number}", at=at)
            self._site.edit.transition(
                row.key, ("Done", "Blocked", "To Do")[self._number % 3], at=at + 1_000
            )
        self._site.edit.add_issue(rows[0].project, f"Issue {self._number}", at=at)


@pytest.fixture
def changes(site: Site) -> Changes:
    return Changes(site)


def assert_as_a_fresh_load(platform: Platform, site: Site) -> None:
    """Compare the stored rows with those of a load into empty tables."""
    platform.execute(f"CREATE TABLE found AS SELECT {_DATA} FROM events; TRUNCATE events")
    assert platform.load("jira", "--mode", "full").state == "completed"
    [(doubled,)] = platform.rows("SELECT count(*) - count(DISTINCT event_id) FROM found")
    assert doubled == 0
    for name, first, second in (("lost", "events", "found"), ("too much", "found", "events")):
        different = platform.rows(
            f"SELECT event_id FROM (SELECT {_DATA} FROM {first} "
            f"EXCEPT ALL SELECT {_DATA} FROM {second}) AS difference LIMIT 5"
        )
        assert different == [], name
    [(count,)] = platform.rows("SELECT count(*) FROM found")
    assert count == expected_counts(site).events


def finished(command: "subprocess.Popen[str]", since: float) -> BatchSummary:
    """The summary of a run, which ends in time."""
    left = _WELL_WITHIN_SECONDS - (monotonic() - since)
    answer, errors = command.communicate(timeout=max(1.0, left))
    assert command.returncode == 0, f"{errors}\n{answer}"
    summary = BatchSummary.model_validate(json.loads(answer))
    assert summary.state == "completed", summary
    return summary


def wait_for_rows(platform: Platform, than: int = 0) -> None:
    deadline = monotonic() + 90
    while True:
        # The table is made when the first job begins.
        [(there,)] = platform.rows("SELECT to_regclass('events') IS NOT NULL")
        if there and platform.rows("SELECT count(*) FROM events")[0][0] > than:
            return
        assert monotonic() < deadline, "nothing is loaded"


def run(platform: Platform, mode: str) -> Any:
    return platform.etl_running("run", "jira", "--mode", mode, "--wait", "--json")


# Clocks.


def faketime(shift: str) -> dict[str, str]:
    clock = shifted_clock(shift)
    if clock is None:
        pytest.skip("no libfaketime: Debian's package `faketime` has it")
    return clock


@contextlib.contextmanager
def shifted(platform: Platform, part: str, shift: str) -> Iterator[None]:
    """Restart a component with a shifted clock, and after the block with the right one."""
    wrong = faketime(shift)
    if part == "database":
        restart_database(platform, wrong)
        [(hours,)] = platform.rows(
            f"SELECT extract(epoch FROM clock_timestamp() - to_timestamp({time()})) / 3600"
        )
        assert abs(hours) > 23
        yield
        restart_database(platform, {})
        return
    platform.services[part].end()
    with with_environment(platform, wrong).another(part):
        yield
    platform.start_service(part)
    platform.await_service(part)


def restart_database(platform: Platform, environment: Mapping[str, str]) -> None:
    platform.postgres.end()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        platform.postgres.start(platform.stop)


def with_environment(platform: Platform, more: Mapping[str, str]) -> Platform:
    return dataclasses.replace(platform, environment={**platform.environment, **more})


@pytest.mark.slow
@pytest.mark.parametrize("shift", ["+1d", "-1d"])
@pytest.mark.parametrize("part", ["worker", "queuer", "database"])
def test_a_clock_that_was_a_day_wrong_loses_nothing(
    platform: Platform, site: Site, changes: Changes, part: str, shift: str
) -> None:
    assert platform.load("jira", "--mode", "full").state == "completed"
    with shifted(platform, part, shift):
        changes.make()
        first = platform.load("jira", timeout_seconds=150)
        changes.make()
        second = platform.load("jira", "--mode", "full", timeout_seconds=150)
        # A run may be refused while the clock is wrong; it then says why.
        assert {first.state, second.state} <= {"completed", "failed"}
    well = monotonic()
    changes.make()
    with run(platform, "incremental") as command:
        finished(command, well)
    assert_as_a_fresh_load(platform, site)


@pytest.mark.slow
def test_a_clock_that_is_set_right_in_the_middle_of_a_run_loses_nothing(
    platform: Platform, jira: FakeServer, site: Site, changes: Changes
) -> None:
    jira.latency_seconds = 0.2
    with run(platform, "full") as command:
        with shifted(platform, "worker", "+1d"):
            wait_for_rows(platform)
            changes.make()
        well = monotonic()
        jira.latency_seconds = 0
        finished(command, well)
    changes.make()
    assert platform.load("jira").state == "completed"
    assert_as_a_fresh_load(platform, site)


# Connections that swallow everything, and a worker that stands still.


@contextlib.contextmanager
def relayed_worker(platform: Platform, relay: TcpRelay, name: str) -> Iterator[None]:
    """The worker, with the warehouse or the source behind a relay."""
    address = relay.address
    if name == "source":
        settings = {"JIRA_URL": f"http://{address}"}
    else:
        user = psycopg.conninfo.conninfo_to_dict(platform.postgres.url)
        settings = {
            "DATABASE_URL": f"postgresql://{user['user']}:a-password@{address}/{user['dbname']}"
        }
    platform.services["worker"].end()
    with with_environment(platform, settings).another("worker"):
        yield


@pytest.mark.parametrize("name", ["source", "warehouse"])
def test_a_connection_that_swallows_everything_holds_nothing_up(
    platform: Platform, jira: FakeServer, site: Site, changes: Changes, name: str
) -> None:
    target = platform.postgres.url
    if name == "source":
        target = conninfo.make_conninfo(host="127.0.0.1", port=str(jira.port))
    jira.latency_seconds = 0.1
    with (
        TcpRelay(target) as relay,
        relayed_worker(platform, relay, name),
        run(platform, "full") as command,
    ):
        wait_for_rows(platform)
        relay.freeze(admitting=False)
        changes.make()
        # New connections fare no better, until the network is well; those that are stuck stay so.
        until = monotonic() + 15
        while monotonic() < until:
            assert command.poll() is None
            changes.make()
            wait(command)
        relay.freeze(admitting=True)
        well = monotonic()
        finished(command, well)
        changes.make()
        assert platform.load("jira", timeout_seconds=150).state == "completed"
    platform.start_service("worker")
    platform.await_service("worker")
    assert_as_a_fresh_load(platform, site)


def wait(command: "subprocess.Popen[str]") -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        command.wait(timeout=3)


def test_a_worker_that_stood_still_goes_on(
    platform: Platform, jira: FakeServer, site: Site, changes: Changes
) -> None:
    jira.latency_seconds = 0.1
    with run(platform, "full") as command:
        wait_for_rows(platform)
        with platform.frozen("worker"):
            # Longer than its heartbeat may be missing.
            until = monotonic() + 12
            while monotonic() < until:
                changes.make()
                wait(command)
        well = monotonic()
        finished(command, well)
    changes.make()
    assert platform.load("jira").state == "completed"
    assert_as_a_fresh_load(platform, site)
