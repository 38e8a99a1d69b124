"""The whole platform as processes of its own, for benchmarks: all parts at the same priority."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psycopg

from temporaletl.embedded.postgres import serving
from temporaletl.embedded.processes import Child, Stop, Watchdog
from temporaletl.embedded.running import take
from temporaletl.embedded.temporal_server import EmbeddedTemporal, polling
from temporaletl.messages import BatchSummary
from temporaletl.settings.platform import TemporalSettings
from temporaletl.temporal.endpoint import Endpoint
from tests.documentation import ROOT
from tests.integration.temporal_production import running_temporal
from tests.process_figures import cpu_seconds, peak_memory_bytes
from tests.waiting import until

#: The services, by name, and the task queues that they poll.
_QUEUES = {
    "queuer": TemporalSettings.model_fields["queuer_queue"].default,
    "worker": TemporalSettings.model_fields["worker_queue"].default,
}
_READY_WITHIN_SECONDS = 600
_SETTINGS = ("TEMPORAL_", "WPE_DB_", "DATABASE_URL", "ETL_", "SOURCE_TEMPORAL_", "JIRA_")


@dataclass(frozen=True)
class PlatformProcesses:
    """A running platform: what leads `etl` to it, and the first process of each part.

    Parts: `warehouse`, `queuer`, `worker`, and `temporal` or, of the production server,
    `temporal-server` and `temporal-postgresql`, whose URL is `temporal_postgres`.
    """

    variables: Mapping[str, str]
    pids: Mapping[str, int]
    logs: Path
    warehouse_url: str
    temporal_address: str
    temporal_postgres: str | None = None

    def cpu_seconds(self) -> dict[str, float]:
        """CPU seconds by part, until now."""
        return {part: _of_family(pid, cpu_seconds) for part, pid in self.pids.items()}

    def peak_memory_bytes(self, part: str) -> int:
        """The most that each process of a part has held, together."""
        return _of_family(self.pids[part], lambda pids: sum(map(peak_memory_bytes, pids)))

    def temporal_commits(self) -> int:
        """Commits of the production server's PostgreSQL, until now."""
        assert self.temporal_postgres is not None
        with psycopg.connect(self.temporal_postgres) as connection:
            row = connection.execute(
                "SELECT sum(xact_commit)::bigint FROM pg_stat_database"
            ).fetchone()
        assert row is not None
        return int(row[0])

    def etl(self, *words: str) -> bytes:
        """What `etl` printed, whatever its status."""
        done = subprocess.run(
            [Path(sys.prefix) / "bin/etl", *words],
            env=self.variables,
            capture_output=True,
            check=False,
        )
        assert done.stdout, done.stderr.decode()
        return done.stdout

    def run(self, source: str, *words: str) -> BatchSummary:
        """What became of `etl run SOURCE --wait`."""
        return BatchSummary.model_validate_json(self.etl("run", source, "--wait", "--json", *words))


def _of_family[T](pid: int, measure: Callable[[list[int]], T]) -> T:
    """The measure of a process and its children, as PostgreSQL's sessions are.

    Anew where a child ends meanwhile: its CPU time is then its parent's.
    """
    while True:
        threads = Path(f"/proc/{pid}/task").glob("*/children")
        try:
            children = [int(child) for found in threads for child in found.read_text().split()]
            return measure([pid, *children])
        except (FileNotFoundError, ProcessLookupError):
            if not Path(f"/proc/{pid}").exists():
                raise


@contextlib.contextmanager
def platform_processes(
    folder: Path,
    *,
    environment: Mapping[str, str] | None = None,
    workers: int = 1,
    production: bool = False,
    programs: Path | None = None,
) -> Iterator[PlatformProcesses]:
    """The platform in `folder`, once both services poll; it ends with the context.

    `environment`: of the services and of `etl`; settings of this process are left out.
    `production`: Temporal's production server, with a PostgreSQL of `programs`, instead of the one
    for development.
    """
    inherited = {name: os.environ[name] for name in os.environ if not name.startswith(_SETTINGS)}
    logs = folder / "logs"
    logs.mkdir()
    with contextlib.ExitStack() as exits:
        lock = exits.enter_context(take(folder))
        warehouse = exits.enter_context(serving(folder, lock))
        assert warehouse.child is not None
        pids = {"warehouse": warehouse.child.pid}
        watchdog, stop = Watchdog(), Stop()
        exits.callback(stop.close)
        exits.callback(watchdog.close)
        temporal_postgres = None
        if production:
            server = exits.enter_context(running_temporal(folder, programs))
            address, temporal_postgres = server.address, server.postgres
            pids |= server.pids
        else:
            development = EmbeddedTemporal(
                folder / "temporal.db", logs=logs, watchdog=watchdog, namespace="default"
            )
            exits.callback(development.end)
            pids["temporal"] = development.start(lambda _: None).pid
            development.wait(stop)
            address = development.endpoint.address
        variables = {
            **inherited,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
            "DATABASE_URL": warehouse.url,
            "TEMPORAL_ADDRESS": address,
            "ETL_WORKER_PROCESSES": str(workers),
            **(environment or {}),
        }
        for name in _QUEUES:
            # Not at the lower priority of a stack's: it is the parts that are compared.
            service = Child(
                name,
                [sys.executable, "-P", "-m", f"temporaletl.{name}"],
                logs=logs,
                watchdog=watchdog,
                environment=variables,
            )
            exits.callback(service.end)
            service.start()
            pids[name] = service.pid
        asyncio.run(
            until(lambda: _all_poll(Endpoint(address)), within_seconds=_READY_WITHIN_SECONDS)
        )
        yield PlatformProcesses(variables, pids, logs, warehouse.url, address, temporal_postgres)


@contextlib.contextmanager
def fake_jira(issues: int) -> Iterator[str]:
    """URL of a Jira of so many made-up issues, served by a process of its own."""
    command = [sys.executable, "-m", "tests.fakes.jira", "--port", "0", "--cache-mb", "64"]
    with subprocess.Popen(
        [*command, "--generate", str(issues), "--seed", "5"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            found = None
            while found is None:
                line = process.stdout.readline()
                assert line, "the fake did not start"
                found = re.search(r"http://\S+", line)
            yield found[0]
        finally:
            process.terminate()


async def _all_poll(endpoint: Endpoint) -> bool:
    return all([await polling(endpoint, queue) for queue in _QUEUES.values()])
