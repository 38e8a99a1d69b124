"""deploy/roles.sql: a migrator that creates, a loader that cannot, a reader that only reads."""

import asyncio
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo

from temporaletl import CredentialsError, Event
from temporaletl.checks.sources import describe_warehouse
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.tables import migrate_warehouse
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings
from temporaletl.testing import SourceFixture
from temporaletl.testing.harness import make_harness
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate
from temporaletl.worker.loading.retention import detach
from tests.documentation import ROOT
from tests.integration.flows.own_postgres import OwnPostgres, own_postgres
from tests.integration.loading.jobs import Job, fetch, make_event
from tests.integration.trino_server import TrinoServer
from tests.source_fixtures.jira import JiraFixture, JiraServerFixture
from tests.source_fixtures.launchpad import LaunchpadFixture
from tests.source_fixtures.salesforce import SalesforceFixture
from tests.source_fixtures.servicetitan import ServiceTitanFixture
from tests.source_fixtures.trino import TrinoFixture

ROLES = (ROOT / "deploy" / "roles.sql").read_text("utf-8")
SCHEMA = "workplace"


@pytest.fixture(scope="module")
def server() -> Iterator[OwnPostgres]:
    """Roles are those of a whole server."""
    with own_postgres() as own:
        yield own


type Settings = Callable[[str], WarehouseSettings]


@pytest.fixture
def settings(server: OwnPostgres) -> Iterator[Settings]:
    """Settings of each role for a database of the test's own, to which the script was applied."""
    name = f"roles_{uuid.uuid4().hex[:8]}"
    url = make_conninfo(server.url, dbname=name)
    with psycopg.connect(server.url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        with psycopg.connect(url) as connection:
            connection.execute(ROLES.encode())

        def of(role: str) -> WarehouseSettings:
            user = {} if role == "admin" else {"user": role}
            return WarehouseSettings.model_validate(
                {"database_url": make_conninfo(url, **user), "schema_name": SCHEMA}
            )

        yield of
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def etl_migrate(settings: WarehouseSettings) -> list[str]:
    """What `etl migrate` does; the tables that it changed."""

    async def run() -> list[str]:
        async with Platform(TemporalSettings(), settings) as platform:
            return [change.table for change in await migrate_warehouse(platform)]

    return asyncio.run(run())


@pytest.mark.parametrize(
    "kind",
    [
        *(JiraFixture, JiraServerFixture, LaunchpadFixture),
        *(SalesforceFixture, ServiceTitanFixture, TrinoFixture),
    ],
)
def test_a_loader_that_may_create_nothing_loads_every_source_after_a_migration(
    kind: type[SourceFixture],
    settings: Settings,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    if kind is TrinoFixture:
        server: TrinoServer = request.getfixturevalue("trino_server")
        if server.secured is None:
            pytest.skip("no Trino server that takes our tokens")
        TrinoFixture.use(server)
    with make_harness(kind, request, monkeypatch, caplog, tmp_path) as harness:
        etl_migrate(settings("etl_migrator"))
        assert etl_migrate(settings("etl_migrator")) == []
        with Warehouse(settings("etl_loader")) as warehouse:
            assert migrate(warehouse) == []
            assert "creates no tables" in describe_warehouse(warehouse)
            summary = harness.load(warehouse).summary
            assert summary.state == "completed"
            assert summary.rows.inserted > 0
        with Warehouse(settings("etl_reader")) as read:
            [row] = fetch(read, "SELECT sum(inserted)::int AS n FROM etl_jobs")
            assert row["n"] == summary.rows.inserted
            owners = fetch(
                read,
                "SELECT DISTINCT pg_get_userbyid(relowner) AS owner FROM pg_class"
                " WHERE relnamespace = %s::regnamespace",
                SCHEMA,
            )
            assert owners == [{"owner": "etl_owner"}]


def test_a_loader_that_may_create_nothing_loads_months_that_the_owner_divides_and_detaches(
    settings: Settings,
) -> None:
    etl_migrate(settings("etl_migrator"))
    now = datetime.now(UTC)
    times = [now - timedelta(days=400), now, now + timedelta(days=40), now + timedelta(days=4000)]
    events = [make_event(n, event_time_utc=time) for n, time in enumerate(times)]
    kept = settings("etl_migrator").model_copy(update={"keep_months": "jira=6"})
    with (
        Warehouse(settings("etl_loader")) as warehouse,
        Warehouse(kept) as owner,
        Warehouse(settings("etl_reader")) as read,
    ):
        Job(warehouse).load(*events[:2])
        assert {step.kind for step in detach(owner, {"jira": (Event,)})} == {"divide", "detach"}
        # Of the coming months, of one that has no partition, and changed ones.
        Job(warehouse).load(*events[2:], replace(events[1], employee_id="E2"))
        stored = fetch(read, "SELECT event_id, employee_id FROM events ORDER BY 1")
        expected = [(events[1], "E2"), (events[2], "E1"), (events[3], "E1")]
        assert stored == [
            {"event_id": event.event_id, "employee_id": who} for event, who in expected
        ]


def test_each_role_may_do_its_own_and_nothing_more(settings: Settings) -> None:
    with Warehouse(settings("etl_loader")) as warehouse:
        with pytest.raises(CredentialsError, match="run `etl migrate` as a user who has it"):
            migrate(warehouse)
        with pytest.raises(CredentialsError, match="run `etl migrate` as a user who has it"):
            describe_warehouse(warehouse)
    etl_migrate(settings("etl_migrator"))
    refused = {
        "etl_loader": [
            "CREATE TABLE t (a int)",
            "ALTER TABLE etl_jobs ADD COLUMN a int",
            "DROP TABLE etl_jobs",
            "TRUNCATE etl_jobs",
            "CREATE SCHEMA other",
            "SET ROLE etl_owner",
        ],
        "etl_reader": [
            "DELETE FROM etl_jobs",
            "INSERT INTO etl_migrations (name) VALUES ('a')",
            "CREATE TEMPORARY TABLE t (a int)",
            "SET ROLE etl_owner",
        ],
    }
    # What the reader's sessions begin with keeps nobody from anything: the privileges do.
    options = f"-c search_path={SCHEMA} -c default_transaction_read_only=off"
    for role, statements in refused.items():
        conninfo = settings(role).conninfo().get_secret_value()
        for statement in statements:
            with (
                psycopg.connect(conninfo, options=options) as connection,
                pytest.raises(errors.InsufficientPrivilege),
            ):
                connection.execute(statement.encode())


def test_a_warehouse_that_another_user_made_is_taken_over(settings: Settings) -> None:
    with Warehouse(settings("admin")) as warehouse:
        with warehouse.connection() as connection:
            connection.execute("CREATE VIEW seen AS SELECT 1 AS one")
        assert migrate(warehouse)
    with psycopg.connect(settings("admin").conninfo().get_secret_value()) as connection:
        connection.execute(ROLES.encode())
        foreign = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace"
            " AND pg_get_userbyid(relowner) <> 'etl_owner'",
            [SCHEMA],
        )
        assert foreign.fetchall() == []
    etl_migrate(settings("etl_migrator"))
    with Warehouse(settings("etl_loader")) as warehouse:
        assert fetch(warehouse, "SELECT one FROM seen") == [{"one": 1}]
