"""Reading the fake org through the source's own registered functions, as the platform does."""

import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from temporaletl import (
    ETLInput,
    Event,
    Identity,
    Page,
    PageRequest,
    Plan,
    RecordError,
    Reject,
    RetryableError,
    TransformContext,
    Window,
)
from temporaletl.external import http
from temporaletl.external.salesforce import refusals
from temporaletl.external.salesforce.org import close_orgs
from temporaletl.messages import BatchMetadata, Mode
from temporaletl.queuer.sources.salesforce.inputs import expand_backlog
from temporaletl.queuer.sources.salesforce.params import describe_backlog
from temporaletl.strategies import resolve
from temporaletl.worker.sources.salesforce import employees, extract, transform
from temporaletl.worker.sources.salesforce.query import SalesforceQuery
from temporaletl.worker.transforming import reject_of
from tests.fakes.faults import TRANSPORT, Faults
from tests.fakes.salesforce import Org, serve, truth
from tests.fakes.salesforce.service import OWN_FAULTS
from tests.fakes.server import FakeServer

#: Importing them registers the strategies.
REGISTERED = (employees, transform)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
Serve = Callable[..., FakeServer]
STREAMS = ("cases", "opportunities", "tasks", "events")


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Serve]:
    """Serve an org, and set the environment so that the source reads it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(refusals, "_CONCURRENCY_PAUSE", timedelta(0))
    monkeypatch.setattr(refusals, "DAILY_LIMIT_PAUSE", timedelta(0))
    monkeypatch.setattr(extract, "_FIRST_POLL_SECONDS", 0.001)
    with contextlib.ExitStack() as stack:

        def start(org: Org, *faults: str, seed: int = 7, **settings: str) -> FakeServer:
            known = {**TRANSPORT, **OWN_FAULTS}
            injected = Faults(faults, known=known, seed=seed, retry_after=timedelta(0))
            server = stack.enter_context(serve(org, faults=injected))
            variables = {
                "SF_INSTANCE_URL": server.url,
                "SF_CONSUMER_KEY": "app",
                "SF_CONSUMER_SECRET": "secret",
                "SF_READ_TIMEOUT_SECONDS": "0.5",
                # Small, so that few rows already need every kind of paging.
                "SF_PAGE_SIZE": "20",
            }
            for name, value in (variables | settings).items():
                monkeypatch.setenv(name, value)
            return server

        yield start
        close_orgs()


def plan_of(
    mode: Mode,
    start: datetime | None = None,
    end: datetime = NOW,
    streams: tuple[str, ...] = STREAMS,
    **params: Any,
) -> Plan:
    window = Window(start=start, end=end)
    return Plan(
        BatchMetadata(
            batch_id="b",
            source="salesforce",
            mode=mode,
            connection="default",
            windows=dict.fromkeys(streams, window),
            params=params,
            worker_queue="q",
            started=NOW,
        )
    )


def jobs_of(mode: Mode = "full", **more: Any) -> list[ETLInput]:
    plan = plan_of(mode, **more)
    return list(expand_backlog(plan, describe_backlog(plan)))


@dataclass
class Read:
    """What came of reading: rows by key, and how."""

    events: dict[str, Event] = field(default_factory=dict)
    identities: dict[tuple[str, str], Identity] = field(default_factory=dict)
    records: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)
    cursors: list[Any] = field(default_factory=list)
    interruptions: list[RetryableError] = field(default_factory=list)

    def add(self, job: ETLInput, page: Page) -> None:
        strategies = resolve(job.source, job.stream)
        query = SalesforceQuery.from_dict(job.params)
        context = TransformContext(job=job, query=query, identities={})
        for record in page.records:
            self.records[record.key] += 1
            try:
                rows = list(strategies.transform(record, context))
            except RecordError as error:
                self.rejects.append(reject_of(record, str(error)))
                continue
            for row in rows:
                if isinstance(row, Event):
                    self.events[row.event_id] = row
                elif isinstance(row, Identity):
                    self.identities[row.source_kind_id, row.person] = row
        self.rejects += page.rejects
        self.cursors.append(json.loads(json.dumps(page.cursor)))

    @property
    def types(self) -> Counter[str]:
        return Counter(event.event_type for event in self.events.values())


@asynccontextmanager
async def pages_of(job: ETLInput, cursor: Any = None) -> AsyncIterator[Any]:
    query = SalesforceQuery.from_dict(job.params)
    extract = resolve(job.source, job.stream).extract
    pages = extract(PageRequest(job=job, query=query, cursor=cursor))
    async with contextlib.aclosing(pages):
        yield pages


async def read(jobs: list[ETLInput], *, patience: int = 60) -> Read:
    """Read jobs to their end, going on from the last cursor as the platform does."""
    found = Read()
    for job in jobs:
        cursor: Any = None
        while True:
            try:
                async with pages_of(job, cursor) as pages:
                    async for page in pages:
                        found.add(job, page)
                        cursor = found.cursors[-1]
                break
            except RetryableError as error:
                found.interruptions.append(error)
                if len(found.interruptions) > patience:
                    raise
    return found


def replayed(job: ETLInput, payload: Any, **identities: str) -> list[Any]:
    """Return what the transform makes of a payload, or of a record."""
    query = SalesforceQuery.from_dict(job.params)
    context = TransformContext(job=job, query=query, identities=identities)
    return list(resolve(job.source, job.stream).transform(payload, context))


def holds(found: Read, org: Org) -> bool:
    """Whether exactly the events there are were found."""
    counted = truth(org)
    events = counted.pop("events")
    counted.pop("employees", None)
    return len(found.events) == events and dict(found.types) == counted
