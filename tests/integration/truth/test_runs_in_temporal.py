"""What is said of runs in Temporal while its services, it itself and the warehouse go away."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Any

import pytest
import pytest_asyncio

from temporaletl.control.operations.platform import Platform
from temporaletl.control.web import dashboard as front
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.queuer.__main__ import service_of as queuer_of
from temporaletl.service.process import make_workers
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings, WorkerSettings
from temporaletl.temporal import pollers
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.__main__ import service_of as worker_of
from tests.integration.api.in_process import Served, schema_of, serving, warehouse_settings
from tests.integration.api.test_events import following
from tests.integration.engine.running import select
from tests.integration.tcp_relay import TcpRelay
from tests.integration.temporal_door import Door
from tests.integration.temporal_server import TemporalServer
from tests.integration.truth.said import everywhere, forget, said, text_of
from tests.waiting import until

_WITHIN_SECONDS = 180
ENDLESS = {"jobs": 2, "pages": 100_000, "size": 2, "page_seconds": 0.05}


@dataclass(frozen=True)
class Stack:
    """Pages and API, whose Temporal and whose warehouse can go away; the services' stay."""

    served: Served
    server: TemporalServer
    warehouse: Warehouse
    settings: TemporalSettings
    door: Door
    url: str

    @asynccontextmanager
    async def services(self, *names: str) -> AsyncIterator[None]:
        """Run the queuer, a worker, or both."""
        made = {
            "queuer": lambda: queuer_of(NotificationSettings.load()),
            "worker": lambda: worker_of(WorkerSettings.model_validate({"segment_seconds": 1})),
        }
        async with AsyncExitStack() as exits:
            for name in names:
                for worker in make_workers(
                    made[name](), self.server.client, self.warehouse, self.settings
                ):
                    await exits.enter_async_context(worker)
            yield

    async def start(self, **params: Any) -> str:
        body = {"source": "numbers", "params": params, "force": True}
        answer = await self.served("POST", "/api/v1/sync/full", json=body)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["workflowId"])

    async def missing(self, run: str) -> list[str]:
        """The services that are down by health; the run, its page and the list must miss them."""
        parts = (await self.served("GET", "/health")).json()["parts"]
        down = [part["name"] for part in parts if part["verdict"] == "down"]
        for path in (f"/runs/{run}", "/runs", f"/api/v1/runs/{run}", "/api/v1/runs"):
            text = await text_of(self.served, path)
            if [name for name in ("queuer", "worker") if f"no {name} polls" in text] != down:
                return [f"{path} does not agree: {down}"]
        return down

    def jobs(self, run: str) -> int:
        """The jobs that are planned."""
        [(found,)] = select(
            self.warehouse,
            "SELECT coalesce(max(jobs_planned), 0) FROM etl_batches WHERE workflow_id = %s",
            run,
        )
        return int(found)

    def rows(self, run: str) -> int:
        [(found,)] = select(
            self.warehouse,
            "SELECT coalesce(sum(p.inserted + p.unchanged), 0) FROM etl_pages AS p "
            "JOIN etl_batches AS b USING (batch_id) WHERE b.workflow_id = %s",
            run,
        )
        return int(found)

    async def loading(self, run: str) -> None:
        await until(lambda: self.rows(run) > 0, within_seconds=_WITHIN_SECONDS)

    async def saying(self, run: str, expected: dict[str, str]) -> None:
        """Wait until this is what is said."""
        found: dict[str, str] = {}

        async def says_so() -> bool:
            found.update(await said(self.served, run))
            return found == expected

        try:
            await until(says_so, within_seconds=_WITHIN_SECONDS)
        except TimeoutError:
            assert found == expected

    async def act(self, run: str, action: str) -> dict[str, Any]:
        answer = await self.served("POST", f"/api/v1/sync/{run}/{action}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def remarks(self, run: str) -> list[list[str]]:
        """Remarks of the run, of the list, and of both streams."""
        forget(self.served)
        found = [
            (await self.served("GET", f"/api/v1/{path}")).json()["remarks"]
            for path in (f"runs/{run}", "runs")
        ]
        for query in (f"run={run}", ""):
            async with following(self.served, query) as stream:
                found.append((await stream.next())[1]["remarks"])
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(temporal_server: TemporalServer, postgres_url: str) -> AsyncGenerator[Stack]:
    door = Door(temporal_server.address)
    await door.open()
    async with schema_of(postgres_url) as warehouse:
        settings = TemporalSettings.model_validate(
            {
                **temporal_server.settings,
                "address": f"127.0.0.1:{door.port}",
                "queuer_queue": f"truth-{warehouse.schema}",
                "worker_queue": f"truth-{warehouse.schema}-etl",
                "initial_interval_seconds": 0.05,
                "heartbeat_timeout_seconds": 5,
            }
        )
        platform = Platform(settings, warehouse_settings(postgres_url, warehouse.schema))
        async with serving(platform, fronts=(front.install,)) as served:
            yield Stack(served, temporal_server, warehouse, settings, door, postgres_url)
    with contextlib.suppress(OSError):
        await door.close()


async def test_a_run_waits_for_its_services_and_says_for_which(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await stack.start(**ENDLESS)

    async def is_told() -> bool:
        return "no queuer polls" in await text_of(stack.served, f"/runs/{run}")

    # Those that are gone are remembered for as long as a poll may last.
    with monkeypatch.context() as forgetting:
        forgetting.setattr(pollers, "_POLLED_WITHIN", timedelta(0))
        await stack.saying(run, everywhere("waiting"))
        await until(is_told)
    with monkeypatch.context() as forgetting:
        # Longer than a busy machine takes for what follows.
        forgetting.setattr(pollers, "_POLLED_WITHIN", timedelta(seconds=30))

        async def misses(service: str) -> bool:
            return await stack.missing(run) == [service]

        async with stack.services("queuer"):
            await until(lambda: stack.jobs(run) > 0, within_seconds=_WITHIN_SECONDS)
            await stack.saying(run, everywhere("waiting"))
            await until(partial(misses, "worker"), within_seconds=_WITHIN_SECONDS)
            async with stack.services("worker"):
                await stack.loading(run)
                await stack.saying(run, everywhere("running"))
        forgetting.setattr(pollers, "_POLLED_WITHIN", timedelta(seconds=8))
        async with stack.services("worker"):
            # It loads what is planned, but the run cannot end.
            await until(partial(misses, "queuer"), within_seconds=_WITHIN_SECONDS)
            assert await said(stack.served, run) == everywhere("running")
    # Those that are gone are remembered for as long as a poll may last.
    monkeypatch.setattr(pollers, "_POLLED_WITHIN", timedelta(0))
    await stack.saying(run, everywhere("waiting"))
    for remarks in (await stack.remarks(run))[1:]:
        assert any("no worker polls" in one for one in remarks), remarks
        assert any("no queuer polls" in one for one in remarks), remarks
    assert "no queuer polls" in await text_of(stack.served, f"/runs/{run}")
    overview = await text_of(stack.served, "/")
    assert "worker is down" in overview
    assert "queuer is down" in overview
    await stack.server.client.get_workflow_handle(run).terminate()
    await stack.saying(run, everywhere("terminated"))
    assert "last full run of numbers terminated" in await text_of(stack.served, "/")


async def test_a_pause_and_a_cancel_are_said_as_far_as_they_are(stack: Stack) -> None:
    async with stack.services("queuer", "worker"):
        run = await stack.start(**ENDLESS | {"page_seconds": 1.5})
        await stack.loading(run)
        assert (await stack.act(run, "pause"))["state"] in ("pausing", "paused")
        first = await said(stack.served, run)
        assert set(first.values()) <= {"pausing", "paused"}
        await stack.saying(run, everywhere("paused"))
        loaded = stack.rows(run)
        await stack.act(run, "resume")
        await stack.saying(run, everywhere("running"))
        await until(lambda: stack.rows(run) > loaded, within_seconds=_WITHIN_SECONDS)
        assert (await stack.act(run, "cancel"))["state"] == "cancelling"
        assert set((await said(stack.served, run)).values()) <= {"cancelling", "cancelled"}
        await stack.saying(run, everywhere("cancelled"))


async def test_a_run_is_completed_nowhere_before_its_rows_are_there(stack: Stack) -> None:
    async with stack.services("queuer", "worker"):
        run = await stack.start(jobs=2, pages=3, size=5, page_seconds=0.3, bad_every=4)
        while True:
            states = await said(stack.served, run)
            loaded = stack.rows(run)
            if "completed" in states.values():
                break
        [(rejected,)] = select(stack.warehouse, "SELECT count(*) FROM etl_rejects")
        assert (loaded, rejected) == (22, 8)
        await stack.saying(run, everywhere("completed"))
        for path in ("/", "/runs", f"/runs/{run}"):
            assert "8 rejected" in await text_of(stack.served, path), path
        nothing = await stack.start(jobs=1, pages=0)
        await stack.saying(nothing, everywhere("completed"))
        report = (await stack.served("GET", f"/api/v1/runs/{nothing}")).json()["run"]
        assert (report["rows"]["inserted"], report["records"], report["jobs"]["planned"]) == (
            0,
            0,
            1,
        )


async def test_without_temporal_the_ledger_is_what_is_said_and_named_so(stack: Stack) -> None:
    async with stack.services("queuer", "worker"):
        run = await stack.start(**ENDLESS)
        await stack.loading(run)
        await stack.saying(run, everywhere("running"))
        await stack.door.close()
        try:
            forget(stack.served)
            for remarks in await stack.remarks(run):
                assert any("only what the ledger knows" in one for one in remarks), remarks
            for path in ("/", "/runs", f"/runs/{run}"):
                text = await text_of(stack.served, path)
                assert "only what the ledger knows" in text, path
                assert "As of" in text
            health = (await stack.served("GET", "/health")).json()
            verdicts = {part["name"]: part["verdict"] for part in health["parts"]}
            assert (verdicts["temporal"], verdicts["warehouse"]) == ("down", "ok")
            assert verdicts["queuer"] == verdicts["worker"] == "unknown"
            assert "temporal is down" in await text_of(stack.served, "/")
        finally:
            await stack.door.open()
        await stack.saying(run, everywhere("running"))
        await stack.act(run, "cancel")
        await stack.saying(run, everywhere("cancelled"))


async def test_without_the_warehouse_nothing_is_said_of_now(stack: Stack) -> None:
    with TcpRelay(stack.url) as relay:
        settings = WarehouseSettings.model_validate(
            {
                "database_url": relay.url,
                "schema_name": stack.warehouse.schema,
                "network_timeout_seconds": 3,
            }
        )
        platform = Platform(stack.settings, settings)
        async with (
            stack.services("queuer", "worker"),
            serving(platform, fronts=(front.install,)) as served,
        ):
            run = await stack.start(**ENDLESS)
            await stack.loading(run)

            async def is_running() -> bool:  # a busy machine may take more than the three seconds
                found = await said(served, run)
                assert set(found.values()) <= {"running", "status 503"}, found
                return found == everywhere("running")

            await until(is_running, within_seconds=_WITHIN_SECONDS)
            async with following(served) as stream:
                relay.freeze(admitting=False)
                frozen = monotonic()
                while (event := await stream.next())[0] != "problem":
                    pass
                assert event[1]["as_of"]
                assert "warehouse" in event[1]["detail"]
                assert monotonic() - frozen < 15
            paths = [f"/api/v1/{path}" for path in ("runs", f"runs/{run}", "freshness")]
            answers = await asyncio.gather(*(served("GET", path) for path in paths))
            assert [answer.status_code for answer in answers] == [503] * 3
            assert all(answer.headers["retry-after"] for answer in answers)
            page = await served("GET", f"/runs/{run}")
            # What was seen last, and since when it is not renewed.
            assert (page.status_code, "not renewed since <time" in page.text) == (200, True)

            async def overview_says_so() -> bool:
                text = (await served("GET", "/")).text
                assert "not renewed since <time" in text
                return "warehouse is down" in text

            await until(overview_says_so)
            health = (await served("GET", "/health")).json()
            verdicts = {part["name"]: part["verdict"] for part in health["parts"]}
            assert (verdicts["warehouse"], verdicts["temporal"]) == ("down", "ok")
            relay.__exit__(None, None, None)
            await stack.act(run, "cancel")
            await stack.saying(run, everywhere("cancelled"))
