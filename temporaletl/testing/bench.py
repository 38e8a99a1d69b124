"""One check's bench: the source served, its settings in the environment, warehouses on request."""

import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from temporaletl.connection_file import settings_of
from temporaletl.connections import DEFAULT, bound
from temporaletl.errors import ETLError, UnknownSourceError
from temporaletl.external import http
from temporaletl.extraction import Page, PageRequest
from temporaletl.messages import BatchMetadata, ETLInput, Mode, QueuerInput, Window, job_id_of
from temporaletl.queuer.planning import jobs_of
from temporaletl.registry import Registry
from temporaletl.rows import Row
from temporaletl.strategies import Planner, import_sources, planners, resolve
from temporaletl.testing.batch import MOST_FAILURES, Batch
from temporaletl.testing.contents import key_of
from temporaletl.testing.postgres import empty_warehouse, server_url
from temporaletl.testing.rig import Rig
from temporaletl.transformation import TransformContext
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker import source_limiter
from temporaletl.worker.loading.rejects import storable_json
from temporaletl.worker.transforming import reject_of

_runner = pytest.StashKey[asyncio.Runner]()

#: Tells what one service has registered after it imported its sources, as at its start.
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

#: Enough for what passes by itself.
_FEW_FAILURES = 2

#: Rows by table and key.
Rows = dict[tuple[str, str], Row]


class Bench:
    """What the checks work with. Every method ends by itself within a minute."""

    def __init__(
        self,
        rig: Rig,
        environment: Mapping[str, str],
        *,
        request: pytest.FixtureRequest,
        patch: pytest.MonkeyPatch,
        exits: ExitStack,
    ) -> None:
        self.rig = rig
        self.source = rig.source
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
        """Run on the one event loop that all checks share, as a service's jobs share its own."""
        stash = self._request.config.stash
        if _runner not in stash:
            # With a factory of its own it leaves the thread's current loop alone.
            stash[_runner] = asyncio.Runner(loop_factory=asyncio.new_event_loop)
            self._request.config.add_cleanup(stash[_runner].close)
        return stash[_runner].run(work)

    def warehouse(self) -> Warehouse:
        """An empty one, dropped with the check."""
        return self._exits.enter_context(empty_warehouse(server_url(self._request)))

    def ask_for(
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
            params=dict(self.rig.params),
        )

    def load(
        self,
        warehouse: Warehouse,
        request: QueuerInput | None = None,
        *,
        nominal: datetime | None = None,
        stop_behind: int | None = None,
        patient: bool = True,
    ) -> Batch:
        """Run a batch, by default a full load as of the rig's `now`; see `Batch.run`.

        With `stop_behind`, every segment stops behind so many pages; the next one begins, as
        after a kill, with nothing but the ledger's cursor.
        """
        batch = Batch(warehouse, most_failures=MOST_FAILURES if patient else _FEW_FAILURES)
        self.run(
            batch.run(
                request or self.ask_for(),
                nominal=nominal or self.rig.now,
                stop_behind=stop_behind,
            )
        )
        return batch

    def refusal(
        self, warehouse: Warehouse, request: QueuerInput, *, nominal: datetime | None = None
    ) -> ETLError | None:
        """Run a batch without much patience; return what it says of its failure, if it fails."""
        try:
            self.load(warehouse, request, nominal=nominal, patient=False)
        except ETLError as error:
            return error
        return None

    def plan(self, request: QueuerInput | None = None, *, late: timedelta = timedelta(0)) -> Batch:
        """Plan a batch into a ledger of its own, `late` behind the rig's `now`."""
        batch = Batch(self.warehouse(), planned_only=True)
        self.run(batch.run(request or self.ask_for(), nominal=self.rig.now + late))
        return batch

    def jobs(self, windows: Mapping[str, Window], mode: Mode = "full") -> list[ETLInput]:
        """The jobs of these windows, planned without a warehouse."""
        metadata = BatchMetadata(
            batch_id="suite",
            source=self.source,
            mode=mode,
            connection="default",
            windows=dict(windows),
            params=dict(self.rig.params),
            worker_queue="suite",
            started=self.rig.now,
        )

        async def plan() -> list[ETLInput]:
            async with contextlib.aclosing(jobs_of(metadata)) as jobs:
                return [job.model_copy(update={"job_id": job_id_of(job)}) async for job in jobs]

        return self.run(plan())

    def all_jobs(self) -> list[ETLInput]:
        return self.jobs({stream: Window(end=self.rig.now) for stream in self.streams})

    def pages(self, job: ETLInput, cursor: Any = None) -> list[Page]:
        """The pages of a job from a cursor on, which has been JSON meanwhile.

        None of a deletion scan, which is about what is stored.
        """
        if job.scan:
            return []
        strategies = resolve(job.source, job.stream)
        request = PageRequest(
            job=job,
            query=strategies.query.from_dict(job.params),
            cursor=json.loads(json.dumps(cursor)),
        )

        async def read() -> list[Page]:
            async with contextlib.aclosing(strategies.extract(request)) as pages:
                return [page async for page in pages]

        return self.run(read())

    def outcome(self, job: ETLInput, record: Any) -> list[Any]:
        """What the transform makes of one record; raises as it does."""
        strategies = resolve(job.source, job.stream)
        context = TransformContext(job=job, query=strategies.query.from_dict(job.params))
        return list(strategies.transform(record, context))

    def rows(self, job: ETLInput, *pages: Page) -> Rows:
        """The rows of pages, as the transform makes them."""
        return {
            (row.table, key_of(type(row), columns(row))): row
            for page in pages
            for record in page.records
            for row in self.outcome(job, record)
            if isinstance(row, Row)
        }

    def add_connection(self, name: str, **settings: str) -> None:
        """Have a file hold a connection that leads to the same place, with these settings more.

        Skips where the source declares no settings that a connection could give.
        """
        known = settings_of(self.source)
        given = {**self.environment, **settings}
        if (size := self.rig.page_size_setting) is not None:
            given[size] = str(self.rig.page_sizes[0])
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
        if self.rig.page_size_setting is None:
            pytest.skip(f"{type(self.rig).__name__} names no page_size_setting")
        self.patch.setenv(self.rig.page_size_setting, str(size))


def columns(row: Row) -> dict[str, Any]:
    """A row's columns as its transform set them."""
    return {name: getattr(row, name) for name in row.__struct_fields__}


def as_kept(record: Any) -> Any:
    """A record as a replay of its reject would meet it: through JSON and back."""
    return msgspec.json.decode(storable_json(reject_of(record, "").payload))


def registered() -> dict[str, dict[str, Any]]:
    """What each service registers in a process of its own, by the service's name."""
    return _registered(os.pathsep.join(sys.path))


@lru_cache
def _registered(path: str) -> dict[str, dict[str, Any]]:
    asked = {
        service: subprocess.Popen(  # noqa: S603 - this very Python
            [sys.executable, "-c", _REGISTERED, f"temporaletl.{service}.sources"],
            env={**os.environ, "PYTHONPATH": path},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for service in ("queuer", "worker")
    }
    answers = {service: _answer_of(process) for service, process in asked.items()}
    for service, process in asked.items():
        fault = answers[service][1]
        assert process.returncode == 0, f"{service} cannot import its sources: {fault[-2000:]}"  # noqa: S101
    return {service: json.loads(out) for service, (out, _) in answers.items()}


def _answer_of(process: "subprocess.Popen[str]") -> tuple[str, str]:
    try:
        return process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.communicate()


@contextmanager
def make_bench(
    kind: type[Rig],
    request: pytest.FixtureRequest,
    patch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    folder: Path,
) -> Iterator[Bench]:
    """Serve a source; afterwards look whether a log line gave a secret away."""
    import_sources("temporaletl.queuer.sources")
    import_sources("temporaletl.worker.sources")
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
    patch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.01)
    # A slow answer is waited for as long as a silent one.
    patch.setattr(http, "_SHORTEST_ANSWER", timedelta(seconds=1))
    # A rate budget is for a source that others use, too: here it would only make each segment,
    # and there are hundreds of them, wait for its turn.
    patch.setattr(source_limiter, "budgets", Registry("rate budget"))
    caplog.set_level(logging.INFO)
    with ExitStack() as exits, structlog.testing.capture_logs() as lines:
        rig = kind()
        environment = exits.enter_context(contextmanager(rig.serve)())
        for name, value in environment.items():
            patch.setenv(name, value)
        bench = Bench(rig, environment, request=request, patch=patch, exits=exits)
        if rig.page_size_setting is not None:
            bench.set_page_size(rig.page_sizes[0])
        yield bench
    for text in (caplog.text, *map(str, lines)):
        assert_discreet(rig, text)


def assert_discreet(rig: Rig, text: str) -> None:
    """Fail where a text holds one of the rig's secrets."""
    for position, secret in enumerate(rig.secrets):
        assert secret not in text, f"secret number {position + 1} is told: {text[:2000]}"  # noqa: S101
