"""The platform as processes that a test can kill, stop and restart."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg

from temporaletl import names
from temporaletl.embedded.postgres import EmbeddedPostgres, temporary_folder
from temporaletl.embedded.processes import Child, Stop, Watchdog
from temporaletl.embedded.temporal_server import EmbeddedTemporal, polling
from temporaletl.messages import BatchSummary
from tests.etl_process import run_etl
from tests.fakes.server import FakeServer
from tests.integration.temporal_server import require_temporal

_ETL = Path(sys.executable).with_name("etl")
_PASSWORD = "a-password"
_READY_WITHIN = timedelta(seconds=60)
#: In seconds; a server may be frozen.
_CONNECTS_WITHIN = 10
_QUEUES = {"queuer": names.QUEUER_TASK_QUEUE, "worker": names.WORKER_TASK_QUEUE}
#: The services of a platform, each with the module that it runs.
SERVICES: Mapping[str, str] = {name: name for name in _QUEUES}
_LIBRARIES = ("/usr/lib/*/faketime/libfaketime.so.1", "/usr/local/lib/faketime/libfaketime.so.1")
#: What a developer's own environment must not lend to the tests.
_FOREIGN = (
    "TEMPORAL_",
    "WPE_DB_",
    "DATABASE_URL",
    "ETL_",
    "SOURCE_TEMPORAL_",
    "JIRA_",
    "LP_",
    "SF_",
    "TRINO_",
    "GCP_",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "SERVICETITAN_",
)


@dataclass
class Platform:
    """Running servers and services; `environment` is that of commands and services."""

    folder: Path
    environment: dict[str, str]
    postgres: EmbeddedPostgres
    temporal: EmbeddedTemporal
    services: dict[str, Child]
    modules: Mapping[str, str]
    stop: Stop

    def start_service(self, name: str) -> None:
        self.services[name].start()

    def await_service(self, name: str, *, within: timedelta = _READY_WITHIN) -> None:
        """Wait until the service polls Temporal."""
        child, queue = self.services[name], _QUEUES[self.modules[name]]
        child.wait_until(
            lambda: child.pid in asyncio.run(polling(self.temporal.endpoint, queue)),
            within=within,
            stop=self.stop,
        )

    def child(self, name: str) -> Child:
        """The process of a service, or of one of the servers `postgresql` and `temporal`."""
        servers = {"postgresql": self.postgres.child, "temporal": self.temporal.child}
        child = servers[name] if name in servers else self.services[name]
        assert child is not None, "it is started with the platform"
        return child

    def kill(self, name: str) -> None:
        """Kill a service with SIGKILL."""
        child = self.services[name]
        os.killpg(child.pid, signal.SIGKILL)
        child.end()

    @contextlib.contextmanager
    def frozen(self, name: str) -> Iterator[None]:
        """Stop a service or a server (SIGSTOP), and continue it after the block."""
        child = self.child(name)
        os.killpg(child.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.killpg(child.pid, signal.SIGCONT)

    @contextlib.contextmanager
    def another(self, name: str) -> Iterator[None]:
        """Run another process of a service until the block ends."""
        with (self.folder / "logs" / f"another-{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", name],
                env=self.environment,
                cwd=self.folder,
                stdout=log,
                stderr=log,
            )
            try:
                yield
            finally:
                process.kill()
                process.wait(timeout=120)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with self._connected() as connection:
            return connection.execute(statement.encode()).fetchall()

    def execute(self, statement: str) -> None:
        with self._connected() as connection:
            connection.execute(statement.encode())

    @contextlib.contextmanager
    def _connected(self) -> Iterator[psycopg.Connection[Any]]:
        url, within = self.postgres.url, _CONNECTS_WITHIN
        with psycopg.connect(url, autocommit=True, connect_timeout=within) as connection:
            connection.execute("SET search_path TO workplace")
            yield connection

    def etl(
        self,
        *words: str,
        timeout_seconds: float = 60,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, in the services' environment unless another is given."""
        return run_etl(
            *words,
            environment=self.environment if environment is None else environment,
            folder=self.folder,
            timeout_seconds=timeout_seconds,
        )

    @contextlib.contextmanager
    def etl_running(
        self, *words: str, environment: Mapping[str, str] | None = None
    ) -> Iterator["subprocess.Popen[str]"]:
        """As `etl`, in the background until the block ends."""
        process = subprocess.Popen(
            [_ETL, *words],
            env=self.environment if environment is None else environment,
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    def load(self, source: str, *words: str, timeout_seconds: float = 120) -> BatchSummary:
        """Run a source to the end, and read the summary that the command prints."""
        done = self.etl("run", source, "--wait", "--json", *words, timeout_seconds=timeout_seconds)
        assert done.returncode in (0, 1), done.stderr
        assert done.stdout, done.stderr
        return BatchSummary.model_validate(json.loads(done.stdout))


def access_to(jira: FakeServer) -> dict[str, str]:
    """Settings under which a fake Jira Cloud is read."""
    return {"JIRA_URL": jira.url, "JIRA_EMAIL": "me@example.com", "JIRA_API_TOKEN": "a-token"}


def shifted_clock(shift: str) -> dict[str, str] | None:
    """The environment of a process with a shifted clock; durations stay the same.

    None where the library for it is not to be had: Debian's package `faketime` has it.
    """
    library = next((str(p) for pattern in _LIBRARIES for p in Path("/").glob(pattern[1:])), None)
    if library is None:
        return None
    return {
        "LD_PRELOAD": library,
        "FAKETIME": shift,
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # Processes of another user, as PostgreSQL's, may not have what it would share with them.
        "FAKETIME_DISABLE_SHM": "1",
        "NO_FAKE_STAT": "1",
    }


@contextlib.contextmanager
def platform_in(
    folder: Path,
    environment: Mapping[str, str],
    *,
    password: str = _PASSWORD,
    services: Mapping[str, str] = SERVICES,
    through: Callable[[str], str] = str,
    temporal_through: Callable[[str], str] = str,
    port: int | None = None,
) -> Iterator[Platform]:
    """Start the platform below `folder`, and end all of it after the block.

    PostgreSQL asks for no password, but the `DATABASE_URL` of all commands and services has one;
    on a `port` (0: any), it asks for it. It is what `through` makes of the server's own, such as a
    relay's; as is the address that `temporal_through` makes of Temporal's.
    """
    require_temporal()
    folder.mkdir(parents=True, exist_ok=True)
    logs = folder / "logs"
    logs.mkdir()
    with contextlib.ExitStack() as exits:
        lock = exits.enter_context((folder / "lock").open("w"))
        watchdog = Watchdog(lock)
        exits.callback(watchdog.close)
        stop = Stop()
        exits.callback(stop.close)
        data = exits.enter_context(temporary_folder("etl-platform-"))
        postgres = EmbeddedPostgres(data / "postgresql", logs=logs, watchdog=watchdog, port=port)
        temporal = EmbeddedTemporal(
            folder / "temporal.db", logs=logs, watchdog=watchdog, namespace="default"
        )
        exits.callback(postgres.end)
        postgres.start(stop)
        exits.callback(temporal.end)
        temporal.start(lambda _line: None)
        temporal.wait(stop)
        own = {k: v for k, v in os.environ.items() if not k.startswith(_FOREIGN)}
        variables = own | {
            "DATABASE_URL": through(
                postgres.loopback_url or postgres.url.replace("@", f":{password}@", 1)
            ),
            "TEMPORAL_ADDRESS": temporal_through(temporal.endpoint.address),
            "ETL_DATA_DIR": str(folder / "none"),
            "ETL_HEARTBEAT_TIMEOUT_SECONDS": "3",
            "ETL_SEGMENT_SECONDS": "3",
            "TEMPORAL_WORKFLOW_INITIAL_INTERVAL_SECONDS": "0.2",
            **environment,
        }
        children = {
            name: Child(
                name,
                [sys.executable, "-P", "-m", module],
                logs=logs,
                watchdog=watchdog,
                environment=variables,
            )
            for name, module in services.items()
        }
        platform = Platform(folder, variables, postgres, temporal, children, services, stop)
        for name, child in children.items():
            exits.callback(child.end)
            platform.start_service(name)
        for name in children:
            platform.await_service(name)
        yield platform
