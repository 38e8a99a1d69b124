"""A warehouse of before there were connections: what is in it becomes `default`'s, in place."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import sql

from temporaletl.ids import job_id_of
from temporaletl.messages import BatchMetadata, ETLInput, Window
from temporaletl.rows import Event, Identity, Row, TemporalWorkflow
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.strategies import import_sources, resolve
from temporaletl.warehouse.closing import close_batch
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.identities import known_people
from temporaletl.warehouse.ledger import begin_job, open_jobs
from temporaletl.warehouse.migration import migrate
from temporaletl.warehouse.rejects import read_rejects, streams_with_rejects
from temporaletl.worker.loading import Lineage, Loader, PageLoad
from temporaletl.worker.loading.columns import layout_of
from tests.integration.loading.jobs import Job, counts, execute, fetch, make_event
from tests.integration.old_warehouse import (
    create_old_table,
    later_migrations,
    migrate_to_0008,
    old_key,
    take_connections_out,
)

SOURCES = ("jira", "launchpad", "salesforce", "trino")
BATCH = "jira-full-20240501T120000Z-00000000"

#: As a service does when it starts.
_MIGRATE = """
import sys
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate
with Warehouse(WarehouseSettings.load()) as warehouse:
    print("ready", flush=True)
    sys.stdin.readline()
    print(*migrate(warehouse))
"""


@pytest.fixture
def old(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Warehouse]:
    """An empty warehouse with the tables of then."""
    import_sources("temporaletl.worker.sources")
    schema = f"test_{uuid.uuid4().hex[:12]}"
    settings = WarehouseSettings.model_validate(
        {"database_url": postgres_url, "schema_name": schema}
    )
    with Warehouse(settings) as warehouse:
        migrate_to_0008(warehouse, monkeypatch)
        for row in row_classes():
            create_old_table(warehouse, row, SOURCES if row.table == "events" else ())
        yield warehouse
    with psycopg.connect(postgres_url) as connection:
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


def row_classes() -> list[type[Row]]:
    titan = [
        row
        for stream in ("customers", "jobs", "invoices", "estimates")
        for row in resolve("servicetitan", stream).rows
    ]
    return [Event, TemporalWorkflow, *titan]


def fill(warehouse: Warehouse, count: int = 3) -> None:
    """Some rows of every source, people, a reject, and a batch that runs."""
    for source in SOURCES:
        execute(
            warehouse,
            "INSERT INTO events (source_kind_id, event_id, event_type, row_hash, extracted_at)"
            " SELECT %s, 'event-' || n, 'issue_created', n, now()"
            " FROM generate_series(1, %s) AS n",
            source,
            count,
        )
    execute(
        warehouse,
        "INSERT INTO temporal_workflows (namespace, workflow_id, run_id, row_hash)"
        " SELECT 'billing', 'w', 'run-' || n, n FROM generate_series(1, %s) AS n",
        count,
    )
    for table in ("st_customers", "st_jobs", "st_invoices", "st_estimates"):
        with warehouse.connection() as connection:
            connection.execute(
                sql.SQL(
                    "INSERT INTO {} (st_id, row_hash) SELECT n, n FROM generate_series(1, %s) AS n"
                ).format(sql.Identifier(table)),
                [count],
            )
    execute(
        warehouse,
        "INSERT INTO etl_identities (source_kind_id, person, employee_id, email)"
        " VALUES ('jira', 'a1', 'E1', 'one@example.com')",
    )
    metadata = BatchMetadata(
        batch_id=BATCH,
        source="jira",
        mode="full",
        connection="default",
        windows={"issues": Window()},
        worker_queue="q",
        started="2024-05-01T12:00:00Z",
    )
    execute(
        warehouse,
        "INSERT INTO etl_batches (batch_id, source, mode, connection, metadata, state,"
        " workflow_id, run_id, jobs_planned)"
        " VALUES (%s, 'jira', 'full', 'default', %s::jsonb, 'running', 'q', 'q', 2)",
        BATCH,
        metadata.model_dump_json(),
    )
    for seq in range(2):
        job = planned_job(seq)
        execute(
            warehouse,
            "INSERT INTO etl_jobs (batch_id, seq, job_id, source, stream, input, state)"
            " VALUES (%s, %s, %s, 'jira', 'issues', %s::jsonb, %s)",
            BATCH,
            seq,
            job.job_id,
            job.model_dump_json(),
            ("running", "planned")[seq],
        )
    execute(
        warehouse,
        "INSERT INTO etl_rejects (source, stream, reject_hash, stage, reason, key, batch_id,"
        " job_id, workflow_id, run_id) VALUES ('jira', 'issues', 7, 'transform', 'no date',"
        " 'PROJ-1', 'earlier', 'j', 'w', 'r')",
    )


def planned_job(seq: int) -> ETLInput:
    job = ETLInput(
        batch_id=BATCH,
        seq=seq,
        job_id="",
        source="jira",
        stream="issues",
        mode="full",
        params={"number": seq},
    )
    return job.model_copy(update={"job_id": job_id_of(job)})


def snapshot(warehouse: Warehouse) -> dict[str, list[Any]]:
    """Every row version of the sources' tables: where it lies, and what it says of old."""
    classes: list[type[Row]] = [*row_classes(), Identity]
    tables = {row.table: row for row in classes}
    found = {}
    for table, row in tables.items():
        names = [c.name for c in layout_of(row).columns if c.name != layout_of(row).connection]
        with warehouse.connection() as connection:
            statement = sql.SQL(
                "SELECT tableoid::regclass::text, ctid::text, xmin::text, {} FROM {} ORDER BY 1, 2"
            ).format(sql.SQL(", ").join(map(sql.Identifier, names)), sql.Identifier(table))
            found[table] = connection.execute(statement).fetchall()
    return found


def keys(warehouse: Warehouse, table: str) -> set[str]:
    found = fetch(
        warehouse,
        "SELECT indexdef FROM pg_indexes WHERE tablename = %s"
        " AND schemaname = current_schema() AND indexdef LIKE 'CREATE UNIQUE%%'",
        table,
    )
    return {row["indexdef"].partition(" USING btree ")[2] for row in found}


def start_service(warehouse: Warehouse, url: str) -> "subprocess.Popen[str]":
    environment = {**os.environ, "DATABASE_URL": url, "WPE_DB_SCHEMA": warehouse.schema}
    process = subprocess.Popen(
        [sys.executable, "-c", _MIGRATE],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_two_services_that_start_at_once_bring_it_forward_and_touch_no_row(
    old: Warehouse, postgres_url: str
) -> None:
    fill(old)
    before = snapshot(old)
    services = [start_service(old, postgres_url) for _ in range(2)]
    applied: list[str] = []
    for service in services:
        assert service.stdin is not None
        service.stdin.write("\n")
        service.stdin.flush()
    for service in services:
        out, _ = service.communicate(timeout=60)
        assert service.returncode == 0
        applied += out.split()
    # Each once, by either.
    assert sorted(applied) == later_migrations()
    assert snapshot(old) == before
    assert keys(old, "events") == {"(source_kind_id, connection, event_id) INCLUDE (row_hash)"}
    assert keys(old, "jira_events") == keys(old, "events")
    assert keys(old, "temporal_workflows") == {
        "(connection, namespace, workflow_id, run_id) INCLUDE (row_hash)"
    }
    assert keys(old, "st_jobs") == {"(connection, st_id) INCLUDE (row_hash)"}
    assert keys(old, "etl_identities") == {
        "(connection, source_kind_id, person) INCLUDE (row_hash)"
    }
    for table in snapshot(old):
        with old.connection() as connection:
            statement = sql.SQL("SELECT DISTINCT connection FROM {}").format(sql.Identifier(table))
            assert connection.execute(statement).fetchall() == [("default",)]


def test_what_was_known_is_known_of_default_and_of_nobody_else(old: Warehouse) -> None:
    fill(old)
    migrate(old)
    assert known_people(old, "jira", "default") == {"one@example.com": "E1", "a1": "E1"}
    assert known_people(old, "jira", "acme") == {"one@example.com": "E1"}
    assert [r.key for r in read_rejects(old, "jira", "default", limit=5).rejects] == ["PROJ-1"]
    assert read_rejects(old, "jira", "acme", limit=5).total == 0
    metadata = fetch(old, "SELECT metadata FROM etl_batches")[0]["metadata"]
    batch = BatchMetadata.model_validate(metadata)
    assert streams_with_rejects(old, batch) == ["issues"]
    assert streams_with_rejects(old, batch.model_copy(update={"connection": "acme"})) == []


def test_a_batch_that_runs_goes_on(old: Warehouse) -> None:
    fill(old)
    migrate(old)
    jobs, _ = open_jobs(old, BATCH, first=0, end=2)
    assert [job.connection for job in jobs] == ["default", "default"]
    for job in jobs:
        begin_job(old, job, workflow_id="w", run_id="r")
        loader = Loader(old, [Event], Lineage(job, "w", "r", "1", "1.0"))
        page = Job.page_of(0, make_event(job.seq))
        assert isinstance(page, PageLoad)
        assert counts(loader.load(page)) == (1, 0, 0, 0)
    execute(old, "UPDATE etl_jobs SET state = 'completed', ended_at = now()")
    metadata = BatchMetadata.model_validate(
        fetch(old, "SELECT metadata FROM etl_batches")[0]["metadata"]
    )
    summary, _ = close_batch(old, metadata, workflow_id="q", cancelled=False, error=None)
    assert (summary.state, summary.connection, summary.rows.inserted) == ("completed", "default", 2)


def test_a_key_that_something_depends_on_stays_and_default_goes_on(old: Warehouse) -> None:
    execute(
        old,
        "CREATE TABLE visits (st_id bigint REFERENCES st_jobs (st_id), at timestamptz)",
    )
    fill(old)
    migrate(old)
    assert keys(old, "st_jobs") == {"(st_id) INCLUDE (row_hash)"}
    [row] = resolve("servicetitan", "jobs").rows
    Job(old, source="servicetitan", stream="jobs", rows=[row]).loader.prepare()
    assert "(connection, st_id) INCLUDE (row_hash)" in keys(old, "st_jobs")


def test_taking_connections_out_gives_the_schema_of_then(
    old: Warehouse, warehouse: Warehouse
) -> None:
    """What other tests take for an old warehouse is one."""
    for row in row_classes():
        stream = "issues" if row is Event else "any"
        Job(warehouse, source="jira", stream=stream, rows=[row]).loader.prepare()
    take_connections_out(warehouse, row_classes())
    names = {row.table for row in row_classes()} | {"jira_events", "etl_jobs", "etl_rejects"}
    for table in sorted(names | {"etl_identities"}):
        assert described(warehouse, table) == described(old, table), table
        assert keys(warehouse, table) == keys(old, table), table
    assert all(old_key(row) for row in row_classes())


def described(warehouse: Warehouse, table: str) -> set[tuple[Any, ...]]:
    return {
        tuple(row.values())
        for row in fetch(
            warehouse,
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull,"
            " attcollation::regcollation::text FROM pg_attribute"
            " WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
            table,
        )
    }
