"""Services as child processes: of `etl serve` with START_TEMPORAL_WORKER, and of `etl worker`."""

import asyncio
import contextlib
import json
import os
import signal
import time
import uuid
from functools import partial
from pathlib import Path

import requests

from temporaletl.embedded.temporal_server import polling
from temporaletl.temporal.endpoint import Endpoint
from temporaletl.warehouse.connection import Warehouse
from tests.integration.api.conftest import Api
from tests.integration.command_line import CommandLine, publish_numbers
from tests.integration.flows.services import Services
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until

_WITHIN_SECONDS = 180


def children_of(process: int) -> dict[str, int]:
    """The services among the children of a process, by name.

    One that has only just been started may have no command line yet, and is not in it.
    """
    found = {}
    threads = Path(f"/proc/{process}/task").glob("*/children")
    for pid in [pid for children in threads for pid in children.read_text().split()]:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        for name in ("queuer", "worker"):
            if f"temporaletl.{name}" in words:
                found[name] = int(pid)
    return found


def is_alive(process: int) -> bool:
    return Path(f"/proc/{process}").exists()


async def verdicts(api: Api) -> dict[str, str]:
    with contextlib.suppress(requests.RequestException):
        parts = (await api("GET", "/health")).json()["parts"]
        return {part["name"]: part["verdict"] for part in parts}
    return {}


async def test_services_run_beside_the_api_are_started_again_and_end_with_it(
    temporal_server: TemporalServer, warehouse: Warehouse, postgres_url: str, tmp_path: Path
) -> None:
    publish_numbers(tmp_path)
    services = Services(temporal_server.client, warehouse, f"test-{uuid.uuid4().hex}")
    etl = CommandLine(services, tmp_path, postgres_url).having(START_TEMPORAL_WORKER="true")
    process = await etl.start("serve", "--port", "0")
    assert process.stdout is not None
    try:
        async with asyncio.timeout(_WITHIN_SECONDS):
            api = Api(etl, (await process.stdout.readline()).decode().split()[-1])

        async def serves() -> bool:
            found = await verdicts(api)
            return {found.get(f"{name}{of}") for name in ("queuer", "worker") for of in _OF} == {
                "ok"
            }

        await until(serves, within_seconds=_WITHIN_SECONDS)
        before = children_of(process.pid)
        assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in before.values()} == {10}
        groups = [Path(f"/proc/{pid}/autogroup") for pid in before.values()]
        assert all(group.read_text().endswith("nice 10\n") for group in groups if group.exists())

        old = before["worker"]
        os.kill(old, signal.SIGKILL)
        said = ""
        async with asyncio.timeout(_WITHIN_SECONDS):
            while "worker was started again" not in said:
                said += (await process.stdout.readline()).decode()
        assert "worker was killed by SIGKILL" in said
        await until(lambda: children_of(process.pid).get("worker", old) != old)

        wanted = {"source": "numbers", "params": {"pages": 100, "page_seconds": 2}}
        started = (await api("POST", "/api/v1/sync/full", json=wanted)).json()["workflowId"]
        committed = "SELECT coalesce(max(pages), 0)::int FROM etl_jobs"
        await until(lambda: services.rows(committed)[0][0] > 0, within_seconds=_WITHIN_SECONDS)
        after = children_of(process.pid)
        process.send_signal(signal.SIGTERM)
        told_at = time.monotonic()
        await until(lambda: _is_silent(api), within_seconds=_WITHIN_SECONDS)
        assert time.monotonic() - told_at < 5  # three, and what a busy machine takes
        async with asyncio.timeout(_WITHIN_SECONDS):
            out, _ = await process.communicate()
        assert process.returncode == 0
        assert b"Ending: the queuer and the worker finish the page" in out
        assert not any(map(is_alive, after.values()))
        await services.client.get_workflow_handle(started).terminate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


async def test_a_worker_of_several_processes_keeps_their_number_and_ends_them_together(
    temporal_server: TemporalServer, warehouse: Warehouse, postgres_url: str, tmp_path: Path
) -> None:
    services = Services(temporal_server.client, warehouse, f"test-{uuid.uuid4().hex}")
    etl = CommandLine(services, tmp_path, postgres_url).having(ETL_METRICS_PORT="0")
    process = await etl.start("worker", "--processes", "2")
    server = Endpoint(temporal_server.address, temporal_server.client.namespace)
    queue = etl.environment()["TEMPORAL_ETL_QUEUE"]
    seen: set[int] = set()

    async def serve_both(killed: int = 0) -> bool:
        # The server remembers who has polled, for minutes.
        seen.update(await polling(server, queue))
        return len(list(filter(is_alive, seen - {killed}))) == 2

    async def said_address() -> str:
        assert process.stderr is not None
        while b'"metrics_served"' not in (line := await process.stderr.readline()):
            assert line
        return str(json.loads(line)["address"])

    async def is_ready(address: str) -> bool:
        with contextlib.suppress(requests.RequestException):
            url = f"http://{address}/ready"
            return (await asyncio.to_thread(requests.get, url, timeout=60)).ok
        return False

    async def all_are(ready: bool) -> bool:
        return set(await asyncio.gather(*map(is_ready, addresses))) == {ready}

    try:
        async with asyncio.timeout(_WITHIN_SECONDS):
            addresses = [await said_address(), await said_address()]
        await until(serve_both, within_seconds=_WITHIN_SECONDS)
        assert process.pid not in seen
        killed = min(seen)
        # Whichever is asked answers for both.
        for number, ready in ((signal.SIGCONT, True), (signal.SIGSTOP, False)):
            os.kill(killed, number)
            await until(partial(all_are, ready), within_seconds=_WITHIN_SECONDS)
        os.kill(killed, signal.SIGKILL)
        await until(lambda: serve_both(killed), within_seconds=_WITHIN_SECONDS)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(_WITHIN_SECONDS):
            _, said = await process.communicate()
        assert process.returncode == 0, said
        assert said.count(b'"service_stopped"') == 2
        assert not any(map(is_alive, seen))
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()


_OF = ("", " process")


async def _is_silent(api: Api) -> bool:
    try:
        await api("GET", "/health/live")
    except requests.ConnectionError:
        return True
    return False
