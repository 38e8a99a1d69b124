"""The API, the queuer and a worker as processes, observed while they load a source."""

import asyncio
import contextlib
import socket
import sys
import uuid
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from temporaletl.warehouse.connection import Warehouse
from tests.integration.command_line import CommandLine, publish_numbers
from tests.integration.flows.services import Services
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until

SERVICES = ("api", "queuer", "worker")
_WITHIN_SECONDS = 300


@dataclass
class Observed:
    """A platform of three processes, each with an endpoint; what they logged, once it has ended."""

    api: str
    endpoints: dict[str, str] = field(default_factory=dict)
    log: str = ""

    async def get(self, url: str, **more: Any) -> requests.Response:
        return await asyncio.to_thread(requests.get, url, timeout=_WITHIN_SECONDS, **more)

    async def scrape(self, service: str) -> str:
        return (await self.get(f"{self.endpoints[service]}/metrics")).text

    async def load(self, **params: object) -> dict[str, Any]:
        """Load the source of numbers whole; return the run as it ended."""
        wanted = {"source": "numbers", "params": params}
        started = await asyncio.to_thread(
            requests.post, f"{self.api}/api/v1/sync/full", json=wanted, timeout=_WITHIN_SECONDS
        )
        run: dict[str, Any] = {}

        async def has_ended() -> bool:
            answer = await self.get(f"{self.api}/api/v1/runs/{started.json()['workflowId']}")
            run.update(answer.json().get("run") or {})
            return run.get("state") in ("completed", "failed", "cancelled")

        await until(has_ended, within_seconds=_WITHIN_SECONDS)
        return run


def families(text: str) -> dict[str, Metric]:
    """The metrics of a scrape by name; counters with their `_total`."""
    return {
        f"{one.name}_total" if one.type == "counter" else one.name: one
        for one in text_string_to_metric_families(text)
    }


def value(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    found = (sample for one in families(text).values() for sample in one.samples)
    return sum(
        one.value for one in found if one.name == name and labels.items() <= one.labels.items()
    )


@asynccontextmanager
async def observed(
    temporal: TemporalServer,
    warehouse: Warehouse,
    url: str,
    folder: Path,
    **settings: str,
) -> AsyncGenerator[Observed]:
    """Run the three until the block ends."""
    publish_numbers(folder)
    services = Services(temporal.client, warehouse, f"test-{uuid.uuid4().hex}")
    port = _free_port()
    etl = CommandLine(services, folder, url).having(
        ETL_METRICS_PORT=str(port),
        ETL_METRICS_WAREHOUSE_SECONDS="0.001",
        ETL_REJECT_THRESHOLD="1",
        **settings,
    )
    found = Observed("")
    # Not as children of `etl serve`, which let all others of this machine go first.
    async with AsyncExitStack() as running:
        serve = _process(etl, found, "temporaletl.control.cli.main", "serve", "--port", "0")
        found.api = (await running.enter_async_context(serve)).split()[-1]
        for service in ("queuer", "worker"):
            await running.enter_async_context(_process(etl, found, f"temporaletl.{service}"))

        async def are_ready() -> bool:
            found.endpoints = await _endpoints(found, port)
            answers = [await found.get(f"{one}/ready") for one in found.endpoints.values()]
            return len(answers) == len(SERVICES) and all(one.ok for one in answers)

        await until(are_ready, within_seconds=_WITHIN_SECONDS)
        yield found


@asynccontextmanager
async def _process(
    etl: CommandLine, platform: Observed, module: str, *arguments: str
) -> AsyncGenerator[str]:
    """Run a module until the block ends, and keep its log; yield its first line of output."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", module, *arguments),
        cwd=etl.folder,
        env=etl.environment(),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    logging = asyncio.create_task(process.stderr.read())
    try:
        async with asyncio.timeout(_WITHIN_SECONDS):
            line = await process.stdout.readline() if arguments else b""
        yield line.decode()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            async with asyncio.timeout(_WITHIN_SECONDS):
                platform.log += (await logging).decode()
                await process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    assert process.returncode == 0, platform.log


async def _endpoints(platform: Observed, first: int) -> dict[str, str]:
    """The endpoints by their services: each process took the next free port."""
    found = {}
    for port in range(first, first + 8):
        address = f"http://127.0.0.1:{port}"
        with contextlib.suppress(requests.RequestException):
            info = families((await platform.get(f"{address}/metrics")).text).get("etl_build_info")
            if info is not None:
                found[info.samples[0].labels["service"]] = address
    return found


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])
