"""Starts of runs: entered, refused beside another, and handed to the engine that is there."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
from temporalio.service import RPCError, RPCStatusCode

from temporaletl.control.operations import platform as platforms, runs as starting
from temporaletl.control.operations.control import control_run
from temporaletl.control.operations.details import run_details
from temporaletl.control.operations.health import check_health
from temporaletl.control.operations.history import recent_runs
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.progress import follow
from temporaletl.control.operations.runs import (
    RunGoesOnError,
    run_request,
    start_only_run,
    start_run,
)
from temporaletl.control.operations.schedules import list_schedules
from temporaletl.errors import (
    ConflictError,
    SourceUnavailableError,
    TemporalDisabledError,
    TemporalUnavailableError,
)
from temporaletl.queuer import planning
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.run_log import kept_run_log
from temporaletl.warehouse.runs import claim_run
from tests.integration.engine.driving import (
    batch_state,
    driven,
    pages,
    requested,
    run_of,
    until_ended,
    until_pages,
)
from tests.integration.engine.running import select
from tests.integration.flows.services import Services, running
from tests.integration.temporal_door import Door
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until

NOBODY = "127.0.0.1:1"


class Engine:
    """A local engine at hand, which is woken."""

    woken = 0

    def wake(self) -> None:
        self.woken += 1

    def leave(self) -> None:
        raise AssertionError


@asynccontextmanager
async def platform_of(
    url: str, warehouse: Warehouse, *, engine: Engine | None = None, **temporal: Any
) -> AsyncGenerator[Platform]:
    async with Platform(
        TemporalSettings.model_validate({"address": NOBODY, **temporal}),
        WarehouseSettings.model_validate({"database_url": url, "schema_name": warehouse.schema}),
        engine=engine,
    ) as platform:
        yield platform


def _request(**params: Any) -> Any:
    return run_request("numbers", mode="full", params=params)


async def test_what_keeps_a_run_from_being_planned_is_said_while_it_is_tried_again(
    warehouse: Warehouse, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(*_: object, **__: object) -> int:
        raise SourceUnavailableError("numbers: no answer", delay=timedelta(minutes=5))

    monkeypatch.setattr(planning, "expand", refused)
    async with platform_of(postgres_url, warehouse, enabled=False) as platform:
        run = await start_only_run(platform, _request(), by="me")
        with kept_run_log(warehouse):
            async with driven(warehouse), contextlib.aclosing(follow(platform, run)) as snapshots:
                said = (one.trouble async for one in snapshots if one.trouble is not None)
                assert await anext(said) == "numbers: no answer; it is tried again"
        run.ending.cancel()


async def test_without_temporal_the_local_engine_runs_everything(
    warehouse: Warehouse, postgres_url: str
) -> None:
    async with platform_of(postgres_url, warehouse, enabled=False) as platform:
        run = await start_only_run(platform, _request(jobs=2, pages=30, page_seconds=0.02), by="me")
        assert run.engine == "local"
        [waiting] = (await recent_runs(platform, limit=9)).runs
        assert (waiting.state, waiting.engine) == ("waiting", "local")
        details = await run_details(platform, run.workflow_id)
        assert "no process of the local engine drives it" in details.troubles[0].error
        with pytest.raises(RunGoesOnError, match="waiting") as refused:
            await start_only_run(platform, _request())
        assert (refused.value.workflow_id, refused.value.abandoned) == (run.workflow_id, True)
        async with driven(warehouse):
            await until_pages(warehouse, 1)
            paused = await control_run(platform, run.workflow_id, "pause")
            assert (paused.engine, paused.state) == ("local", "pausing")
            await until(lambda: batch_state(warehouse)[0] == "paused")
            [listed] = (await recent_runs(platform, limit=9)).runs
            assert (listed.state, listed.engine) == ("paused", "local")
            resumed = await control_run(platform, str(listed.batch_id), "resume")
            assert (resumed.state, resumed.changed, resumed.stored) == ("running", True, False)
            ended = await run.ending
        assert ended.summary.state == "completed"
        assert ended.summary.rows.inserted == 600
        with pytest.raises(ConflictError, match="has ended: there is nothing to cancel"):
            await control_run(platform, run.workflow_id, "cancel")
        found = await recent_runs(platform, limit=9)
        assert ([one.state for one in found.runs], found.remarks) == (["completed"], [])
        with pytest.raises(TemporalDisabledError, match="cron and `etl run SOURCE --engine local"):
            await list_schedules(platform)
        health = await check_health(platform)
        assert health.verdict == "ok"
        temporal = next(part for part in health.parts if part.name == "temporal")
        assert temporal.detail.startswith("is off")
        assert not {"queuer", "worker"} & {part.name for part in health.parts}


async def test_a_run_that_nobody_drives_is_cancelled_at_once(
    warehouse: Warehouse, postgres_url: str
) -> None:
    async with platform_of(postgres_url, warehouse, enabled=False) as platform:
        never = await start_run(platform, _request())
        assert (await control_run(platform, never.workflow_id, "cancel")).state == "cancelling"
        ended = (await never.ending).summary
        assert (ended.state, ended.error) == ("cancelled", "cancelled before it was planned")
        left = await start_run(platform, _request(pages=1_000, page_seconds=0.02))
        async with driven(warehouse):
            await until_pages(warehouse, 1)
        await control_run(platform, left.workflow_id, "cancel", by="me")
        summary = (await left.ending).summary
        assert (summary.state, summary.jobs.cancelled) == ("cancelled", 1)
        states = [run.state for run in (await recent_runs(platform, limit=9)).runs]
        assert states == ["cancelled", "cancelled"]


async def test_while_temporal_does_not_answer_an_engine_at_hand_runs_it(
    warehouse: Warehouse, postgres_url: str
) -> None:
    engine = Engine()
    async with platform_of(postgres_url, warehouse, engine=engine) as platform:
        run = await start_only_run(platform, _request(size=7))
        assert (run.engine, engine.woken) == ("local", 1)
        async with driven(warehouse):
            assert (await run.ending).summary.rows.inserted == 7
        with pytest.raises(TemporalUnavailableError):
            await start_run(platform, _request(), engine="temporal")


async def test_without_one_nothing_is_started_and_the_error_says_what_would(
    warehouse: Warehouse, postgres_url: str
) -> None:
    async with platform_of(postgres_url, warehouse) as platform:
        with pytest.raises(TemporalUnavailableError, match=r"nothing is started .*--engine local"):
            await start_only_run(platform, _request())
        run = await start_only_run(platform, _request(), engine="local")
        assert (await control_run(platform, run.workflow_id, "cancel")).engine == "local"


@pytest.mark.parametrize("enabled", [False, True], ids=["off", "away"])
async def test_a_start_that_died_before_an_engine_had_it_lapses(
    warehouse: Warehouse, postgres_url: str, enabled: bool
) -> None:
    died = [requested(warehouse, engine=None) for _ in range(2)]
    async with platform_of(postgres_url, warehouse, enabled=enabled, engine=Engine()) as platform:
        with pytest.raises(RunGoesOnError, match="waiting"):  # it might just be starting
            await start_only_run(platform, _request())
        with warehouse.connection() as connection:
            connection.execute("UPDATE etl_runs SET requested_at = now() - interval '31 seconds'")
        run = await start_only_run(platform, _request(size=3))
        assert run.engine == "local"
        for one in died:
            assert str(run_of(warehouse, one).error).startswith("never started: ")
            assert not claim_run(warehouse, one, "temporal")
        async with driven(warehouse):
            assert (await run.ending).summary.rows.inserted == 3


async def test_a_start_that_was_given_up_meanwhile_says_so(
    warehouse: Warehouse, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def late(platform: Platform) -> Any:
        with platform_warehouse.connection() as connection:
            connection.execute("UPDATE etl_runs SET requested_at = now() - interval '31 seconds'")
        await start_only_run(platform, _request(), engine="local")
        raise TemporalUnavailableError("it was slow")

    platform_warehouse = warehouse
    async with platform_of(postgres_url, warehouse, engine=Engine()) as platform:
        monkeypatch.setattr(Platform, "answering_client", late)
        with pytest.raises(
            TemporalUnavailableError, match="another start of the source came first"
        ):
            await start_only_run(platform, _request())
    assert select(warehouse, "SELECT count(*) FROM etl_runs WHERE ended_at IS NULL") == [(1,)]


@asynccontextmanager
async def _both(
    server: TemporalServer, warehouse: Warehouse, url: str, engine: Engine | None = None
) -> AsyncGenerator[tuple[Services, Platform]]:
    async with (
        running(server.client, warehouse, segment_seconds=1) as services,
        platform_of(
            url,
            warehouse,
            engine=engine,
            **server.settings,
            queuer_queue=services.queue,
            worker_queue=f"{services.queue}-etl",
        ) as platform,
    ):
        yield services, platform


async def test_a_start_whose_answer_is_lost_runs_in_one_engine(
    temporal_server: TemporalServer,
    warehouse: Warehouse,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine()
    async with _both(temporal_server, warehouse, postgres_url, engine) as (_services, platform):
        client = await platform.client()
        start = client.start_workflow
        taken_first = asyncio.Event()

        async def cut_off(*arguments: Any, **more: Any) -> Any:
            await start(*arguments, **more)
            if taken_first.is_set():
                await until(lambda: run_of(warehouse, more["id"]).engine == "temporal")
            else:
                # The queuer has not looked yet.
                claim_run(warehouse, more["id"], "local")
            raise RPCError("the connection broke", RPCStatusCode.UNAVAILABLE, b"")

        monkeypatch.setattr(client, "start_workflow", cut_off)
        local = await start_only_run(platform, _request(size=7))
        assert local.engine == "local"
        superseded = await client.get_workflow_handle(local.workflow_id).result()
        assert superseded["state"] == "cancelled"
        assert superseded["error"].startswith("superseded: ")
        async with driven(warehouse):
            assert (await local.ending).summary.rows.inserted == 7
        taken_first.set()
        other = await start_only_run(platform, _request(size=9))
        assert other.engine == "temporal"
        assert (await other.ending).summary.rows.inserted == 2
        listed = (await recent_runs(platform, limit=9)).runs
        assert [(run.workflow_id, run.engine, run.state) for run in listed][:2] == [
            (other.workflow_id, "temporal", "completed"),
            (local.workflow_id, "local", "completed"),
        ]
        engines = select(warehouse, "SELECT engine FROM etl_runs ORDER BY requested_at")
        assert engines == [("local",), ("temporal",)]


async def test_a_run_in_temporal_refuses_another_until_it_has_ended(
    temporal_server: TemporalServer, warehouse: Warehouse, postgres_url: str
) -> None:
    async with _both(temporal_server, warehouse, postgres_url) as (services, platform):
        run = await start_only_run(platform, _request(pages=1_000, page_seconds=0.05))
        ends = await asyncio.gather(
            *(start_only_run(platform, _request()) for _ in range(2)),
            start_only_run(platform, _request(), engine="local"),
            return_exceptions=True,
        )
        assert all(isinstance(end, RunGoesOnError) for end in ends)
        # A schedule's firing is none of that: it was planned.
        firing = await services.start(_request(size=1))
        await firing.result()
        assert run_of(warehouse, firing.id).engine == "temporal"
        await until(lambda: run_of(warehouse, run.workflow_id).batch_id is not None)
        client = await platform.client()
        await client.get_workflow_handle(run.workflow_id).terminate()
        await asyncio.gather(run.ending, return_exceptions=True)
        # Nobody has closed its books yet, but it has ended.
        second = await start_only_run(platform, _request(size=3))
        assert (await second.ending).summary.state == "completed"
        assert (await until_ended(warehouse, run.workflow_id)).error is not None


async def test_a_temporal_that_stops_is_stood_in_for_until_it_is_back(
    temporal_server: TemporalServer, warehouse: Warehouse, postgres_url: str
) -> None:
    door, engine = Door(temporal_server.address), Engine()
    await door.open()
    async with (
        running(temporal_server.client, warehouse, segment_seconds=1) as services,
        platform_of(
            postgres_url,
            warehouse,
            engine=engine,
            **temporal_server.settings | {"address": f"127.0.0.1:{door.port}"},
            queuer_queue=services.queue,
            worker_queue=f"{services.queue}-etl",
        ) as platform,
        driven(warehouse),
    ):
        loaded: list[tuple[int, int]] = []
        for is_open in (True, False, True):
            if not is_open:
                await door.close()
            elif loaded:
                await door.open()
                await until(lambda: _answers(platform))
            run = await start_only_run(platform, _request(size=9, pages=2))
            assert run.engine == ("temporal" if is_open else "local")
            rows = (await run.ending).summary.rows
            loaded.append((rows.inserted, rows.unchanged))
        await door.close()
    assert loaded == [(18, 0), (0, 18), (0, 18)]


@pytest.mark.parametrize("moment", ["before", "during"])
@pytest.mark.parametrize("engine", [Engine(), None], ids=["engine", "no engine"])
async def test_a_temporal_that_is_frozen_at_a_start_runs_it_nowhere_or_another_engine_once(
    temporal_server: TemporalServer,
    warehouse: Warehouse,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    engine: Engine | None,
) -> None:
    door = Door(temporal_server.address)
    await door.open()
    monkeypatch.setattr(starting, "PATIENCE", timedelta(seconds=1))
    monkeypatch.setattr(platforms, "CONNECT_TIMEOUT", timedelta(seconds=2))
    async with (
        running(temporal_server.client, warehouse, segment_seconds=1) as services,
        platform_of(
            postgres_url,
            warehouse,
            engine=engine,
            address=f"127.0.0.1:{door.port}",
            queuer_queue=services.queue,
            worker_queue=f"{services.queue}-etl",
        ) as platform,
        driven(warehouse),
    ):
        client = await platform.client()
        start = client.start_workflow

        async def frozen(*arguments: Any, **more: Any) -> Any:
            door.freeze()
            return await start(*arguments, **more)

        if moment == "before":
            door.freeze()
        else:
            monkeypatch.setattr(client, "start_workflow", frozen)
        began = monotonic()
        if engine is None:
            with pytest.raises(TemporalUnavailableError, match="nothing is started"):
                await start_only_run(platform, _request(size=7))
        else:
            run = await start_only_run(platform, _request(size=7))
            assert run.engine == "local"
            assert (await run.ending).summary.rows.inserted == 7
        assert monotonic() - began < 15
        door.thaw()
        await until(lambda: _answers(platform))
        # What was under way reaches Temporal now, if it does: it is not run there as well.
        [(workflow_id, ended)] = select(
            warehouse, "SELECT workflow_id, ended_at IS NOT NULL FROM etl_runs"
        )
        assert ended
        late = temporal_server.client.get_workflow_handle(workflow_id)
        with contextlib.suppress(RPCError):  # it was never started
            assert (await late.result())["error"].startswith("superseded: ")
        assert pages(warehouse) == (1 if engine else 0)
        await door.close()


async def _answers(platform: Platform) -> bool:
    try:
        await platform.answering_client()
    except TemporalUnavailableError:
        return False
    return True
