"""The source fixture of `temporal`: a server of its own behind a relay that can fail."""

import asyncio
import itertools
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

from temporalio.client import Client

from temporaletl.embedded.processes import Stop, Watchdog
from temporaletl.embedded.temporal_server import EmbeddedTemporal, run
from temporaletl.temporal.connect import open_client
from temporaletl.testing import SourceFixture
from tests.integration.tcp_relay import TcpRelay
from tests.waiting import until

_NAMESPACE = "work"
#: Of each, at first: executions that run, and executions that have ended.
_COUNT = 10
_WITHIN = timedelta(seconds=30)


class TemporalFixture(SourceFixture):
    """Executions that nobody works on: they run until they are terminated."""

    source = "temporal"
    page_size_setting = "SOURCE_TEMPORAL_PAGE_SIZE"
    page_sizes = (3, 7)
    faults = ("cut", "swallow")

    def serve(self) -> Iterator[Mapping[str, str]]:
        self._numbers = itertools.count()
        self._running: list[str] = []
        self._ended = 0
        with ExitStack() as exits:
            folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="etl-fixture-")))
            watchdog = Watchdog()
            exits.callback(watchdog.close)
            stop = Stop()
            exits.callback(stop.close)
            server = EmbeddedTemporal(
                folder / "temporal.db", logs=folder, watchdog=watchdog, namespace=_NAMESPACE
            )
            exits.callback(server.end)
            server.start(lambda _line: None)
            server.wait(stop)
            self._endpoint = server.endpoint
            host, _, port = server.endpoint.address.rpartition(":")
            self._relay = exits.enter_context(TcpRelay(f"host={host} port={port}"))
            run(self._move(started=2 * _COUNT, ended=_COUNT))
            yield {
                "SOURCE_TEMPORAL_ADDRESS": self._relay.address,
                "SOURCE_TEMPORAL_NAMESPACES": _NAMESPACE,
                "SOURCE_TEMPORAL_REQUESTS_PER_SECOND": "1000",
                # A change is made once it is listed.
                "SOURCE_TEMPORAL_LAG_SECONDS": "0",
            }

    def change(self, at: datetime) -> None:  # noqa: ARG002 - the server's clock tells the times
        run(self._move(started=1, ended=1))

    def inject_fault(self, fault: str) -> None:
        """`cut` ends the connections that there are, `swallow` passes nothing on any more."""
        if fault.startswith("cut"):
            self._relay.cut()
        else:
            self._relay.freeze(admitting=False)

    def clear_faults(self) -> int:
        self._relay.cut()
        return 0

    async def _move(self, *, started: int, ended: int) -> None:
        """Start executions and terminate the oldest ones; return once that is listed."""
        client = await open_client(self._endpoint, within=_WITHIN)
        for number in itertools.islice(self._numbers, started):
            name = f"subject-{number}"
            await client.start_workflow("SubjectFlow", id=name, task_queue="nobody")
            self._running.append(name)
        for name in self._running[:ended]:
            await client.get_workflow_handle(name).terminate("as asked")
        self._running, self._ended = self._running[ended:], self._ended + ended
        await until(lambda: self._is_listed(client), within_seconds=_WITHIN.total_seconds())

    async def _is_listed(self, client: Client) -> bool:
        counts = await asyncio.gather(
            *(client.count_workflows(f"ExecutionStatus = '{s}'") for s in ("Running", "Terminated"))
        )
        return [each.count for each in counts] == [len(self._running), self._ended]
