"""What the tests of source `launchpad` share: serving an archive, and reading it as a worker."""

import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from temporaletl import (
    CompleteSet,
    ETLInput,
    Event,
    Json,
    NothingStored,
    Page,
    PageRequest,
    Plan,
    Reject,
    RetryableError,
    Window,
)
from temporaletl.external import http
from temporaletl.external.launchpad.site import close_sites
from temporaletl.messages import BatchMetadata, Mode
from temporaletl.queuer.scans import scan_jobs
from temporaletl.queuer.sources.launchpad.inputs import expand_backlog
from temporaletl.queuer.sources.launchpad.params import describe_backlog
from temporaletl.rows import ScanItems
from temporaletl.strategies import resolve, transformers
from temporaletl.testing.scans import MemoryScan
from temporaletl.transformation import TransformContext
from temporaletl.worker.scanning import scanning
from temporaletl.worker.sources.launchpad import bugs, proposals, questions
from temporaletl.worker.sources.launchpad.extract import bugs as extract_bugs
from temporaletl.worker.sources.launchpad.extract import deletions as extract_deletions
from temporaletl.worker.sources.launchpad.extract import merge_proposals as extract_merge_proposals
from temporaletl.worker.sources.launchpad.extract import questions as extract_questions
from temporaletl.worker.sources.launchpad.query import LaunchpadQuery
from tests.fakes.faults import TRANSPORT, Faults
from tests.fakes.launchpad import Archive, serve
from tests.fakes.launchpad.service import OWN_FAULTS
from tests.fakes.server import FakeServer

#: The modules register the strategies under test.
REGISTERED = (
    bugs,
    proposals,
    questions,
    extract_bugs,
    extract_deletions,
    extract_merge_proposals,
    extract_questions,
)
STREAMS = ("bugs", "merge_proposals", "questions")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONG_AGO = datetime(2023, 1, 1, tzinfo=UTC)
TOKEN = {
    "LP_CONSUMER_KEY": "a-consumer",
    "LP_ACCESS_TOKEN_KEY": "a-token-key",
    "LP_ACCESS_TOKEN_SECRET": "a-token-secret",
}
ACCEPTED = ":".join(TOKEN.values())

Serve = Callable[..., FakeServer]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Serve]:
    """Serve an archive, and set the environment so that the source reads it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.01)
    with contextlib.ExitStack() as stack:

        def start(
            archive: Archive,
            *faults: str,
            seed: int = 7,
            service: dict[str, Any] | None = None,
            **settings: str,
        ) -> FakeServer:
            known = {**TRANSPORT, **OWN_FAULTS}
            injected = Faults(faults, known=known, seed=seed, retry_after=timedelta(0))
            server = stack.enter_context(serve(archive, faults=injected, **(service or {})))
            variables = {
                "LP_SERVICE_ROOT": server.url,
                "LP_MEMBERS": " ".join(archive.people),
                "LP_READ_TIMEOUT_SECONDS": "0.5",
                # Jobs that load are what most tests look at.
                "LP_FIND_DELETED": "never",
            }
            for name, value in (variables | settings).items():
                monkeypatch.setenv(name, value)
            return server

        yield start
        close_sites()


def plan_of(stream: str, mode: Mode, start: datetime | None, end: datetime, **params: Any) -> Plan:
    metadata = BatchMetadata(
        batch_id="b",
        source="launchpad",
        mode=mode,
        connection="default",
        windows={stream: Window(start=start, end=end)},
        params=params,
        worker_queue="q",
        started=NOW,
    )
    return Plan(metadata)


async def jobs_of(
    stream: str,
    mode: Mode = "full",
    *,
    start: datetime | None = None,
    end: datetime = NOW,
    **params: Any,
) -> list[ETLInput]:
    plan = plan_of(stream, mode, start, end, **params)
    backlog = describe_backlog(plan)
    return [*expand_backlog(plan, backlog), *scan_jobs(plan, backlog)]


class Stored(NothingStored):
    """These events, and no other rows."""

    def __init__(self, events: Mapping[str, Event]) -> None:
        self._events = events

    def properties(self, event_id: str) -> Mapping[str, Json] | None:
        found = self._events.get(event_id)
        return None if found is None else found.event_properties


@asynccontextmanager
async def pages_of(
    job: ETLInput,
    cursor: Any = None,
    size: int = 20,
    stored: Mapping[str, Event] | None = None,
    scan: MemoryScan | None = None,
) -> AsyncIterator[Any]:
    """The pages of a job, where these events are stored."""
    request = PageRequest(
        job=job,
        query=LaunchpadQuery.from_dict({**job.params, "page_size": size}),
        cursor=cursor,
        stored=Stored({} if stored is None else stored),
    )
    strategies = resolve("launchpad", job.stream)
    if scan is not None:
        strategies = scanning(strategies, job, scan)
    async with contextlib.aclosing(strategies.extract(request)) as pages:
        yield pages


def transformed(job: ETLInput, record: Any) -> list[Any]:
    """What comes of a record: events, and that they are all."""
    context = TransformContext(job=job, query=LaunchpadQuery())
    return list(transformers.get(f"launchpad-{job.stream}").transform(record, context))


def events_in(made: list[Any]) -> dict[str, Event]:
    return {event.event_id: event for event in made if isinstance(event, Event)}


@dataclass
class Read:
    """What came of reading: events by id, and how."""

    events: dict[str, Event] = field(default_factory=dict)
    records: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)
    cursors: list[Any] = field(default_factory=list)
    interruptions: int = 0

    def add(self, job: ETLInput, page: Page) -> None:
        for record in page.records:
            if isinstance(record, ScanItems):
                continue
            if isinstance(record, CompleteSet):
                self.forget(record.prefix, {})
                continue
            self.records[record.key] += 1
            made = transformed(job, record)
            told = events_in(made)
            for whole in made:
                if isinstance(whole, CompleteSet) and job.mode != "backfill":
                    self.forget(whole.prefix, told)
            self.events |= told
        self.rejects += page.rejects
        self.cursors.append(json.loads(json.dumps(page.cursor)))

    def forget(self, prefix: str, told: dict[str, Event]) -> None:
        """Drop what is not told any more, as the loader does."""
        for gone in [id_ for id_ in self.events if id_.startswith(prefix) and id_ not in told]:
            del self.events[gone]


async def read(jobs: list[ETLInput], *, size: int = 20, into: Read | None = None) -> Read:
    """Read jobs to their end, going on from the last cursor as the platform does.

    `into` is what came of reading before.
    """
    found = Read() if into is None else into
    for job in jobs:
        cursor: Any = None
        scan = MemoryScan(lambda: found.events) if job.scan else None
        while True:
            try:
                async with pages_of(job, cursor, size, found.events, scan) as pages:
                    async for page in pages:
                        if scan is not None:
                            scan.take(page)
                        found.add(job, page)
                        cursor = found.cursors[-1]
                break
            except RetryableError:
                found.interruptions += 1
                assert found.interruptions < 30
    return found


def types_of(found: Read) -> Counter[str]:
    return Counter(event.event_type for event in found.events.values())
