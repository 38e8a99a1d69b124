"""The whole platform on one machine: PostgreSQL, Temporal, both services and the API as processes.

Servers that the settings name (`WPE_DB_*` or `DATABASE_URL`, `TEMPORAL_ADDRESS`) are used instead
of embedded ones. The data folder keeps the warehouse, Temporal's file and the logs.
"""

import contextlib
import http.client
import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import FrameType, TracebackType
from typing import NamedTuple, Self

from temporaletl.embedded import temporal_server
from temporaletl.embedded.ports import HOST, instead_of
from temporaletl.embedded.postgres import EmbeddedPostgres
from temporaletl.embedded.processes import Child, StackError, Stop, StoppedError, Watchdog
from temporaletl.embedded.running import (
    POSTGRES_FOLDER,
    clear,
    default_data_folder,
    publish,
    take,
    withdraw,
)
from temporaletl.embedded.services import Service, both_services, end_all
from temporaletl.embedded.temporal_command import Report, TemporalCommandError
from temporaletl.embedded.temporal_server import EmbeddedTemporal
from temporaletl.errors import ConfigurationError, CredentialsError, ETLError
from temporaletl.notifications.destinations import check_destinations
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.settings.environment import environment as variables
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings, WorkerSettings
from temporaletl.temporal.endpoint import Endpoint, access, endpoint
from temporaletl.warehouse.connection import Warehouse

#: The exit status of a start that was stopped.
INTERRUPTED = 130

_LOOK_AGAIN = timedelta(milliseconds=200)


class Address(NamedTuple):
    """A host, and a port of it."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class StackOptions:
    """Options of a stack: which parts start, and where."""

    data: Path = field(default_factory=default_data_folder)
    fresh: bool = False  # remove first what an earlier stack left in the folder
    workers: int | None = None  # ETL_WORKER_PROCESSES
    #: The first ports to be tried; 0: any free one. `ui_port` is of Temporal's own web page.
    temporal_port: int = 0
    ui_port: int | None = None
    postgres_port: int = 0
    api: Address | None = None
    #: Set for the services, and for the commands that find this stack.
    environment: Mapping[str, str] = field(default_factory=dict)


class Stack:
    """All parts, running from `__enter__` to `__exit__`.

    A service that dies is named and started again, with growing delays; a server that dies ends
    the stack: `wait` then raises. `report` gets one line for each step, also from
    another thread. Only processes that the stack started are ended, and they also end when this
    process is killed.
    """

    def __init__(self, options: StackOptions, *, report: Report = lambda _: None) -> None:
        self.options = options
        self.data = options.data.expanduser().resolve()
        self.logs = self.data / "logs"
        #: What a client of this stack needs beyond what this process's environment has.
        self.environment: dict[str, str] = {}
        #: URL of an embedded warehouse for other programs, with its password.
        self.loopback_url: str | None = None
        #: Where the HTTP API listens.
        self.api: Address | None = None
        self._report = report
        self._stop = Stop()
        self._closing = Stop()
        self._failure: str | None = None
        self._servers: list[Child] = []
        self._services: list[Service] = []
        self._supervisor = threading.Thread(target=self._supervise, name="supervisor")
        self._exits = contextlib.ExitStack()

    def __enter__(self) -> Self:
        """Start every part and wait until it is ready.

        Raises:
            ETLError: the folder is in use, a setting is wrong, or a server that the
                settings name does not answer; nothing was started.
            StackError: a part did not start; what had been started was ended.
            StoppedError: `stop` was called meanwhile, likewise.
        """
        with contextlib.ExitStack() as exits:
            self._start(exits)
            self._exits = exits.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End every part, services first; return when all have ended."""
        self._exits.close()

    def stop(self) -> None:
        """End `wait`, or the start that is under way; safe in a signal handler."""
        self._stop.set()

    def wait(self, timeout: timedelta | None = None) -> bool:
        """Wait until `stop` is called (True) or the time is over (False).

        Raises:
            StackError: a server died.
        """
        stopped = self._stop.wait(timeout)
        if self._failure is not None:
            raise StackError(self._failure)
        return stopped

    def pids(self) -> dict[str, int]:
        """The processes of the stack that run now, by name."""
        return {child.name: child.pid for child in self._children() if child.running}

    def _children(self) -> list[Child]:
        return [*self._servers, *(service.child for service in self._services)]

    def _start(self, exits: contextlib.ExitStack) -> None:
        exits.callback(self._close_flags)
        lock = exits.enter_context(take(self.data))
        self._stop.listen(self.data / "stop")
        # The services would find out only when the servers are up.
        WorkerSettings.load()
        check_destinations(NotificationSettings.load())
        if self.options.fresh:
            clear(self.data)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        watchdog = Watchdog(lock)
        exits.callback(watchdog.close)
        # Temporal ends after the services and before PostgreSQL; both come up side by side, and
        # the services meanwhile import what they need.
        postgres, temporal = self._postgres(watchdog), self._temporal(watchdog)
        if postgres is not None:
            exits.callback(postgres.end)
        if temporal is not None:
            exits.callback(temporal.end)
            self._start_temporal(temporal)
        if postgres is not None:
            self._start_postgres(postgres)
        self.environment |= self.options.environment
        exits.callback(self._end_services)
        self._start_services(watchdog)
        if temporal is not None:
            temporal.wait(self._stop)
            self._report(self._temporal_line(temporal))
        self._wait_for_services(
            temporal.endpoint if temporal else endpoint(TemporalSettings.load())
        )
        exits.callback(self._end_supervisor)
        self._supervisor.start()
        exits.callback(withdraw, self.data)
        publish(self.data, self.environment, self.loopback_url)

    def _postgres(self, watchdog: Watchdog) -> EmbeddedPostgres | None:
        settings = WarehouseSettings.load()
        if settings.database_url is None and settings.host is None:
            return EmbeddedPostgres(
                self.data / POSTGRES_FOLDER,
                logs=self.logs,
                watchdog=watchdog,
                port=self.options.postgres_port,
            )
        Warehouse(settings).check()
        self._report("PostgreSQL  the one that the settings name")
        return None

    def _temporal(self, watchdog: Watchdog) -> EmbeddedTemporal | None:
        settings, profile = TemporalSettings.load(), access(variables())
        if settings.address or settings.host or profile.address:
            server = endpoint(settings)
            temporal_server.check(server)
            self._report(f"Temporal    {server.address}, as the settings name it")
            return None
        if profile.api_key or profile.tls:
            # Those are for another server.
            self.environment |= {"TEMPORAL_API_KEY": "", "TEMPORAL_TLS": "false"}
        return EmbeddedTemporal(
            self.data / "temporal.db",
            logs=self.logs,
            watchdog=watchdog,
            namespace=settings.namespace,
            port=self.options.temporal_port,
            ui_port=self.options.ui_port,
        )

    def _start_temporal(self, temporal: EmbeddedTemporal) -> None:
        self._servers.append(temporal.start(self._report))
        self.environment["TEMPORAL_ADDRESS"] = temporal.endpoint.address

    def _temporal_line(self, temporal: EmbeddedTemporal) -> str:
        options, port = self.options, int(temporal.endpoint.address.rpartition(":")[2])
        line = f"Temporal    ready, {temporal.endpoint.address}"
        line += instead_of(options.temporal_port, port)
        if temporal.ui_port is not None:
            line += f"; http://{HOST}:{temporal.ui_port}"
            line += instead_of(options.ui_port or 0, temporal.ui_port)
        return line

    def _start_postgres(self, postgres: EmbeddedPostgres) -> None:
        self._servers.append(postgres.start(self._stop))
        self.environment["DATABASE_URL"] = postgres.url
        self.loopback_url = postgres.loopback_url
        port = postgres.port or 0
        other = instead_of(self.options.postgres_port, port)
        self._report(f"PostgreSQL  ready, {HOST}:{port}{other}")

    def _start_services(self, watchdog: Watchdog) -> None:
        environment = {**os.environ, **self.environment}
        self._services += both_services(
            watchdog=watchdog,
            environment=environment,
            workers=self.options.workers,
            logs=self.logs,
        )
        if self.options.api is not None:
            self._services.append(self._api_service(self.options.api, watchdog, environment))
        for service in self._services:
            service.start()

    def _api_service(
        self, wanted: Address, watchdog: Watchdog, environment: Mapping[str, str]
    ) -> Service:
        command = ["-m", "temporaletl.control.cli", "serve", "--next-port"]
        return Service(
            Child(
                "api",
                [
                    *(sys.executable, "-P", *command),
                    *("--host", wanted.host, "--port", str(wanted.port)),
                ],
                logs=self.logs,
                watchdog=watchdog,
                # The services are those of the stack.
                environment={**environment, "START_TEMPORAL_WORKER": "false"},
            )
        )

    def _wait_for_services(self, server: Endpoint) -> None:
        for service in self._services:
            service.child.wait_until(
                partial(self._serves, service, server),
                stop=self._stop,
                every=_LOOK_AGAIN,
            )
            self._report(f"{service.child.name:<11} ready" if service.queue else self._api_line())

    def _serves(self, service: Service, server: Endpoint) -> bool:
        for child in self._children():
            if not child.running:
                raise child.death()
        if service.queue is None:
            self.api = _address_in(service.child.output())
            return self.api is not None and _answers(self.api)
        return service.child.pid in temporal_server.run(
            temporal_server.polling(server, service.queue)
        )

    def _api_line(self) -> str:
        wanted = 0 if self.options.api is None else self.options.api.port
        taken = "" if self.api is None else instead_of(wanted, self.api.port)
        return f"API         ready, http://{self.api}{taken}"

    def _supervise(self) -> None:
        while not self._closing.wait(_LOOK_AGAIN):
            for child in self._children():
                with contextlib.suppress(OSError):  # it may be tried again
                    child.rotate_log()
            for server in self._servers:
                if server.exit_status is not None:
                    self._failure = server.died()
                    self._stop.set()
                    return
            for service in self._services:
                service.look_after(self._report)

    def _end_supervisor(self) -> None:
        self._closing.set()
        self._supervisor.join()

    def _end_services(self) -> None:
        end_all(self._services)

    def _close_flags(self) -> None:
        self._stop.close()
        self._closing.close()


def up(
    options: StackOptions,
    *,
    report: Report = print,
    complain: Report | None = None,
    more: Callable[[], Iterable[str]] = tuple,
) -> int:
    """`etl up`: run a stack until Ctrl-C or SIGTERM, and end it in order.

    `complain` gets the errors; without it, `report` does. `more` gives lines that are reported
    once everything is ready.

    Returns the exit status: 0 stopped, 1 a part failed, 2 wrong usage or configuration, 130
    stopped before everything had started.
    """
    try:
        stack = Stack(options, report=report)
        with stopping_on_signals(stack):
            with stack:
                for line in (*more(), *hints(stack)):
                    report(line)
                stack.wait()
                report("Ending ...")
            report("Ended.")
    except StoppedError:
        report("Ended before everything had started.")
        return INTERRUPTED
    except ETLError as error:
        (complain or report)(str(error))
        wrong = isinstance(error, ConfigurationError | CredentialsError)
        ours = isinstance(error, TemporalCommandError) or (
            isinstance(error, StackError) and not error.configuration
        )
        return 2 if wrong and not ours else 1
    return 0


def hints(stack: Stack) -> Iterator[str]:
    """The addresses and next commands that are printed once a stack has started."""
    yield f"Logs in {stack.logs}"
    if stack.loopback_url is not None:
        yield "The rows: `etl psql`; for other programs, `etl psql --url` prints where they are."
    if stack.data != default_data_folder().expanduser().resolve():
        yield f"In another terminal first: export ETL_DATA_DIR={shlex.quote(str(stack.data))}"
    yield "Ready: `etl run SOURCE` in another terminal; Ctrl-C, or `etl down` there, ends it all."


@contextlib.contextmanager
def stopping_on_signals(stack: Stack) -> Iterator[None]:
    """Let SIGINT and SIGTERM stop the stack, also while it starts; only in the main thread."""

    def handle(_number: int, _frame: FrameType | None) -> None:
        stack.stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _address_in(said: str) -> Address | None:
    """The address that the API says it is at; None while it has not."""
    found = re.search(r"are at http://\[?([^\s\]]+?)\]?:(\d+)$", said, re.MULTILINE)
    return None if found is None else Address(found[1], int(found[2]))


def _answers(address: Address) -> bool:
    """Whether the API answers."""
    asked = http.client.HTTPConnection(address.host, address.port, timeout=5)
    try:
        asked.request("GET", "/health/live")
        return asked.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        asked.close()
