"""The dbt package on the data of every source: all is green, and what is deleted disappears."""

import asyncio
import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from os import environ
from pathlib import Path
from typing import Any

import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from temporaletl.messages import QueuerInput
from temporaletl.testing.batch import Batch
from temporaletl.testing.harness import make_harness
from temporaletl.testing.source_fixture import SourceFixture
from temporaletl.warehouse.connection import Warehouse
from tests.integration.checkout import PROJECT
from tests.integration.temporal_subjects import Subjects, source
from tests.integration.trino_server import TrinoServer
from tests.source_fixtures.jira import JiraFixture
from tests.source_fixtures.launchpad import LaunchpadFixture
from tests.source_fixtures.salesforce import SalesforceFixture
from tests.source_fixtures.servicetitan import ServiceTitanFixture
from tests.source_fixtures.trino import TrinoFixture

__all__ = ["source"]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: Runs dbt with these arguments; returns the statuses of its nodes.
Dbt = Callable[..., dict[str, str]]
_FIXTURES = (LaunchpadFixture, SalesforceFixture, ServiceTitanFixture, TrinoFixture)


@pytest.fixture
def dbt(warehouse: Warehouse, postgres_url: str, tmp_path: Path) -> Dbt:
    script = PROJECT / "scripts" / "dbt"
    there = subprocess.run([script], capture_output=True, text=True, check=False)
    if there.returncode != 0:
        pytest.skip(there.stderr.strip().splitlines()[-1])
    parts = conninfo_to_dict(postgres_url)
    names = {"host": "HOST", "port": "PORT", "dbname": "NAME", "user": "USER"}
    settings = {f"WPE_DB_{name}": str(parts[part]) for part, name in names.items() if part in parts}
    settings |= {"WPE_DB_PASSWORD": str(parts.get("password") or "")}
    # Its own schema is the warehouse's, which the fixture drops.
    settings |= {"WPE_DB_SCHEMA": warehouse.schema, "DBT_SCHEMA": warehouse.schema}

    def run(*arguments: str) -> dict[str, str]:
        folders = ("--target-path", tmp_path / "target", "--log-path", tmp_path / "logs")
        ended = subprocess.run(
            [script, "--warn-error", *arguments, *folders],
            env=environ | settings,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr
        name = "sources.json" if "freshness" in arguments else "run_results.json"
        results = json.loads((tmp_path / "target" / name).read_text("utf-8"))["results"]
        return {one["unique_id"]: one["status"] for one in results}

    return run


def events(warehouse: Warehouse, table: str = "all_events") -> set[tuple[str, str]]:
    select = sql.SQL("SELECT source_kind_id, event_id FROM {}").format(sql.Identifier(table))
    with warehouse.connection() as connection:
        return {(str(source), str(id_)) for source, id_ in connection.execute(select)}


def test_every_model_is_green_and_follows_a_deletion(
    dbt: Dbt,
    warehouse: Warehouse,
    subjects: Subjects,
    trino_server: TrinoServer,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> None:
    if trino_server.secured is None:
        pytest.skip("no Trino server that takes our tokens")
    TrinoFixture.use(trino_server)

    def serving(kind: type[SourceFixture], patch: pytest.MonkeyPatch) -> Any:
        return make_harness(kind, request, patch, caplog, tmp_path)

    for kind in _FIXTURES:
        with pytest.MonkeyPatch.context() as patch, serving(kind, patch) as harness:
            harness.load(warehouse)
    monkeypatch.setenv("SOURCE_TEMPORAL_NAMESPACES", subjects.namespace)
    executions = QueuerInput(source="temporal", mode="full")
    asyncio.run(
        Batch(warehouse).run(executions, scheduled=datetime.now(UTC) + timedelta(minutes=1))
    )
    with serving(JiraFixture, monkeypatch) as harness:
        for name, value in JiraFixture.scans.items():
            monkeypatch.setenv(name, value)
        harness.load(warehouse)
        first = dbt("build")
        assert {*first.values()} == {"success", "pass"}
        assert {*dbt("source", "freshness").values()} == {"pass"}
        present = events(warehouse)
        assert events(warehouse, "fct_events") == present

        for hours, soft in enumerate((False, True), start=1):
            warehouse.soft_delete = soft
            harness.fixture.delete(harness.fixture.now)
            later = harness.fixture.now + timedelta(hours=hours)
            harness.load(warehouse, harness.request("incremental"), scheduled=later)
            before, present = present, events(warehouse)
            assert present < before
            assert dbt("build") == first
            assert events(warehouse, "fct_events") == present
    assert (len(events(warehouse, "events")) > len(present)) is soft
