"""A source of counted numbers, whose every hazard a test can choose by a job's parameters."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from pydantic import JsonValue

from temporaletl import (
    CompleteSet,
    ConfigurationError,
    ETLInput,
    Event,
    Identity,
    NotReadyError,
    Page,
    PageRequest,
    Plan,
    Query,
    RateLimitedError,
    RecordError,
    SourceUnavailableError,
    TransformContext,
    extract_method,
    identities_method,
    params_method,
    query_type,
    transform_inputs_method,
    transform_method,
)
from temporaletl.deletions import (
    DeletionScan,
    FindDeleted,
    Items,
    deletion_scan,
    scan_inputs_method,
)
from temporaletl.troubles import one_request
from tests.waiting import until

#: Nobody shall see it.
SECRET = "a-secret-of-numbers"
EPOCH = datetime(2024, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Number:
    job: int
    value: int

    @property
    def key(self) -> str:
        return f"{self.job}:{self.value}"


@query_type("numbers")
class NumbersQuery(Query):
    """`pages` pages of `size` numbers; the hazards depend on job number or value."""

    VERSION: ClassVar[str] = "3"
    SPECIFIC_VERSION: ClassVar[str] = "3.1"

    jobs: int = 1
    job: int = 0
    pages: int = 1
    size: int = 10
    page_seconds: float = 0.0  # how long each page takes to come
    poisoned: int = -1  # the job that cannot be extracted
    flaky_page: int = -1  # the page that fails whenever a segment begins with it, once a job
    bad_every: int = 0  # every so many values cannot be transformed
    missing: int = -1  # the value that the source no longer has
    people: tuple[str, ...] = ()  # who counted the numbers, in turn
    plan_seconds: float = 0.0  # how long each job takes to be planned
    stalled: str = ""  # while `outages` holds this name, no job is planned
    here: tuple[int, ...] = ()  # the jobs whose numbers are still there; a scan looks for others
    scan_fails: bool = False
    complete: bool = False  # pages yield a complete set of their job
    unready: bool = False  # the first look is too early
    least: int = 0  # values below it are left out
    limited: float = 0.0  # the first request of all is refused, for so many seconds
    odd: bool = False  # extraction raises what nobody expects, beside a secret
    outage: str = ""  # while `outages` holds this name, nothing can be extracted
    refusal: str = ""  # while `outages` holds this name, each request is sent again


#: Numbers that cannot be transformed for as long as a test leaves them here.
cursed: set[int] = set()
#: What the source knows of people: their e-mail addresses.
addresses: dict[str, str] = {}
#: Names of outages that last until a test ends them.
outages: set[str] = set()
#: Jobs that cannot be extracted for as long as a test leaves them here.
broken: set[int] = set()
#: Jobs that scans have listed, in order.
scanned: list[int] = []
#: In which runs it has deletion scans.
scans_in: list[FindDeleted] = ["always"]
_failed_once: set[tuple[str, int]] = set()


@params_method(
    "numbers", streams=("all",), overlap=timedelta(0), lag=timedelta(0), filters=("least",)
)
def describe(plan: Plan) -> NumbersQuery:
    return NumbersQuery.from_dict(plan.metadata.params)


@identities_method("numbers")
def people(_plan: Plan) -> Iterator[Identity]:
    for person, address in addresses.items():
        yield Identity(source_kind_id="numbers", person=person, email=address)


@transform_inputs_method("numbers")
async def expand(plan: Plan, backlog: NumbersQuery) -> AsyncGenerator[ETLInput]:
    if backlog.jobs < 0:
        raise ConfigurationError("numbers: jobs must not be negative")
    await until(lambda: backlog.stalled not in outages)
    for job in range(backlog.jobs):
        await asyncio.sleep(backlog.plan_seconds)
        yield plan.job("all", plan.windows["all"], job=job)


@scan_inputs_method("numbers", find_deleted=lambda _stream: scans_in[0])
def scan_inputs(_plan: Plan, backlog: NumbersQuery, _stream: str) -> dict[str, JsonValue] | None:
    return {} if backlog.here else None


@deletion_scan("numbers-all")
def scan(request: PageRequest[NumbersQuery]) -> Iterator[DeletionScan]:
    query = request.query

    def listed(position: JsonValue) -> Iterator[tuple[Collection[str], JsonValue]]:
        if query.scan_fails:
            raise ConfigurationError("the list cannot be had")
        for following, job in enumerate(query.here, 1):
            if following > int(str(position or 0)):
                scanned.append(job)
                yield [str(job)], following

    yield DeletionScan("numbers", Items(), listed)


@extract_method("numbers-all")
async def extract(request: PageRequest[NumbersQuery]) -> AsyncGenerator[Page]:
    query = request.query
    if query.job == query.poisoned:
        raise ConfigurationError(f"job {query.job} is poisoned")
    if query.job in broken:
        raise ConfigurationError(f"job {query.job} is broken")
    if query.odd:
        token = SECRET  # what a traceback with locals would show
        raise KeyError(f"no {token}")
    if query.outage in outages:
        raise SourceUnavailableError("the source is out of order")
    with one_request() as failed:
        while query.refusal in outages:
            failed(SourceUnavailableError("the source refuses connections"))
            await asyncio.sleep(0.01)
    if query.limited and (request.job.batch_id, -1) not in _failed_once:
        _failed_once.add((request.job.batch_id, -1))
        raise RateLimitedError("too many requests", delay=timedelta(seconds=query.limited))
    if query.unready and request.cursor is None:
        yield Page(records=[], cursor=0)
        raise NotReadyError("not ready yet", delay=timedelta(milliseconds=1))
    page = int(str(request.cursor or 0))
    while page < query.pages:
        await asyncio.sleep(query.page_seconds)
        failure = (f"{request.job.batch_id}/{request.job.seq}", page)
        if page == query.flaky_page and failure not in _failed_once:
            _failed_once.add(failure)
            raise SourceUnavailableError("the source broke off")
        first = page * query.size
        values = range(first, first + query.size)
        records = [
            Number(query.job, value)
            for value in values
            if value != query.missing and value >= query.least
        ]
        page += 1
        yield Page(records=records, cursor=page)


@transform_method("numbers")
def transform(
    record: Number | dict[str, int], context: TransformContext[NumbersQuery]
) -> Iterator[Event | CompleteSet]:
    query = context.query
    if isinstance(record, dict):
        record = Number(**record)
    if record.value in cursed:
        raise RecordError(f"{record.value} is cursed")
    if query.bad_every and record.value % query.bad_every == 0:
        raise RecordError(f"{record.value} is a bad number")
    person = query.people[record.value % len(query.people)] if query.people else None
    yield Event(
        event_id=record.key,
        event_type="number_counted",
        event_time_utc=EPOCH + timedelta(seconds=record.value),
        parent_item_id=str(record.job),
        person=person,
        employee_id=context.employee(person),
    )
    if query.complete:
        yield CompleteSet(f"{record.job}:")
