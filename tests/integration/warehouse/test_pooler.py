"""Behind a pooler every transaction may have another server process: nothing depends on one."""

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from time import monotonic

import psycopg
import pytest
from psycopg import sql

from temporaletl import Event
from temporaletl.errors import WarehouseUnavailableError
from temporaletl.messages import RunPolicy
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse import ledger
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate
from temporaletl.worker.loading import Loader, PageLoad
from temporaletl.worker.loading.copying import copy_rows
from tests.integration.loading.jobs import NOON, Job, counts, fetch, make_event
from tests.integration.pooler import pooler
from tests.integration.tcp_relay import TcpRelay
from tests.integration.warehouse.batches import finish, job, make_metadata, plan

_PAGES = 12


@pytest.fixture(params=[1, 2], ids=["one connection", "two connections"])
def platforms(request: pytest.FixtureRequest, postgres_url: str) -> Iterator[list[Warehouse]]:
    """Two platforms with schemas of their own behind one pooler."""
    schemas = [f"test_{uuid.uuid4().hex[:12]}" for _ in range(2)]
    with ExitStack() as exits:
        url = exits.enter_context(pooler(postgres_url, size=request.param))
        found = [
            exits.enter_context(
                Warehouse(
                    WarehouseSettings.model_validate({"database_url": url, "schema_name": schema})
                )
            )
            for schema in schemas
        ]
        for warehouse in found:
            migrate(warehouse)
        yield found
    with psycopg.connect(postgres_url) as connection:
        for schema in schemas:
            connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


def test_two_platforms_that_load_at_once_meet_in_no_table(platforms: list[Warehouse]) -> None:
    def load(number: int) -> list[tuple[int, int, int, int]]:
        job = Job(platforms[number])
        done = []
        for page in range(_PAGES):
            # New rows, and those of the page before with other content.
            rows = [
                make_event(n, employee_id=f"platform {number}, page {page}")
                for n in range((page - 1) * 10 if page else 0, (page + 1) * 10)
            ]
            done.append(counts(job.load(*rows)))
        return done

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(load, range(2))
    assert first == second
    assert first[-1] == (10 * _PAGES, 10 * (_PAGES - 1), 0, 0)
    for number, warehouse in enumerate(platforms):
        written = fetch(warehouse, "SELECT DISTINCT split_part(employee_id, ',', 1) FROM events")
        assert written == [{"split_part": f"platform {number}"}]
        assert len(fetch(warehouse, "SELECT FROM etl_pages")) == _PAGES
        assert len(fetch(warehouse, "SELECT FROM jira_events")) == 10 * _PAGES


def test_a_batch_is_planned_and_closed_in_its_own_schema(platforms: list[Warehouse]) -> None:
    for number, warehouse in enumerate(platforms):
        metadata = make_metadata(f"shop-{number}")
        jobs = plan(warehouse, metadata, (job(metadata, n) for n in range(3)))
        for each in jobs:
            ledger.begin_job(warehouse, each, workflow_id="wf", run_id="run")
            ledger.end_job(warehouse, each, "completed")
        assert finish(warehouse, metadata).jobs.completed == 3
    for number, warehouse in enumerate(platforms):
        assert fetch(warehouse, "SELECT batch_id FROM etl_batches") == [
            {"batch_id": f"shop-{number}"}
        ]


def test_a_session_that_is_frozen_behind_a_pooler_is_ended_by_who_waits_for_it(
    platforms: list[Warehouse], postgres_url: str
) -> None:
    """Here by a process that reaches the server past the pooler, which has none to spare."""
    warehouse, _ = platforms
    short = RunPolicy(heartbeat_timeout=timedelta(seconds=1))
    held = Job(warehouse).input.model_copy(update={"policy": short})
    settings = {"database_url": postgres_url, "schema_name": warehouse.schema}
    with (
        Warehouse(WarehouseSettings.model_validate(settings)) as direct,
        warehouse.connection() as session,
    ):
        session.execute("SELECT FROM etl_jobs FOR UPDATE")
        assert ledger.end_job(direct, held, "completed").state == "completed"
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")


@pytest.mark.parametrize("moment", ["beginning", "reading", "copying"])
def test_a_page_is_given_up_where_the_server_is_gone_behind_its_pooler(
    warehouse: Warehouse, postgres_url: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pooler lets everybody in, and acknowledges all that is sent."""
    job = Job(warehouse)
    with (
        TcpRelay(postgres_url) as relay,
        pooler(relay.url, size=2) as url,
        Warehouse(
            WarehouseSettings.model_validate({"database_url": url, "schema_name": warehouse.schema})
        ) as cut_off,
    ):
        cut_off.limits = replace(cut_off.limits, network=timedelta(seconds=0.5))
        loader = Loader(cut_off, [Event], job.lineage)
        loader.prepare()

        def freezing[**P, R](work: Callable[P, R]) -> Callable[P, R]:
            def frozen(*given: P.args, **named: P.kwargs) -> R:
                relay.freeze(admitting=False)
                return work(*given, **named)

            return frozen

        if moment == "beginning":
            relay.freeze(admitting=False)
        elif moment == "reading":
            monkeypatch.setattr(loader, "_running_streams", freezing(loader._running_streams))
        else:
            monkeypatch.setattr("temporaletl.worker.loading.merge.copy_rows", freezing(copy_rows))
        page = PageLoad(0, [make_event(n) for n in range(10)], [], 10, 0, None, 1, NOON)
        began = monotonic()
        with pytest.raises(WarehouseUnavailableError, match="no answer for"):
            loader.load(page)
        assert monotonic() - began < 10
    assert fetch(warehouse, "SELECT count(*) FROM events") == [{"count": 0}]
    assert counts(job.load(*(make_event(n) for n in range(10)))) == (10, 0, 0, 0)


def test_nothing_is_left_in_the_sessions_that_a_pooler_keeps(
    platforms: list[Warehouse],
) -> None:
    for warehouse in platforms:
        loaded = Job(warehouse)
        loaded.load(make_event(1))
        loaded.load(make_event(1, employee_id="another"))
    with psycopg.connect(warehouse._conninfo(), prepare_threshold=None) as other:
        left = other.execute(
            "SELECT (SELECT count(*) FROM pg_prepared_statements),"
            " (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),"
            " (SELECT count(*) FROM pg_settings WHERE source = 'session'"
            "  AND name NOT IN ('application_name', 'client_encoding'))"
        ).fetchone()
    assert left == (0, 0, 0)
