"""Temporal's development server as a child process, and the stack's calls to any Temporal."""

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

from temporaletl.embedded.ports import HOST, ClaimedPort, claim_port
from temporaletl.embedded.processes import Child, Stop, Watchdog
from temporaletl.embedded.temporal_command import Report, ensure_temporal
from temporaletl.errors import ConfigurationError, TemporalUnavailableError
from temporaletl.temporal import connect
from temporaletl.temporal.endpoint import Endpoint
from temporaletl.temporal.pollers import pollers

_ANSWER_WITHIN = timedelta(seconds=5)
#: Without these, a server with a file is 2.5 times slower.
_PRAGMAS = ("journal_mode=wal", "synchronous=normal")
#: Priorities and fairness keys are heeded only so; and fairness holds within one partition.
MATCHING = (
    "matching.useNewMatcher=true",
    "matching.enableFairness=true",
    "matching.numTaskqueueReadPartitions=1",
    "matching.numTaskqueueWritePartitions=1",
)


class EmbeddedTemporal:
    """Development server with its state in `file`.

    Of `port`, and of `ui_port`, its web page's, the first free one from there is taken; 0: any.
    """

    def __init__(
        self,
        file: Path,
        *,
        logs: Path,
        watchdog: Watchdog,
        namespace: str,
        port: int = 0,
        ui_port: int | None = None,
    ) -> None:
        claimed = claim_port(port)
        self._claims: list[ClaimedPort] = [claimed]
        self.endpoint = Endpoint(f"{HOST}:{claimed.number}", namespace)
        self.ui_port: int | None = None
        if ui_port is not None:
            self._claims.append(claim_port(ui_port))
            self.ui_port = self._claims[-1].number
        self._file = file
        self._logs = logs
        self._watchdog = watchdog
        self.child: Child | None = None  # None until started

    def start(self, report: Report) -> Child:
        """Start it; `wait` then waits until it answers.

        Raises:
            TemporalCommandError: there is no server to start.
        """
        ui = ("--headless",) if self.ui_port is None else ("--ui-port", str(self.ui_port))
        self.child = Child(
            "temporal",
            [
                *(ensure_temporal(report), "server", "start-dev", "--ip", HOST, *ui),
                *("--port", self.endpoint.address.rpartition(":")[2]),
                *("--namespace", self.endpoint.namespace, "--db-filename", self._file),
                *(word for pragma in _PRAGMAS for word in ("--sqlite-pragma", pragma)),
                *(word for value in MATCHING for word in ("--dynamic-config-value", value)),
            ],
            logs=self._logs,
            watchdog=self._watchdog,
        )
        self.child.start()
        return self.child

    def wait(self, stop: Stop) -> None:
        """Wait until it answers; raises as `Child.wait_until`."""
        assert self.child is not None, "not started"  # noqa: S101
        self.child.wait_until(
            lambda: self._listens() and run(_answers(self.endpoint)),
            stop=stop,
        )

    def end(self) -> None:
        if self.child is not None:
            self.child.end()
        for claim in self._claims:
            claim.release()

    def _listens(self) -> bool:
        host, _, port = self.endpoint.address.rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return True
        return False


def run[T](work: Coroutine[None, None, T]) -> T:
    """Run a coroutine in a thread of its own: the caller's may have an event loop already."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def check(endpoint: Endpoint) -> None:
    """Connect once; raises as `connect.open_client`."""
    run(connect.open_client(endpoint, within=_ANSWER_WITHIN))


async def _answers(endpoint: Endpoint) -> bool:
    with contextlib.suppress(ConfigurationError, TemporalUnavailableError):
        await connect.open_client(endpoint, within=_ANSWER_WITHIN)
        return True
    return False


async def polling(endpoint: Endpoint, queue: str) -> set[int]:
    """The process ids of this machine's workers that poll a queue for workflow tasks."""
    known: frozenset[str] = frozenset()
    with contextlib.suppress(ConfigurationError, TemporalUnavailableError):
        known = await pollers(await connect.open_client(endpoint, within=_ANSWER_WITHIN), queue)
    # The SDK names a worker PROCESS@HOST.
    named = (identity.partition("@") for identity in known)
    return {int(pid) for pid, _, host in named if pid.isdigit() and host == socket.gethostname()}
