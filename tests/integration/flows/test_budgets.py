"""Requests to one source, counted over all jobs and workers together."""

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest
import pytest_asyncio
from temporalio.client import Client

from temporaletl import (
    ETLInput,
    Event,
    NotReadyError,
    Page,
    PageRequest,
    Plan,
    Query,
    RateBudget,
    RateLimitedError,
    TransformContext,
    acquire,
    extract_method,
    params_method,
    query_type,
    rate_budget,
    transform_inputs_method,
    transform_method,
)
from temporaletl.messages import QueuerInput
from temporaletl.warehouse.budget import block_source, remaining_cool_down, reserve_requests
from temporaletl.warehouse.connection import Warehouse
from tests.integration.flows.numbers import EPOCH
from tests.integration.flows.services import Services, running
from tests.integration.temporal_server import TemporalServer

RATE = 40.0
#: When each request was made, in monotonic seconds.
asked: list[float] = []
#: Cool-downs of the source, each answered to the next request.
refusals: list[timedelta] = []
#: The looks that job 0 takes before what it asked for is ready.
unready: list[int] = []
#: Where each job waits for the others first.
meetings: list[asyncio.Barrier] = []


@query_type("metered")
class MeteredQuery(Query):
    jobs: int = 1
    job: int = 0
    requests: int = 1
    planned: int = 0


@rate_budget("metered")
def budget() -> RateBudget:
    return RateBudget(RATE)


@params_method("metered", streams=("all",), overlap=timedelta(0), lag=timedelta(0))
def describe(plan: Plan) -> MeteredQuery:
    backlog = MeteredQuery.from_dict(plan.metadata.params)
    for _ in range(backlog.planned):
        acquire()
        asked.append(time.monotonic())
    return backlog


@transform_inputs_method("metered")
def expand(plan: Plan, backlog: MeteredQuery) -> Iterator[ETLInput]:
    for job in range(backlog.jobs):
        yield plan.job("all", plan.windows["all"], job=job)


@extract_method("metered-all")
async def extract(request: PageRequest[MeteredQuery]) -> AsyncGenerator[Page]:
    query: MeteredQuery = request.query
    first = int(str(request.cursor or 0))
    if first == 0 and meetings:
        await meetings[0].wait()
    if query.job == 0 and unready:
        # A page is progress, whatever is on it.
        yield Page(records=[], cursor=first)
        raise NotReadyError("not ready yet", delay=timedelta(seconds=unready.pop()))
    for number in range(first, query.requests):
        await asyncio.to_thread(acquire)
        asked.append(time.monotonic())
        if refusals:
            raise RateLimitedError("too many requests", delay=refusals.pop())
        yield Page(records=[f"{query.job}:{number}"], cursor=number + 1)


@transform_method("metered")
def transform(record: str, _context: TransformContext[MeteredQuery]) -> list[Event]:
    return [Event(event_id=record, event_type="asked", event_time_utc=EPOCH)]


@pytest_asyncio.fixture
async def services(
    temporal_server: TemporalServer, warehouse: Warehouse
) -> AsyncGenerator[Services]:
    """Two queuers and two workers."""
    async with AsyncExitStack() as both:
        first = await both.enter_async_context(running(temporal_server.client, warehouse))
        # Two workers of one process and one queue need a client each.
        client = temporal_server.client
        other = await Client.connect(
            temporal_server.address,
            namespace=client.namespace,
            data_converter=client.data_converter,
        )
        await both.enter_async_context(running(other, warehouse, queue=first.queue))
        yield first


@pytest.fixture(autouse=True)
def _nothing_asked() -> None:
    asked.clear()
    refusals.clear()
    unready.clear()
    meetings.clear()


async def load(services: Services, **params: Any) -> None:
    handle = await services.start(QueuerInput(source="metered", mode="full", params=params))
    summary = await handle.result()
    assert summary.state == "completed"


def most_within(span: float) -> int:
    times = sorted(asked)
    return max(sum(t <= u < t + span for u in times) for t in times)


@pytest.mark.parametrize("planned", [0, 50])
async def test_jobs_of_several_workers_together_keep_to_the_budget(
    services: Services, planned: int
) -> None:
    """What is requested while they are planned counts, too."""
    in_jobs = 150 - planned
    await load(services, jobs=5, requests=in_jobs // 5, planned=planned)

    assert len(asked) == 150
    assert services.rows("SELECT count(*) FROM events") == [(in_jobs,)]
    # Turns are reserved half a second ahead, and a thread may be late by some of them.
    assert most_within(1.0) <= RATE * 1.5
    assert max(asked) - min(asked) >= 150 / RATE - 1


async def test_a_run_is_spread_over_workers_of_which_each_takes_four_of_its_jobs_at_a_time(
    services: Services,
) -> None:
    meetings.append(asyncio.Barrier(5))
    async with asyncio.timeout(120):
        await load(services, jobs=5, requests=1)
    assert services.rows("SELECT count(*) FROM events") == [(5,)]


async def test_one_refusal_keeps_all_workers_away(services: Services) -> None:
    refusals.append(timedelta(seconds=3))
    await load(services, jobs=8, requests=2)

    refused = min(asked)
    assert len(asked) == 17
    # Those under way had their turn reserved already.
    early = [moment for moment in asked if refused + 0.5 < moment < refused + 2.9]
    assert early == []


async def test_a_job_that_waits_for_its_own_keeps_no_other_away(services: Services) -> None:
    unready.extend([1, 6])
    began = time.monotonic()
    await load(services, jobs=4, requests=2)

    assert len(asked) == 8
    assert time.monotonic() - began > 7
    # The requests of the three other jobs.
    assert max(sorted(asked)[:6]) - began < 7


async def test_segments_of_a_source_with_a_budget_have_a_task_queue_of_their_own(
    services: Services,
) -> None:
    await load(services)
    [(queue,)] = services.rows("SELECT metadata->>'segment_queue' FROM etl_batches")
    assert queue == f"{services.queue}-etl-metered"


def test_reservations_follow_one_another(warehouse: Warehouse) -> None:
    delays = [reserve_requests(warehouse, "s", "default", 10, 5) for _ in range(4)]
    assert delays[0] < timedelta(seconds=0.1)
    assert all(
        timedelta(seconds=0.3) < later - sooner <= timedelta(seconds=0.5)
        for sooner, later in pairwise(delays)
    )
    assert reserve_requests(warehouse, "s", "another", 10, 5) < timedelta(seconds=0.1)


def test_a_blocked_source_takes_no_reservations_and_has_a_cool_down(warehouse: Warehouse) -> None:
    assert remaining_cool_down(warehouse, "s", "default") is None
    block_source(warehouse, "s", "default", timedelta(minutes=10))
    block_source(warehouse, "s", "default", timedelta(minutes=1))

    remaining = remaining_cool_down(warehouse, "s", "default")

    assert remaining is not None
    assert timedelta(minutes=9) < remaining <= timedelta(minutes=10)
    with pytest.raises(RateLimitedError, match="rate-limited") as refused:
        reserve_requests(warehouse, "s", "default", 10, 5)
    assert refused.value.delay is not None
    assert refused.value.delay > timedelta(minutes=9)
