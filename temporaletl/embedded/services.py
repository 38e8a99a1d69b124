"""Services as child processes: started, started again when one dies, and ended together."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from temporaletl.embedded.processes import Child, Stop, Watchdog
from temporaletl.service.restart_delay import RestartDelay
from temporaletl.settings.platform import TemporalSettings, WorkerSettings

#: How long the services may go on with what they do; segments begin again where they stood.
GRACE = timedelta(seconds=10)
#: Longer than a service itself waits for what it does.
_MORE_PATIENCE = timedelta(seconds=5)
_LOOK_AGAIN = timedelta(milliseconds=200)


@dataclass(frozen=True, slots=True)
class ServiceState:
    """State of a service's process; `detail` says what became of one that does not run."""

    name: str
    running: bool
    detail: str


class Service:
    """A process that is started again, with growing delays, whenever it dies.

    `queue` is the task queue that it polls, where it polls one.
    """

    def __init__(self, child: Child, queue: str | None = None) -> None:
        self.child = child
        self.queue = queue
        self._began = 0.0
        self._delay = RestartDelay()
        self._due: float | None = None  # when to start it again
        self._death = ""

    def start(self) -> None:
        self._due, self._began = None, time.monotonic()
        self.child.start()

    def look_after(self, report: Callable[[str], None]) -> None:
        """Start it again where it has died and its delay is over; report both."""
        now = time.monotonic()
        told = partial(_tell, report)
        if self._due is not None:
            if now >= self._due:
                self._start_again(told)
        elif self.child.exit_status is not None:
            self._wait_after(self.child.died(), told)
            self.child.end()

    def _start_again(self, report: Callable[[str], None]) -> None:
        try:
            self.start()
        except OSError as error:  # no memory, no process: there may be later
            reason = f"{self.child.name} could not be started again: {error.strerror}"
            self._wait_after(reason, report)
        else:
            report(f"{self.child.name} was started again")

    def _wait_after(self, death: str, report: Callable[[str], None]) -> None:
        now = time.monotonic()
        seconds = self._delay.after(now - self._began).total_seconds()
        self._death = death
        report(f"{death}\nIt is started again in {seconds:g} s.")
        self._due = now + seconds

    @property
    def state(self) -> ServiceState:
        name = self.child.name
        if self.child.running:
            return ServiceState(name, running=True, detail="runs")
        death = self._death.partition("\n")[0] or "it has not been started"
        return ServiceState(name, running=False, detail=f"{death}; it is started again soon")


def _tell(report: Callable[[str], None], line: str) -> None:
    # Services are looked after, too, where the terminal is closed or the disk of its log full.
    with contextlib.suppress(OSError, ValueError):
        report(line)


def end_all(services: Iterable[Service]) -> None:
    """End services side by side; return when all have ended."""
    services = list(services)
    for service in services:
        service.child.ask_to_end()
    for service in services:
        service.child.end()


def both_services(
    *,
    watchdog: Watchdog,
    environment: Mapping[str, str],
    workers: int | None = None,
    logs: Path | None = None,
) -> list[Service]:
    """The queuer's process and the workers', not started; see `Child` for `logs`.

    There are ETL_WORKER_PROCESSES workers unless their number is given, each a child of its own.
    They let others of this machine go first: its API answers while they load. Where
    ETL_GRACEFUL_SHUTDOWN_SECONDS is not set, they get `GRACE`.
    """
    temporal, settings = TemporalSettings.load(), WorkerSettings.load()
    chosen = "graceful_shutdown_seconds" in settings.model_fields_set
    grace = timedelta(seconds=settings.graceful_shutdown_seconds) if chosen else GRACE
    known = {
        **environment,
        "ETL_GRACEFUL_SHUTDOWN_SECONDS": f"{grace.total_seconds():g}",
        "ETL_WORKER_PROCESSES": "1",
    }
    workers = workers or settings.processes
    worker = ("temporaletl.worker", temporal.worker_queue)
    modules = {"queuer": ("temporaletl.queuer", temporal.queuer_queue)} | {
        "worker" if workers == 1 else f"worker-{number}": worker for number in range(1, workers + 1)
    }
    return [
        Service(
            Child(
                name,
                # -P: a folder `worker` where the user stands must not be taken for ours.
                [sys.executable, "-P", "-m", module],
                logs=logs,
                watchdog=watchdog,
                environment=known,
                patience=grace + _MORE_PATIENCE,
                lets_others_first=True,
            ),
            queue,
        )
        for name, (module, queue) in modules.items()
    ]


class Supervised(AbstractContextManager["Supervised"]):
    """Services that run from `__enter__` to `__exit__`, looked after by a thread.

    They also end when this process is killed. `report` gets a line for each that dies, and for
    each that is started again, from that thread.
    """

    def __init__(
        self,
        processes: Callable[[Watchdog], Sequence[Service]],
        *,
        report: Callable[[str], None],
    ) -> None:
        self._processes = processes
        self._report = report
        self._services: Sequence[Service] = ()
        self._closing = Stop()
        self._thread = threading.Thread(target=self._supervise, name="supervisor", daemon=True)

    def __enter__(self) -> Self:
        self._watchdog = Watchdog()
        self._services = self._processes(self._watchdog)
        for service in self._services:
            service.start()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the services; return when all have ended."""
        self._closing.set()
        self._thread.join()
        end_all(self._services)
        self._watchdog.close()
        self._closing.close()

    def states(self) -> list[ServiceState]:
        """The state of each process now."""
        return [service.state for service in self._services]

    def _supervise(self) -> None:
        while not self._closing.wait(_LOOK_AGAIN):
            for service in self._services:
                service.look_after(self._report)
