"""The harness of one check: a served source, its settings in the environment, warehouses."""

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from temporaletl.bound_connection import DEFAULT, bound
from temporaletl.connections.entries import settings_of
from temporaletl.errors import ETLError, UnknownSourceError
from temporaletl.external import http
from temporaletl.extraction import Page, PageRequest
from temporaletl.ids import job_id_of
from temporaletl.messages import BatchMetadata, ETLInput, Mode, QueuerInput, Window
from temporaletl.queuer.planning import jobs_of
from temporaletl.registry import Registry
from temporaletl.rows import Row
from temporaletl.strategies import Planner, import_sources, planners, resolve
from temporaletl.testing.batch import MOST_FAILURES, Batch
from temporaletl.testing.contents import key_of
from temporaletl.testing.postgres import empty_warehouse, server_url
from temporaletl.testing.source_fixture import MissingCapabilityError, SourceFixture
from temporaletl.transformation import TransformContext
from temporaletl.warehouse import budget
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading.rejects import storable_json
from temporaletl.worker.transforming import reject_of

_runner = pytest.StashKey[asyncio.Runner]()

#: Prints what a service has registered once it has imported its sources, as at its start.
_REGISTERED = """
import json, sys
from temporaletl import strategies as s
s.import_sources(sys.argv[1])
print(json.dumps({
    "planners": list(s.planners),
    "expanders": list(s.expanders),
    "queries": list(s.queries),
    "extractors": list(s.extractors),
    "transformers": list(s.transformers),
    "budgets": list(s.budgets),
}))
"""

#: Retries enough for a failure that passes by itself.
_FEW_FAILURES = 2

#: Rows by table and key.
Rows = dict[tuple[str, str], Row]


class Harness:
    """One check's harness: a served source, warehouses, batches. No method takes over a minute."""

    def __init__(
        self,
        fixture: SourceFixture,
        environment: Mapping[str, str],
        *,
        request: pytest.FixtureRequest,
        patch: pytest.MonkeyPatch,
        exits: ExitStack,
    ) -> None:
        self.fixture = fixture
        self.source = fixture.source
        self.environment = environment
        self.patch = patch
        self._request = request
        self._exits = exits

    @property
    def planner(self) -> Planner:
        return planners.get(self.source)

    @property
    def streams(self) -> tuple[str, ...]:
        with bound(self.source, DEFAULT):
            return self.planner.streams

    def run[T](self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the event loop of all checks, as the jobs of a service share one."""
        stash = self._request.config.stash
        if _runner not in stash:
            # With a factory of its own it leaves the thread's current loop alone.
            stash[_runner] = asyncio.Runner(loop_factory=asyncio.new_event_loop)
            self._request.config.add_cleanup(stash[_runner].close)
        return stash[_runner].run(work)

    def warehouse(self) -> Warehouse:
        """An empty warehouse, dropped after the check."""
        return self._exits.enter_context(empty_warehouse(server_url(self._request)))

    def request(
        self,
        mode: Mode = "full",
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        connection: str = DEFAULT,
    ) -> QueuerInput:
        return QueuerInput(
            source=self.source,
            connection=connection,
            mode=mode,
            date_start=start,
            date_end=end,
            params=dict(self.fixture.params),
        )

    def load(
        self,
        warehouse: Warehouse,
        request: QueuerInput | None = None,
        *,
        scheduled: datetime | None = None,
        pages_per_segment: int | None = None,
        patient: bool = True,
    ) -> Batch:
        """Run a batch, by default a full load scheduled for the fixture's `now`; see `Batch.run`.

        With `pages_per_segment`, every segment stops after so many pages; the next one begins, as
        after a kill, with nothing but the ledger's cursor.
        """
        batch = Batch(warehouse, most_failures=MOST_FAILURES if patient else _FEW_FAILURES)
        self.run(
            batch.run(
                request or self.request(),
                scheduled=scheduled or self.fixture.now,
                pages_per_segment=pages_per_segment,
            )
        )
        return batch

    def failure(
        self, warehouse: Warehouse, request: QueuerInput, *, scheduled: datetime | None = None
    ) -> ETLError | None:
        """Run a batch with few retries; return the error if it fails."""
        try:
            self.load(warehouse, request, scheduled=scheduled, patient=False)
        except ETLError as error:
            return error
        return None

    def plan(self, request: QueuerInput | None = None, *, late: timedelta = timedelta(0)) -> Batch:
        """Plan a batch in a ledger of its own, scheduled `late` after the fixture's `now`."""
        batch = Batch(self.warehouse(), planned_only=True)
        self.run(batch.run(request or self.request(), scheduled=self.fixture.now + late))
        return batch

    def jobs(self, windows: Mapping[str, Window], mode: Mode = "full") -> list[ETLInput]:
        """The jobs planned for these windows, without a warehouse."""
        metadata = BatchMetadata(
            batch_id="suite",
            source=self.source,
            mode=mode,
            connection="default",
            windows=dict(windows),
            params=dict(self.fixture.params),
            worker_queue="suite",
            started=self.fixture.now,
        )

        async def plan() -> list[ETLInput]:
            async with contextlib.aclosing(jobs_of(metadata)) as jobs:
                return [job.model_copy(update={"job_id": job_id_of(job)}) async for job in jobs]

        return self.run(plan())

    def all_jobs(self) -> list[ETLInput]:
        return self.jobs({stream: Window(end=self.fixture.now) for stream in self.streams})

    def extract(self, job: ETLInput, cursor: Any = None) -> AsyncGenerator[Page]:
        """The source's extraction of a job, not begun; the cursor goes through JSON."""
        strategies = resolve(job.source, job.stream)
        return strategies.extract(
            PageRequest(
                job=job,
                query=strategies.query.from_dict(job.params),
                cursor=json.loads(json.dumps(cursor)),
            )
        )

    def pages(self, job: ETLInput, cursor: Any = None) -> list[Page]:
        """The pages of a job from a cursor on, which goes through JSON.

        None of a deletion scan, which is about what is stored.
        """
        if job.scan:
            return []

        async def read() -> list[Page]:
            async with contextlib.aclosing(self.extract(job, cursor)) as pages:
                return [page async for page in pages]

        return self.run(read())

    def transform(self, job: ETLInput, record: Any) -> list[Any]:
        """The rows, rejects and complete sets of one record; raises what the transform raises."""
        strategies = resolve(job.source, job.stream)
        context = TransformContext(job=job, query=strategies.query.from_dict(job.params))
        return list(strategies.transform(record, context))

    def rows(self, job: ETLInput, *pages: Page) -> Rows:
        """The transformed rows of pages."""
        return {
            (row.table, key_of(type(row), columns(row))): row
            for page in pages
            for record in page.records
            for row in self.transform(job, record)
            if isinstance(row, Row)
        }

    def add_connection(self, name: str, **settings: str) -> None:
        """Configure a second connection to the same server, with these settings on top.

        Skips where the source declares no settings that a connection could give.
        """
        known = settings_of(self.source)
        given = {**self.environment, **settings}
        if (size := self.fixture.page_size_setting) is not None:
            given[size] = str(self.fixture.page_sizes[0])
        lines = [f"[{name}]", f'source = "{self.source}"']
        for setting, value in given.items():
            if setting not in known:
                continue
            text = json.dumps(value, ensure_ascii=False)
            if known[setting]:
                variable = f"SUITE_{name.upper()}_{setting}"
                self.patch.setenv(variable, value)
                text = f'{{ env = "{variable}" }}'
            lines.append(f"{setting} = {text}")
        if not known:
            pytest.skip(f"source {self.source!r} declares no settings (connection_settings)")
        file = Path.cwd() / "connections.toml"
        file.write_text("\n".join(lines), encoding="utf-8")
        self.patch.setenv("ETL_CONNECTIONS", str(file))

    def set_page_size(self, size: int) -> None:
        if self.fixture.page_size_setting is None:
            pytest.skip(f"{type(self.fixture).__name__} names no page_size_setting")
        self.patch.setenv(self.fixture.page_size_setting, str(size))


def require[T](capability: Callable[[], T]) -> T:
    """Use a capability of the source fixture; skip the check, with the reason, if it is missing."""
    try:
        return capability()
    except MissingCapabilityError as missing:
        pytest.skip(str(missing))


def columns(row: Row) -> dict[str, Any]:
    """A row's columns as its transform set them."""
    return {name: getattr(row, name) for name in row.__struct_fields__}


def as_reprocessed(record: Any) -> Any:
    """A record as reprocessing its reject would read it: through JSON and back."""
    return msgspec.json.decode(storable_json(reject_of(record, "").payload))


def registered() -> dict[str, dict[str, Any]]:
    """The names that each service registers in a process of its own, by service."""
    return _registered(os.pathsep.join(sys.path))


@lru_cache
def _registered(path: str) -> dict[str, dict[str, Any]]:
    processes = {
        service: subprocess.Popen(  # noqa: S603 - this very Python
            [sys.executable, "-c", _REGISTERED, f"temporaletl.{service}.sources"],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for service in ("queuer", "worker")
    }
    outputs = {service: _output_of(process) for service, process in processes.items()}
    for service, process in processes.items():
        stderr = outputs[service][1]
        assert process.returncode == 0, f"{service} cannot import its sources: {stderr[-2000:]}"  # noqa: S101
    return {service: json.loads(out) for service, (out, _) in outputs.items()}


@lru_cache
def _import_sources_on(path: str) -> None:  # noqa: ARG001 - what can be found depends on it
    """Import the sources of both services; to look for them takes as long as a short check."""
    import_sources("temporaletl.queuer.sources")
    import_sources("temporaletl.worker.sources")


def _output_of(process: "subprocess.Popen[str]") -> tuple[str, str]:
    try:
        return process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()


@contextmanager
def make_harness(
    kind: type[SourceFixture],
    request: pytest.FixtureRequest,
    patch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    folder: Path,
) -> Iterator[Harness]:
    """Serve a source to one check; fail afterwards where a log line holds a secret."""
    _import_sources_on(os.pathsep.join(sys.path))
    if kind.source not in planners:
        raise UnknownSourceError(
            f"source {kind.source!r} is not registered: is its package installed (`pip install "
            f"-e .`), and does its pyproject.toml name its module in the entry-point group "
            f"temporaletl.sources?"
        )
    # No `.env` file of the folder that the tests run in.
    patch.chdir(folder)
    patch.delenv("ETL_CONNECTIONS", raising=False)
    # What is tried again is tried again soon.
    patch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.001)
    # A slow answer is waited for as long as a silent one.
    patch.setattr(http, "_SHORTEST_ANSWER", timedelta(seconds=1))
    # A rate budget is for a source that others use, too: here it would only make each segment,
    # and there are hundreds of them, wait for its turn.
    patch.setattr(budget, "budgets", Registry("rate budget"))
    caplog.set_level(logging.INFO)
    with ExitStack() as exits, structlog.testing.capture_logs() as lines:
        fixture = kind()
        environment = exits.enter_context(contextmanager(fixture.serve)())
        for name, value in environment.items():
            patch.setenv(name, value)
        harness = Harness(fixture, environment, request=request, patch=patch, exits=exits)
        if fixture.page_size_setting is not None:
            harness.set_page_size(fixture.page_sizes[0])
        yield harness
    for text in (caplog.text, *map(str, lines)):
        assert_no_secrets(fixture, text)


def assert_no_secrets(fixture: SourceFixture, text: str) -> None:
    """Fail where a text holds one of the fixture's secrets."""
    for position, secret in enumerate(fixture.secrets):
        assert secret not in text, f"secret number {position + 1} is exposed: {text[:2000]}"  # noqa: S101
