"""What is counted once, however often it is done, and what the warehouse says of the platform."""

import asyncio
import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest

from temporaletl.bound_connection import bound
from temporaletl.budget import counted_request
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.warehouse_metrics import WarehouseMetrics
from temporaletl.errors import WarehouseUnavailableError
from temporaletl.external.exchange import outcome_of
from temporaletl.messages import JobOutcome
from temporaletl.service.process import make_workers
from temporaletl.service.readiness import Standing
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings, WorkerSettings
from temporaletl.telemetry import metrics
from temporaletl.telemetry.instruments import Counter
from temporaletl.warehouse.budget import block_source
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.ledger import begin_job, end_job, record_outcomes
from temporaletl.warehouse.measures import measure
from temporaletl.worker.__main__ import service_of
from tests.integration.temporal_server import TemporalServer
from tests.integration.warehouse.batches import finish, job, make_metadata, plan
from tests.waiting import until

SHOP = {"source": "shop", "connection": "default"}


def counting(counter: Counter, **labels: str) -> Callable[[], float]:
    """How much a counter has grown since."""
    before = counter.value(**labels)
    return lambda: counter.value(**labels) - before


def test_ends_of_jobs_and_runs_are_counted_once(warehouse: Warehouse) -> None:
    metadata = make_metadata()
    planned = plan(warehouse, metadata, [job(metadata, number) for number in range(4)])
    ended = {
        state: counting(metrics.jobs, stream="orders", outcome=state, **SHOP)
        for state in ("completed", "failed", "skipped", "cancelled")
    }
    runs = counting(metrics.batches, mode="incremental", outcome="failed", **SHOP)
    begin_job(warehouse, planned[0], workflow_id="job/0", run_id="run")
    for _ in range(2):
        end_job(warehouse, planned[0], "completed")
        record_outcomes(
            warehouse,
            metadata.batch_id,
            [JobOutcome(seq=1, state="failed", error="lost"), JobOutcome(seq=2, state="skipped")],
        )
        finish(warehouse, metadata)
    assert {state: count() for state, count in ended.items()} == dict.fromkeys(ended, 1)
    assert runs() == 1


def test_the_warehouse_says_what_is_open_and_how_large_it_is(warehouse: Warehouse) -> None:
    metadata = make_metadata()
    planned = plan(warehouse, metadata, [job(metadata, number) for number in range(3)])
    begin_job(warehouse, planned[0], workflow_id="job/0", run_id="run")
    block_source(warehouse, "shop", "default", timedelta(minutes=10))
    found = measure(warehouse)
    assert found.batches_open == [(("shop", "default", "running"), 1)]
    assert dict(found.jobs_open) == {
        ("shop", "default", "running"): 1,
        ("shop", "default", "waiting"): 2,
    }
    assert found.oldest_waiting_seconds > 0
    [(whose, seconds)] = found.cool_downs
    assert whose == ("shop", "default")
    assert 500 < seconds <= 600
    assert dict(found.table_bytes)["etl_jobs",] > 0
    assert {*dict(found.table_bytes)} == {*dict(found.table_rows)}
    finish(warehouse, metadata)
    assert measure(warehouse).jobs_open == []


async def test_the_warehouse_is_asked_once_for_many_who_read_and_an_outage_is_told(
    warehouse: Warehouse, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def counted(asked_of: Warehouse) -> object:
        nonlocal asked
        asked += 1
        return measure(asked_of)

    monkeypatch.setattr("temporaletl.control.operations.warehouse_metrics.measure", counted)
    settings = TemporalSettings.model_validate({"enabled": False})
    known = {"database_url": postgres_url, "schema_name": warehouse.schema}
    async with Platform(settings, WarehouseSettings.model_validate(known)) as platform:
        read = WarehouseMetrics(platform, timedelta(hours=1))
        await asyncio.gather(*(read.refresh() for _ in range(20)))
    assert asked == 1
    assert metrics.warehouse_up.samples() == [((), 1)]
    assert (("etl_jobs",), 0) not in metrics.table_bytes.samples()
    nowhere = WarehouseSettings.model_validate({"database_url": "postgresql://127.0.0.1:1/none"})
    async with Platform(settings, nowhere) as platform:
        await WarehouseMetrics(platform, timedelta(hours=1)).refresh()
    assert metrics.warehouse_up.samples() == [((), 0)]
    assert metrics.table_bytes.samples() == []


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "ok"),
        (304, "ok"),
        (404, "client_error"),
        (429, "rate_limited"),
        (503, "server_error"),
    ],
)
def test_a_request_counts_for_the_connection_that_is_bound(status: int, outcome: str) -> None:
    grown = counting(metrics.source_requests, outcome=outcome, **SHOP)
    received = counting(metrics.extracted_bytes, **SHOP)
    for whose in ("default", "other"):
        with bound("shop", whose), counted_request() as counted:
            counted.outcome, counted.received_bytes = outcome_of(status), 5
    with counted_request():
        pass  # of no source
    assert (grown(), received()) == (1, 5)


def test_a_request_without_an_answer_counts_as_one() -> None:
    grown = counting(metrics.source_requests, outcome="no_answer", **SHOP)
    with pytest.raises(OSError, match="reset"), bound("shop", "default"), counted_request():
        raise OSError("reset")
    assert grown() == 1


async def test_a_service_is_ready_while_it_polls_and_its_servers_answer(
    temporal_server: TemporalServer, warehouse: Warehouse
) -> None:
    queue = f"test-{uuid.uuid4().hex}"
    settings = TemporalSettings.model_validate({"worker_queue": queue})
    client = temporal_server.client
    [polling, *_] = make_workers(service_of(WorkerSettings.load()), client, warehouse, settings)
    stop = asyncio.Event()
    standing = Standing(warehouse, stop)
    assert await standing.fault() == "it waits for the warehouse, or for Temporal"
    standing.polls(client, [polling])
    assert await standing.fault() == f"it does not poll task queue {queue}"
    away = Warehouse(
        WarehouseSettings.model_validate({"database_url": "postgresql://127.0.0.1:1/none"})
    )
    lacking = Standing(away, stop)
    lacking.polls(client, [polling])
    async with polling:

        async def is_ready() -> bool:
            return await standing.fault() is None

        await until(is_ready)
        with pytest.raises(WarehouseUnavailableError):
            await lacking.fault()
        stop.set()
        assert await standing.fault() == "it ends"
