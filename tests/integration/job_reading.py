"""Jobs of a source read as the platform reads them: planned, extracted by page, transformed."""

import asyncio
import contextlib
import itertools
import json
import threading
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from temporaletl import (
    CompleteSet,
    ETLInput,
    Event,
    Identity,
    Json,
    NothingStored,
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
from temporaletl.messages import BatchMetadata, Mode
from temporaletl.rows import ScanItems
from temporaletl.strategies import resolve
from temporaletl.testing.scans import MemoryScan
from temporaletl.worker.scanning import scanning
from temporaletl.worker.transforming import reject_of
from tests.fakes.exchange import Request, Response
from tests.fakes.faults import TRANSPORT, Faults
from tests.fakes.server import FakeServer

NOW = datetime(2026, 1, 1, tzinfo=UTC)
#: Sources in whose tests a record may be rejected by its transform; elsewhere that is a fault.
_REJECTING = frozenset({"salesforce", "trino"})
#: Interruptions that end the reading of a job; steps of a bulk query are interrupted one by one.
_MOST_INTERRUPTIONS = 30
_MOST_IN_BULK = 60
#: A read timeout for tests of other things: where a machine is busy, a shorter one would have
#: requests sent twice, which tests count.
NO_TIMEOUT = "600"
#: In which what is given up has ended, though nothing answers.
_AT_ONCE_SECONDS = 60
#: The faults of the transport that take no seconds each: one reading may suffer all of them.
QUICK = tuple(kind for kind in TRANSPORT if kind not in {"hang", "429-date"})


def spread(kinds: Sequence[str], *, each_of_many: float = 0.1) -> list[str]:
    """Faults of these kinds, rare enough for a reading to come to its end."""
    return [f"{kind}:{0.2 if len(kinds) == 1 else each_of_many}" for kind in kinds]


def plan_of(
    source: str,
    streams: Iterable[str],
    mode: Mode = "full",
    *,
    start: datetime | None = None,
    end: datetime = NOW,
    last: Mapping[str, Any] | None = None,
    **params: Any,
) -> Plan:
    """The plan of a run over one window; `last` are the cursors that earlier jobs ended with."""
    metadata = BatchMetadata(
        batch_id="b",
        source=source,
        mode=mode,
        connection="default",
        windows={stream: Window(start=start, end=end) for stream in streams},
        params=params,
        worker_queue="q",
        started=NOW,
    )
    return Plan(metadata, dict(last or {}))


class Stored(NothingStored):
    """The stored rows of a source that has these events, and nothing else."""

    def __init__(self, events: Mapping[str, Event]) -> None:
        self._events = events

    def properties(self, event_id: str) -> Mapping[str, Json] | None:
        event = self._events.get(event_id)
        return None if event is None else event.event_properties


@asynccontextmanager
async def pages_of(
    job: ETLInput,
    cursor: Any = None,
    size: int | None = None,
    *,
    stored: Mapping[str, Event] | None = None,
    scan: MemoryScan | None = None,
) -> AsyncIterator[Any]:
    """The pages of a job from a cursor on; `size` is the page size, `stored` what is loaded."""
    strategies = resolve(job.source, job.stream)
    if scan is not None:
        strategies = scanning(strategies, job, scan)
    paging = {} if size is None else {"page_size": size}
    request = PageRequest(
        job=job,
        query=strategies.query.from_dict({**job.params, **paging}),
        cursor=cursor,
        stored=Stored({} if stored is None else stored),
    )
    async with contextlib.aclosing(strategies.extract(request)) as pages:
        yield pages


def transform_of(job: ETLInput, **identities: str) -> Callable[[Any], list[Any]]:
    """The transform of a job's records, and of rejects' payloads, into rows."""
    strategies = resolve(job.source, job.stream)
    query = strategies.query.from_dict(job.params)
    context = TransformContext(job=job, query=query, identities=identities)
    kinds: tuple[type, ...] = (*strategies.rows, Event, Identity, CompleteSet)

    def transform(record: Any) -> list[Any]:
        rows = list(strategies.transform(record, context))
        assert all(isinstance(row, kinds) for row in rows), rows
        return rows

    return transform


def transformed(job: ETLInput, record: Any, **identities: str) -> list[Any]:
    """The rows of one record, or of a reject's payload."""
    return transform_of(job, **identities)(record)


@dataclass
class Read:
    """The rows that jobs brought, by their keys as tables hold them, and how they came."""

    events: dict[str, Event] = field(default_factory=dict)
    identities: dict[tuple[str, str], Identity] = field(default_factory=dict)
    #: Rows of other classes by stream, and by their keys.
    rows: dict[str, dict[Any, Any]] = field(default_factory=lambda: defaultdict(dict))
    #: How often each record came, by its id or key.
    records: Counter[str] = field(default_factory=Counter)
    rejects: list[Reject] = field(default_factory=list)
    cursors: list[Any] = field(default_factory=list)
    stream_cursors: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))
    notes: list[str] = field(default_factory=list)
    #: Prefixes of the complete sets of events that transforms declared.
    complete: set[str] = field(default_factory=set)
    interruptions: list[RetryableError] = field(default_factory=list)

    def add(self, job: ETLInput, page: Page) -> None:
        """Load a page into these rows."""
        transform = transform_of(job)
        for record in page.records:
            if isinstance(record, ScanItems):
                continue
            if isinstance(record, CompleteSet):
                self._delete(record, {})
                continue
            self.records[str(getattr(record, "id", record.key))] += 1
            try:
                self._load(job, transform(record))
            except RecordError as error:
                if job.source not in _REJECTING:
                    raise
                self.rejects.append(reject_of(record, str(error)))
        self.rejects += page.rejects
        self.notes += [page.note] if page.note else []
        self.cursors.append(json.loads(json.dumps(page.cursor)))
        self.stream_cursors[job.stream].append(self.cursors[-1])

    def _load(self, job: ETLInput, rows: list[Any]) -> None:
        events = {row.event_id: row for row in rows if isinstance(row, Event)}
        for row in rows:
            if isinstance(row, CompleteSet):
                self.complete.add(row.prefix)
                if job.mode != "backfill":
                    self._delete(row, events)
            elif isinstance(row, Identity):
                self.identities[row.source_kind_id, row.person] = row
            elif not isinstance(row, Event):
                key = tuple(getattr(row, name) for name in row.key)
                self.rows[job.stream][key[0] if len(key) == 1 else key] = row
        self.events |= events

    def _delete(self, complete: CompleteSet, events: Mapping[str, Event]) -> None:
        """Delete the stored events of a complete set that are not among these."""
        for id_ in [id_ for id_ in self.events if complete.covers(id_) and id_ not in events]:
            del self.events[id_]

    @property
    def last(self) -> dict[str, Any]:
        """The last cursor of each stream, as the next plan takes it."""
        return {stream: cursors[-1] for stream, cursors in self.stream_cursors.items() if cursors}

    @property
    def numbers(self) -> set[int]:
        """The numbers with which the events' ids end."""
        return {int(event_id.rpartition(":")[2]) for event_id in self.events}

    @property
    def types(self) -> Counter[str]:
        return Counter(event.event_type for event in self.events.values())


async def read(
    jobs: Iterable[ETLInput],
    *,
    size: int | None = None,
    into: Read | None = None,
    cursor: Any = None,
    most_pages: int | None = None,
    patience: int | None = None,
) -> Read:
    """Read jobs to their end, going on from the last cursor as the platform does.

    Begins at `cursor`, and ends a job after `most_pages`. `into` holds what is loaded before; the
    interruption that uses up `patience` is raised.
    """
    found = Read() if into is None else into
    for job in jobs:
        usual = _MOST_IN_BULK if job.source == "salesforce" else _MOST_INTERRUPTIONS
        most = len(found.interruptions) + (usual if patience is None else patience)
        position = cursor
        pages_left = most_pages
        scan = MemoryScan(lambda: found.events) if job.scan else None
        while True:
            try:
                async with pages_of(job, position, size, stored=found.events, scan=scan) as pages:
                    async for page in pages:
                        if scan is not None:
                            scan.take(page)
                        found.add(job, page)
                        position = found.cursors[-1]
                        pages_left = None if pages_left is None else pages_left - 1
                        if pages_left == 0:
                            break
                break
            except RetryableError as error:
                found.interruptions.append(error)
                if len(found.interruptions) >= most:
                    raise
    return found


async def resumed_everywhere(
    job: ETLInput, size: int | None = None
) -> AsyncIterator[tuple[Read, Read]]:
    """What a job's pages brought up to each one, and what a reading from its cursor on brings.

    Both together must be what one reading brings.
    """
    whole = await read([job], size=size, patience=0)
    first = Read()
    async with pages_of(job, None, size) as pages:
        async for page in pages:
            first.add(job, page)
            rest = await read([job], size=size, cursor=first.cursors[-1], patience=0)
            assert first.events | rest.events == whole.events
            assert first.rows[job.stream] | rest.rows[job.stream] == whole.rows[job.stream]
            yield first, rest


async def resumes_everywhere(job: ETLInput, size: int | None = None) -> int:
    """Check that a job can go on from each of its cursors; return how many there are."""
    return len([None async for _ in resumed_everywhere(job, size)])


async def abandon_second_page(
    job: ETLInput, server: FakeServer, ending: str, *, number: int = 1
) -> None:
    """Cancel a job that waits for its second page, while the source does not answer.

    Of the first page, the last answer is the success of this number at paths with this ending.
    """
    faults = server.faults
    corrupt(server, after_success(ending, lambda: faults.add("hang:1"), number=number))
    async with asyncio.timeout(_AT_ONCE_SECONDS), pages_of(job) as pages:
        await anext(pages)
        reading = asyncio.ensure_future(anext(pages))
        while not faults.injected["hang"]:  # noqa: ASYNC110 - a counter, no event
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        assert reading.cancelled()


Serve = Callable[..., FakeServer]


@contextmanager
def serving[D](
    patch: pytest.MonkeyPatch,
    folder: Path,
    serve: Callable[..., FakeServer],
    own_faults: Mapping[str, str],
    variables: Callable[[D, str], Mapping[str, str]],
) -> Iterator[Serve]:
    """Serve data of a fake, and set the environment so that its source reads it.

    `variables` makes the environment of the data and the server's address.
    """
    patch.chdir(folder)
    patch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.001)
    known = {**TRANSPORT, **own_faults}
    with contextlib.ExitStack() as stack:

        def start(
            data: D,
            *faults: str,
            seed: int = 7,
            service: Mapping[str, Any] | None = None,
            **settings: str,
        ) -> FakeServer:
            injected = Faults(faults, known=known, seed=seed, retry_after=timedelta(0))
            server = stack.enter_context(serve(data, faults=injected, **(service or {})))
            for name, value in {**variables(data, server.url), **settings}.items():
                patch.setenv(name, value)
            return server

        yield start


def hold_until_in_flight(
    server: FakeServer, count: int, *, passing: Sequence[str] = ()
) -> threading.Event:
    """Hold answers until so many requests are under way at once, at most 120 seconds in all.

    Requests whose path holds one of `passing` are not held. The event tells whether they were.
    """
    service: Any = server.service
    honest, together, over = service.answer, threading.Event(), threading.Event()

    def answer(request: Request) -> Response:
        if server.traffic.in_flight >= count:
            together.set()
        held = not over.is_set() and not any(part in request.path for part in passing)
        if held and not together.wait(timeout=120):
            over.set()
        response: Response = honest(request)
        return response

    service.answer = answer
    return together


type Change = Callable[[Request, Response], Response]


def corrupt(server: FakeServer, change: Change) -> None:
    """Have every answer changed on its way."""
    service: Any = server.service
    honest = service.answer
    service.answer = lambda request: change(request, honest(request))


def after_success(ending: str, happen: Callable[[], object], *, number: int = 1) -> Change:
    """Have this happen as soon as so many requests of paths with this ending have succeeded.

    No later request is answered before, whatever is read ahead of the page that is awaited.
    """
    successes = itertools.count(1)

    def change(request: Request, answer: Response) -> Response:
        succeeded = request.path.endswith(ending) and answer.status == 200
        if succeeded and next(successes) == number:
            happen()
        return answer

    return change


def in_place_of(ending: str, body: bytes, status: int = 200, *, times: int = 10**9) -> Change:
    """Put this in the place of the first successes at paths with this ending."""
    left = [times]

    def change(request: Request, answer: Response) -> Response:
        if request.path.endswith(ending) and answer.status == 200 and left[0]:
            left[0] -= 1
            return Response(status, body, "application/json")
        return answer

    return change
