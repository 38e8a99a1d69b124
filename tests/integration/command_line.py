"""`etl` as a process of its own, beside services that run in the tests' process."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tests.etl_process import run_etl
from tests.integration.flows.services import Services

_WITHIN_SECONDS = 180
_PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What it printed as one JSON document."""
        return json.loads(self.out)


@dataclass(frozen=True)
class CommandLine:
    """Runs `etl` with the settings that lead to the services, and the source of numbers."""

    services: Services
    folder: Path
    url: str
    settings: dict[str, str] = field(default_factory=dict)

    def having(self, **settings: str) -> "CommandLine":
        return replace(self, settings=settings)

    async def __call__(self, *arguments: str) -> Ended:
        ended = await asyncio.to_thread(
            run_etl, *arguments, environment=self.environment(), folder=self.folder
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "error", "-m", "temporaletl.control.cli.main", *arguments),
            cwd=self.folder,
            env=self.environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    def _of_services(self) -> dict[str, str]:
        return {
            "TEMPORAL_ADDRESS": self.services.client.service_client.config.target_host,
            "TEMPORAL_NAMESPACE": self.services.client.namespace,
            "TEMPORAL_QUEUE": self.services.queue,
            "TEMPORAL_ETL_QUEUE": f"{self.services.queue}-etl",
            "WPE_DB_SCHEMA": self.services.warehouse.schema,
        }

    def environment(self) -> dict[str, str]:
        """The settings that lead to the services."""
        found = {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "PYTHONPATH": os.pathsep.join([str(_PROJECT), str(self.folder)]),
            **self._of_services(),
            "DATABASE_URL": self.url,
            "ETL_DATA_DIR": str(self.folder / "data"),
            "LC_ALL": "C.UTF-8",
        }
        return {name: value for name, value in {**found, **self.settings}.items() if value}


async def finished(process: asyncio.subprocess.Process) -> Ended:
    """Wait for a command's end, and end it where that takes too long."""
    try:
        async with asyncio.timeout(_WITHIN_SECONDS):
            out, err = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


def publish_numbers(folder: Path) -> None:
    """Let a process that has `folder` on its path find the source of numbers, as a wheel would."""
    publish(folder, "numbers", "tests.integration.flows.numbers")


def publish(folder: Path, name: str, module: str) -> None:
    """Let a process that has `folder` on its path find a module of sources."""
    wheel = folder / f"{name}_source-1.0.dist-info"
    wheel.mkdir()
    (wheel / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-source\nVersion: 1.0\n")
    (wheel / "entry_points.txt").write_text(f"[temporaletl.sources]\n{name} = {module}\n")
