"""The smallest installation: `etl run` and `etl serve` beside a PostgreSQL server, and no more."""

import asyncio
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from time import monotonic
from typing import Any, cast

import pytest
import requests

from temporaletl.warehouse.connection import Warehouse
from tests.integration.command_line import CommandLine, finished, publish_numbers
from tests.integration.engine.driving import (
    batch_state,
    driven,
    pages,
    until_ended,
    until_pages,
)
from tests.integration.engine.running import keys, select
from tests.integration.tcp_relay import TcpRelay
from tests.waiting import until

_NOBODY = "127.0.0.1:1"
_SLOW = ("--param", "pages=60", "--param", "size=2", "--param", "page_seconds=0.05")


class _Alone(CommandLine):
    """Without services, and without Temporal."""

    def _of_services(self) -> dict[str, str]:
        return {}


@pytest.fixture
def etl(warehouse: Warehouse, postgres_url: str, tmp_path: Path) -> CommandLine:
    publish_numbers(tmp_path)
    return _Alone(cast("Any", None), tmp_path, postgres_url).having(
        TEMPORAL_ENABLED="false",
        WPE_DB_SCHEMA=warehouse.schema,
        ETL_ENGINE_LEASE_SECONDS="1",
        ETL_ROWS_PER_PAGE="1",
    )


async def test_a_run_that_is_interrupted_rests_and_the_next_command_finishes_it_first(
    etl: CommandLine, warehouse: Warehouse
) -> None:
    with warehouse.connection() as connection:
        # As on the first day: the command makes the tables.
        connection.execute(f"DROP SCHEMA {warehouse.schema} CASCADE".encode())
    command = ("run", "numbers", "--mode", "full", "--engine", "local", "--wait", "--json")
    process = await etl.start(*command, *_SLOW)
    await until(lambda: _has_pages(warehouse))
    process.send_signal(signal.SIGINT)
    ended = await finished(process)
    assert ended.status == 130
    assert "rests at its last page" in ended.err
    assert batch_state(warehouse) == ("running", "local")
    refused = await etl("run", "numbers", "--json")
    assert refused.status == 1
    assert "a run of numbers goes on already (running)" in refused.err
    again = await etl(*command, "--param", "size=3")
    assert (again.status, again.document["state"]) == (0, "completed")
    assert again.document["engine"] == "local"
    assert "first, etl-numbers-full-" in again.err
    # Those of the interrupted run are all there, each once, and the second run changed nothing.
    assert len(keys(warehouse)) == 120
    totals = select(
        warehouse, "SELECT sum(inserted), sum(unchanged) FROM etl_jobs GROUP BY batch_id"
    )
    assert sorted(totals) == [(0, 3), (120, 0)]
    listed = await etl("status", "--json")
    assert {(run["engine"], run["state"]) for run in listed.document} == {("local", "completed")}
    assert listed.err == ""


def _has_pages(warehouse: Warehouse) -> bool:
    (there,) = select(warehouse, "SELECT to_regclass('etl_pages') IS NOT NULL")[0]
    return bool(there) and pages(warehouse) > 3


async def test_schedules_are_refused_and_a_check_claims_no_fault(etl: CommandLine) -> None:
    scheduled, checked = await asyncio.gather(
        etl("schedule", "numbers", "1", "3"), etl("check", "numbers", "--json")
    )
    assert scheduled.status == 1
    assert "cron and `etl run SOURCE --engine local --wait`" in scheduled.err
    [temporal] = [one for one in checked.document["checks"] if one["name"] == "Temporal"]
    assert (temporal["verdict"], temporal["detail"][:6]) == ("note", "is off")
    assert not [one for one in checked.document["checks"] if one["name"] == "services"]


@asynccontextmanager
async def _served(etl: CommandLine) -> AsyncGenerator[str]:
    process = await etl.start("serve", "--port", "0")
    assert process.stdout is not None
    try:
        async with asyncio.timeout(120):
            yield (await process.stdout.readline()).decode().split()[-1]
    finally:
        process.send_signal(signal.SIGTERM)
        ended = await finished(process)
    assert "Traceback" not in ended.err, ended.err


@pytest.mark.parametrize("away", [False, True], ids=["", "while the warehouse is away"])
async def test_a_server_that_is_told_to_end_does_so_soon_and_loses_no_run(
    etl: CommandLine, warehouse: Warehouse, postgres_url: str, away: bool
) -> None:
    with TcpRelay(postgres_url) as relay:
        process = await etl.having(**etl.settings, DATABASE_URL=relay.url).start(
            "serve", "--port", "0"
        )
        assert process.stdout is not None
        address = (await process.stdout.readline()).decode().split()[-1]
        params = {"pages": 60, "size": 2, "page_seconds": 0.05}
        wanted = {"source": "numbers", "params": params}
        run = (await _request("POST", f"{address}/api/v1/sync/full", json=wanted))["workflowId"]
        async with _streams(address, 50) as streams:
            await until_pages(warehouse, 3)
            if away:
                relay.freeze(admitting=False)
            told_at = monotonic()
            process.send_signal(signal.SIGTERM)
            ended = await finished(process)
            took = monotonic() - told_at
            assert (ended.status, "Traceback" in ended.err) == (0, False), ended.err
            # Its engine as well, whose standard error this is.
            assert took < 6
            for stream in streams:
                assert b"event: end" in await stream.read()
    assert 0 < pages(warehouse) < 60
    async with driven(warehouse):
        assert (await until_ended(warehouse, run)).error is None
    totals = select(warehouse, "SELECT sum(inserted), sum(unchanged) FROM etl_jobs")
    assert totals == [(120, 0)]


@asynccontextmanager
async def _streams(address: str, count: int) -> AsyncGenerator[list[asyncio.StreamReader]]:
    host, port = address.removeprefix("http://").split(":")
    streams = []
    with ExitStack() as opened:
        for _ in range(count):
            reader, writer = await asyncio.open_connection(host, int(port))
            opened.callback(writer.close)
            writer.write(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            streams.append(reader)
        yield streams


async def _request(method: str, url: str, **more: Any) -> Any:
    answer = await asyncio.to_thread(requests.request, method, url, timeout=60, **more)
    assert answer.ok, answer.text
    return answer.json()


async def test_the_api_serves_runs_while_temporal_is_away_and_outlives_its_engine(
    etl: CommandLine, warehouse: Warehouse
) -> None:
    etl = etl.having(
        **{**etl.settings, "TEMPORAL_ENABLED": "", "TEMPORAL_ADDRESS": _NOBODY}  # it is down
    )
    async with _served(etl) as address:
        params = {"pages": 60, "size": 2, "page_seconds": 0.05}
        wanted = {"source": "numbers", "params": params}
        run = await _request("POST", f"{address}/api/v1/sync/full", json=wanted)
        assert run["engine"] == "local"
        sync = f"{address}/api/v1/sync/{run['workflowId']}"
        await until_pages(warehouse, 3)
        [(owner,)] = select(warehouse, "SELECT owner FROM etl_runs")
        engine = int(owner.split(":")[1])
        assert os.getpriority(os.PRIO_PROCESS, engine) >= 10
        os.kill(engine, signal.SIGKILL)
        paused = await _request("POST", f"{sync}/pause")
        assert (paused["engine"], paused["state"]) == ("local", "pausing")
        # Another engine takes it up, and rests.
        await until(lambda: batch_state(warehouse)[0] == "paused")
        shown = await _request("GET", f"{address}/api/v1/runs/{run['workflowId']}")
        assert (shown["run"]["engine"], shown["run"]["state"]) == ("local", "paused")
        await _request("POST", f"{sync}/resume")
        await until(lambda: batch_state(warehouse)[0] == "completed")
    assert len(keys(warehouse)) == 120
    totals = select(warehouse, "SELECT sum(inserted), sum(unchanged) FROM etl_jobs")
    assert totals == [(120, 0)]
    [(former,)] = select(warehouse, "SELECT count(*) FROM etl_runs WHERE owner IS NOT NULL")
    assert former == 0
