"""Every source through the whole platform: real servers, both services as processes, its fake.

The source fixtures of the standard suite hold the data and change it.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta

import pytest
from temporalio.client import Client

from temporaletl.messages import BatchSummary
from temporaletl.testing import FakeSourceFixture
from tests.acceptance.platform import Platform, platform_in
from tests.acceptance.stored_rows import TABLES, content_columns, differences, part_of
from tests.fakes.faults import ENDLESS
from tests.source_fixtures.jira import JiraFixture
from tests.source_fixtures.launchpad import LaunchpadFixture
from tests.source_fixtures.salesforce import SalesforceFixture
from tests.source_fixtures.servicetitan import ServiceTitanFixture

FIXTURES = (JiraFixture, LaunchpadFixture, SalesforceFixture, ServiceTitanFixture)
#: The share of requests that suffer some fault.
_RATE_TOGETHER = 0.5

each_source = pytest.mark.parametrize("source", sorted(kind.source for kind in FIXTURES))


class Sources:
    """All sources, served at once, and the platform that reads them."""

    def __init__(self, platform: Platform, fixtures: Mapping[str, FakeSourceFixture]) -> None:
        self.platform = platform
        self.fixtures = fixtures

    def load(self, source: str, *words: str) -> BatchSummary:
        return self.platform.load(source, *words, timeout_seconds=200)

    def empty(self, source: str) -> None:
        """Delete all rows and the watermark of a source: the next run loads everything."""
        for table in TABLES[source]:
            self.platform.execute(f"DELETE FROM {part_of(table, source)}")
        self.platform.execute(f"DELETE FROM etl_sync_state WHERE source = '{source}'")

    def keep(self, source: str, name: str) -> int:
        """Copy the present rows of a source under a name; return their number."""
        total = 0
        for table in TABLES[source]:
            columns = ", ".join(content_columns(self.platform.rows, table))
            self.platform.execute(
                f"DROP TABLE IF EXISTS {name}_{table}; "
                f"CREATE TABLE {name}_{table} AS SELECT {columns} FROM {part_of(table, source)}"
            )
            [(count,)] = self.platform.rows(f"SELECT count(*) FROM {name}_{table}")
            total += int(count)
        return total

    def differences(self, source: str, name: str) -> list[tuple[object, ...]]:
        """A few of the rows that differ from those copied under a name, of either side."""
        rows = self.platform.rows
        return [
            row
            for table in TABLES[source]
            for row in differences(
                rows,
                ", ".join(content_columns(rows, table)),
                part_of(table, source),
                f"{name}_{table}",
            )
        ]


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    with contextlib.ExitStack() as exits:
        # Their budgets are measured elsewhere.
        environment = {f"{name}_REQUESTS_PER_SECOND": "1000" for name in ("LP", "SF")}
        fixtures = {}
        for make in FIXTURES:
            fixture = make()
            fixtures[fixture.source] = fixture
            environment |= exits.enter_context(contextlib.contextmanager(fixture.serve)())
            environment |= getattr(fixture, "scans", {})
        folder = tmp_path_factory.mktemp("sources") / "platform"
        platform = exits.enter_context(platform_in(folder, environment))
        yield Sources(platform, fixtures)


@each_source
def test_with_every_fault_the_rows_are_those_of_a_load_without_faults(
    sources: Sources, source: str
) -> None:
    fixture = sources.fixtures[source]
    faultless = sources.load(source, "--mode", "full")
    assert faultless.state == "completed", faultless
    assert sources.keep(source, "faultless") > 0
    sources.empty(source)

    # The standard suite has each of them at a fifth of all requests; here they come together.
    for fault in set(fixture.faults) - set(ENDLESS):
        fixture.inject_fault(f"{fault}:{_RATE_TOGETHER / len(fixture.faults)}")
    try:
        faulty = sources.load(source, "--mode", "full")
    finally:
        assert fixture.clear_faults() > 0

    assert faulty.state == "completed", faulty
    assert sources.differences(source, "faultless") == []
    assert faulty.rows.rejected == 0


@each_source
def test_what_changed_is_loaded_as_a_full_load_would_load_it(sources: Sources, source: str) -> None:
    fixture = sources.fixtures[source]
    sources.load(source, "--mode", "full")
    [(watermark,)] = sources.platform.rows(
        f"SELECT min(watermark) FROM etl_sync_state WHERE source = '{source}'"
    )
    # Later than what is loaded, and so little behind the watermark that the overlap reaches it.
    late = watermark - timedelta(seconds=30)
    fixture.change(late)
    fixture.delete(late)

    incremental = sources.load(source)
    assert incremental.state == "completed", incremental
    assert incremental.rows.inserted > 0
    sources.keep(source, "incremental")
    sources.empty(source)
    full = sources.load(source, "--mode", "full")

    assert full.state == "completed", full
    assert sources.differences(source, "incremental") == []


@each_source
def test_a_backfill_changes_neither_rows_nor_state(sources: Sources, source: str) -> None:
    sources.load(source, "--mode", "full")
    sources.keep(source, "before")
    state = sources.platform.rows(f"SELECT * FROM etl_sync_state WHERE source = '{source}'")

    end = datetime.now(UTC).date() - timedelta(days=1)
    backfill = sources.load(source, "--from", "2020-01-01", "--to", end.isoformat())

    assert backfill.state == "completed", backfill
    assert (backfill.rows.inserted, backfill.rows.updated, backfill.deleted) == (0, 0, 0)
    assert backfill.rows.unchanged > 0
    assert sources.differences(source, "before") == []
    assert state == sources.platform.rows(f"SELECT * FROM etl_sync_state WHERE source = '{source}'")


@each_source
def test_a_check_finds_all_well(sources: Sources, source: str) -> None:
    checked = sources.platform.etl("check", source)
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout
    assert {line.split()[0] for line in checked.stdout.splitlines()} == {"ok"}, checked.stdout


@each_source
def test_refused_credentials_are_one_clear_failure(sources: Sources, source: str) -> None:
    fixture = sources.fixtures[source]
    environment = sources.platform.environment | dict(fixture.wrong_credentials)
    checked = sources.platform.etl("check", source, environment=environment)
    assert checked.returncode == 2, checked.stdout
    printed = checked.stdout + checked.stderr
    assert any(setting in printed for setting in fixture.wrong_credentials)
    assert not [
        secret
        for secret in (*fixture.secrets, *fixture.wrong_credentials.values())
        if secret in printed
    ]


def test_rejects_are_replayed_by_a_command(sources: Sources) -> None:
    sources.load("servicetitan", "--mode", "full")
    platform = sources.platform
    platform.execute(
        """
        INSERT INTO etl_rejects (source, stream, reject_hash, stage, reason, key, payload,
                                 batch_id, job_id, workflow_id, run_id, extracted_at)
        SELECT source, stream, n, 'transform', 'of an earlier version', 'No. ' || n,
               CASE n WHEN 1 THEN (SELECT full_data || '{"id": 4711}' FROM st_customers LIMIT 1)
                      ELSE '{"id": "none"}' END,
               batch_id, job_id, workflow_id, run_id, '2020-01-01Z'
        FROM etl_jobs, generate_series(1, 2) AS n
        WHERE source = 'servicetitan' AND stream = 'customers' AND state = 'completed'
        ORDER BY started_at DESC LIMIT 2
        """
    )
    try:
        done = platform.etl("rejects", "replay", "servicetitan", "--wait", "--json")
        assert done.returncode == 0, done.stderr
        rows = json.loads(done.stdout)["rows"]
        assert (rows["inserted"], rows["rejected"]) == (1, 1)
        listed = platform.etl("rejects", "list", "servicetitan", "--json")
        [left] = json.loads(listed.stdout)
        assert left["key"] == "No. 2"
        assert "earlier version" not in left["reason"]
    finally:
        platform.execute("DELETE FROM etl_rejects; DELETE FROM st_customers WHERE st_id = 4711")
    none = platform.etl("rejects", "replay", "servicetitan", "--wait")
    assert "nothing to replay: servicetitan has no rejects" in none.stdout


def test_people_are_listed_and_filled_by_commands(sources: Sources) -> None:
    sources.load("salesforce", "--mode", "full")
    listed = sources.platform.etl("identities", "list", "salesforce", "--json")
    assert listed.returncode == 0, listed.stderr
    assert {"person", "employee_id", "email", "name"} == set(json.loads(listed.stdout)[0])
    filled = sources.platform.etl("identities", "fill", "salesforce", "--json")
    assert filled.returncode == 0, filled.stderr
    assert sources.platform.etl("identities", "fill", "nonsense").returncode == 2


def test_no_secret_stands_in_any_history_log_or_table(sources: Sources) -> None:
    secrets = [secret for fixture in sources.fixtures.values() for secret in fixture.secrets]
    for source in sources.fixtures:
        sources.load(source)
    text = asyncio.run(_histories(sources.platform))
    assert text.count("eventType") > 100
    text += "".join(
        log.read_text(errors="replace") for log in (sources.platform.folder / "logs").iterdir()
    )
    for table in ("etl_batches", "etl_jobs", "etl_pages", "etl_rejects", "etl_sync_state"):
        text += str(sources.platform.rows(f"SELECT * FROM {table}"))
    assert [secret for secret in secrets if secret in text] == []


async def _histories(platform: Platform) -> str:
    client = await Client.connect(platform.temporal.endpoint.address)
    return "".join([history.to_json() async for history in client.list_workflows().map_histories()])
