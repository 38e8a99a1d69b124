"""Executions of every kind in a namespace of a real Temporal server, for source `temporal`."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from temporalio import workflow
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.client import Client, WorkflowHandle
from temporalio.common import SearchAttributeKey, SearchAttributePair, TypedSearchAttributes
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from temporaletl import ConfigurationError, Page, Window
from temporaletl.messages import ETLInput
from temporaletl.rows import TemporalWorkflow
from temporaletl.worker.sources.temporal import extract, query, transform
from tests.integration import job_reading
from tests.integration.job_reading import transformed
from tests.integration.temporal_server import TemporalServer

#: Importing them registers the strategies.
REGISTERED = (extract, transform, query)
PATIENCE = timedelta(seconds=30)

WHEN = SearchAttributeKey.for_datetime("SubjectWhen")
TAGS = SearchAttributeKey.for_keyword_list("SubjectTags")
COUNT = SearchAttributeKey.for_int("SubjectCount")
SHARE = SearchAttributeKey.for_float("SubjectShare")
OPEN = SearchAttributeKey.for_bool("SubjectOpen")
TEAM = SearchAttributeKey.for_keyword("SubjectTeam")
NOTE = SearchAttributeKey.for_text("SubjectNote")

FATES = {
    "complete": "COMPLETED",
    "fail": "FAILED",
    "cancel": "CANCELED",
    "terminate": "TERMINATED",
    "continue": "CONTINUED_AS_NEW",
    "time out": "TIMED_OUT",
    "run": "RUNNING",
}
SUBJECT_ATTRIBUTES = {
    WHEN.name: "2025-01-02T03:04:05Z",
    TAGS.name: ["a", "b"],
    COUNT.name: 7,
    SHARE.name: 0.5,
    OPEN.name: True,
    TEAM.name: "red",
    NOTE.name: "some words",
}
#: Of each fate; one that continues as new leaves a completed run behind, too.
EACH = 5


@workflow.defn(name="SubjectFlow", sandboxed=False)
class SubjectFlow:
    @workflow.run
    async def run(self, fate: str) -> None:
        if fate == "fail":
            raise ApplicationError("as asked", non_retryable=True)
        if fate == "continue":
            workflow.continue_as_new("complete")
        if fate != "complete":
            await workflow.wait_condition(lambda: False)


@dataclass(frozen=True)
class Subjects:
    """A namespace of executions that no longer change."""

    namespace: str
    client: Client
    rows: int
    closed: int


async def until[T](ask: Callable[[], Awaitable[T | None]], what: str) -> T:
    """Ask until there is an answer, for at most `PATIENCE`."""
    refused: Exception | None = None
    try:
        async with asyncio.timeout(PATIENCE.total_seconds()):
            while True:
                try:
                    if (answer := await ask()) is not None:
                        return answer
                except (RPCError, ConfigurationError) as error:
                    refused = error
                await asyncio.sleep(0.05)
    except TimeoutError:
        pytest.fail(f"{what}: not within {PATIENCE}; last refusal: {refused}")


async def start_subjects(client: Client, queue: str) -> None:
    attributes = TypedSearchAttributes(
        [
            SearchAttributePair(WHEN, datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC)),
            SearchAttributePair(TAGS, ["a", "b"]),
            SearchAttributePair(COUNT, 7),
            SearchAttributePair(SHARE, 0.5),
            SearchAttributePair(OPEN, True),
            SearchAttributePair(TEAM, "red"),
            SearchAttributePair(NOTE, "some words"),
        ]
    )
    memo: dict[str, Any] = {
        "json": {"ü": [1, None, "x"]},
        "bytes": b"\x00\xff",
        "null": None,
    }

    async def start(fate: str, number: int) -> WorkflowHandle[Any, Any]:
        return await client.start_workflow(
            "SubjectFlow",
            fate,
            id=f"{fate}-{number}",
            # What shall time out finds no worker.
            task_queue="nobody" if fate == "time out" else queue,
            run_timeout=timedelta(seconds=1) if fate == "time out" else None,
            memo=memo,
            search_attributes=attributes,
        )

    # New search attributes, too, take a moment to be known everywhere.
    await until(lambda: start("run", 0), "the search attributes")
    async with Worker(
        client,
        task_queue=queue,
        workflows=[SubjectFlow],
        workflow_runner=UnsandboxedWorkflowRunner(),
    ):
        for fate in FATES:
            numbers = range(1 if fate == "run" else 0, EACH)
            handles = await asyncio.gather(*(start(fate, number) for number in numbers))
            for handle in handles:
                if fate == "cancel":
                    await handle.cancel()
                elif fate == "terminate":
                    await handle.terminate("as asked")
        await until(lambda: all_ended(client), "the executions' ends")


async def all_ended(client: Client) -> bool | None:
    """Whether all executions have reached their last status, by the visibility store."""
    running = await client.count_workflows("ExecutionStatus = 'Running'")
    everything = await client.count_workflows("")
    return (running.count, everything.count) == (EACH, EACH * (len(FATES) + 1)) or None


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def subjects(shared_temporal: TemporalServer) -> AsyncIterator[Subjects]:
    client = (await shared_temporal.with_namespace()).client
    kinds = IndexedValueType
    await client.operator_service.add_search_attributes(
        AddSearchAttributesRequest(
            namespace=client.namespace,
            search_attributes={
                WHEN.name: kinds.INDEXED_VALUE_TYPE_DATETIME,
                TAGS.name: kinds.INDEXED_VALUE_TYPE_KEYWORD_LIST,
                COUNT.name: kinds.INDEXED_VALUE_TYPE_INT,
                SHARE.name: kinds.INDEXED_VALUE_TYPE_DOUBLE,
                OPEN.name: kinds.INDEXED_VALUE_TYPE_BOOL,
                TEAM.name: kinds.INDEXED_VALUE_TYPE_KEYWORD,
                NOTE.name: kinds.INDEXED_VALUE_TYPE_TEXT,
            },
        )
    )

    await start_subjects(client, f"queue-{uuid.uuid4()}")
    yield Subjects(client.namespace, client, rows=EACH * 8, closed=EACH * 7)


@pytest.fixture(autouse=True)
def source(temporal_server: TemporalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_TEMPORAL_ADDRESS", temporal_server.address)
    monkeypatch.setenv("SOURCE_TEMPORAL_PAGE_SIZE", "3")
    monkeypatch.setenv("SOURCE_TEMPORAL_REQUESTS_PER_SECOND", "80")


def make_job(
    subjects: Subjects, window: Window | None = None, *, running: bool = False
) -> ETLInput:
    return ETLInput(
        batch_id="batch",
        seq=0,
        job_id="job",
        source="temporal",
        stream="workflows",
        mode="incremental",
        window=window or Window(),
        params={"namespace": subjects.namespace, "running": running},
    )


async def pages_of(job: ETLInput, cursor: Any = None) -> list[Page]:
    async with job_reading.pages_of(job, cursor) as pages:
        return [page async for page in pages]


def rows_of(job: ETLInput, *pages: Page) -> list[TemporalWorkflow]:
    assert not any(page.rejects for page in pages)
    rows = [row for page in pages for record in page.records for row in transformed(job, record)]
    assert all(isinstance(row, TemporalWorkflow) for row in rows), rows
    return rows
