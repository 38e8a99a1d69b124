"""A batch of thousands of jobs stays small where Temporal keeps it."""

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

import pytest
from google.protobuf.message import Message
from temporalio.api.common.v1 import Payload
from temporalio.client import Client, WorkflowHistory

from temporaletl.messages import QueuerInput
from tests.integration.flows.services import Services

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

_MOST_EVENTS = 10_000
_MOST_BYTES = 256 * 1024
_JOBS, _POISONED = 2_000, 1_234


async def test_two_thousand_jobs_keep_histories_and_payloads_small(services: Services) -> None:
    handle = await services.start(
        QueuerInput(
            source="numbers",
            mode="full",
            params={"jobs": _JOBS, "size": 3, "poisoned": _POISONED},
            max_in_flight=100,
        )
    )
    summary = await handle.result()

    assert (summary.jobs.planned, summary.jobs.completed, summary.jobs.failed) == (
        _JOBS,
        _JOBS - 1,
        1,
    )
    [failure] = summary.failures
    assert failure.error == f"job {_POISONED} is poisoned"
    assert services.rows("SELECT count(*) FROM events") == [((_JOBS - 1) * 3,)]

    histories = [h async for h in histories_of(services.client, services.queue)]
    assert len(histories) >= 1 + 2  # the queuer's and its dispatchers'
    events = max(len(history.events) for history in histories)
    heaviest = max(payload.ByteSize() for history in histories for payload in payloads(history))
    print(f"largest history {events} events, heaviest payload {heaviest} bytes")  # noqa: T201
    assert events <= _MOST_EVENTS
    assert 1_000 < heaviest <= _MOST_BYTES  # the lists of jobs, at least, weigh something


async def histories_of(client: Client, queue: str) -> AsyncIterator[WorkflowHistory]:
    """Every run on the queuer's queue, and the jobs' first hundred."""
    jobs = 0
    async for execution in client.list_workflows():
        if execution.task_queue == f"{queue}-etl":
            jobs += 1
        elif execution.task_queue != queue:
            continue
        if jobs <= 100:
            handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
            yield await handle.fetch_history()


def payloads(history: WorkflowHistory) -> Iterator[Payload]:
    """Every payload anywhere inside a history."""
    pending: list[object] = list(history.events)
    while pending:
        part = pending.pop()
        if isinstance(part, Payload):
            yield part
        elif isinstance(part, Message):
            pending.extend(value for _, value in part.ListFields())
        elif isinstance(part, Mapping):
            pending.extend(part.values())
        elif isinstance(part, Sequence) and not isinstance(part, str | bytes):
            pending.extend(part)
