"""The source `temporal` against a real server, with executions of every kind."""

import asyncio
import base64
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from temporalio import workflow
from temporalio.api.common.v1 import Payload, WorkflowExecution
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest
from temporalio.api.workflowservice.v1 import (
    DeleteWorkflowExecutionRequest,
    DescribeNamespaceRequest,
    RegisterNamespaceRequest,
)
from temporalio.client import Client, WorkflowHandle
from temporalio.common import (
    RawValue,
    SearchAttributeKey,
    SearchAttributePair,
    TypedSearchAttributes,
)
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from temporaletl import (
    ConfigurationError,
    Page,
    PageRequest,
    Plan,
    SourceUnavailableError,
    Window,
)
from temporaletl.connect import open_client
from temporaletl.connections import DEFAULT
from temporaletl.endpoint import Endpoint
from temporaletl.external.temporal import temporal_account
from temporaletl.messages import BatchMetadata, ETLInput, Mode, QueuerInput
from temporaletl.queuer.sources.temporal.inputs import expand
from temporaletl.queuer.sources.temporal.params import describe
from temporaletl.rows import TemporalWorkflow
from temporaletl.strategies import import_sources
from temporaletl.testing.batch import Batch
from temporaletl.transformation import TransformContext
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate
from temporaletl.worker.loading import JobEvents
from temporaletl.worker.sources.temporal.extract import extract
from temporaletl.worker.sources.temporal.query import TemporalQuery
from temporaletl.worker.sources.temporal.transform import transform
from tests.integration.loading.jobs import Job, counts, fetch
from tests.integration.temporal_server import TemporalServer

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


async def new_namespace(server: TemporalServer) -> Client:
    name = f"source-{uuid.uuid4().hex[:8]}"
    request = RegisterNamespaceRequest(namespace=name)
    request.workflow_execution_retention_period.FromTimedelta(timedelta(days=1))
    await server.client.workflow_service.register_namespace(request)
    # The server's parts learn of a namespace one after the other.
    return await until(
        lambda: open_client(Endpoint(server.address, namespace=name)), "the namespace"
    )


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
        await until(lambda: settled(client), "the executions' ends")


async def settled(client: Client) -> bool | None:
    """Whether all is as it will remain, as far as the visibility store knows."""
    running = await client.count_workflows("ExecutionStatus = 'Running'")
    everything = await client.count_workflows("")
    return (running.count, everything.count) == (EACH, EACH * (len(FATES) + 1)) or None


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def subjects(temporal_server: TemporalServer) -> AsyncIterator[Subjects]:
    client = await new_namespace(temporal_server)
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
    request = PageRequest(job=job, query=TemporalQuery.from_dict(job.params), cursor=cursor)
    return [page async for page in extract(request)]


def rows_of(job: ETLInput, *pages: Page) -> list[TemporalWorkflow]:
    context = TransformContext(job=job, query=TemporalQuery.from_dict(job.params))
    rows = []
    for page in pages:
        assert not page.rejects
        for record in page.records:
            for row in transform(record, context):
                assert isinstance(row, TemporalWorkflow), row
                rows.append(row)
    return rows


def keys_of(rows: list[TemporalWorkflow]) -> list[str]:
    return sorted(row.run_id for row in rows)


async def closed_rows(subjects: Subjects) -> list[TemporalWorkflow]:
    job = make_job(subjects)
    return rows_of(job, *await pages_of(job))


async def test_every_execution_is_listed_once(subjects: Subjects) -> None:
    closed = make_job(subjects)
    running = make_job(subjects, running=True)
    pages = await pages_of(closed)
    rows = rows_of(closed, *pages) + rows_of(running, *await pages_of(running))
    assert max(len(page.records) for page in pages) == 3
    assert len(set(keys_of(rows))) == len(rows) == subjects.rows
    for fate, status in FATES.items():
        expected = {status, "COMPLETED"} if fate == "continue" else {status}
        found = [row for row in rows if row.workflow_id.startswith(f"{fate}-")]
        assert {row.status for row in found} == expected
        assert all((row.close_time is None) == (row.status == "RUNNING") for row in found)


async def test_memo_and_search_attributes_arrive_decoded(subjects: Subjects) -> None:
    for row in await closed_rows(subjects):
        assert row.memo == {
            "json": {"ü": [1, None, "x"]},
            "bytes": {"encoding": "binary/plain", "data": "AP8="},
            "null": None,
        }
        assert {name: row.search_attributes[name] for name in SUBJECT_ATTRIBUTES} == (
            SUBJECT_ATTRIBUTES
        )
        assert row.workflow_type == "SubjectFlow"
        assert row.task_queue == "nobody" or row.task_queue.startswith("queue-")
        assert row.history_length >= 1
        assert row.namespace == subjects.namespace


async def test_extraction_goes_on_behind_any_page(subjects: Subjects) -> None:
    job = make_job(subjects)
    pages = await pages_of(job)
    for number, page in enumerate(pages, start=1):
        rest = await pages_of(job, page.cursor)
        assert keys_of(rows_of(job, *rest)) == keys_of(rows_of(job, *pages[number:]))


async def test_a_window_includes_its_start_and_excludes_its_end(subjects: Subjects) -> None:
    moment = timedelta(microseconds=1)
    for row in (await closed_rows(subjects))[::5]:
        assert row.close_time is not None
        for window, inside in (
            (Window(start=row.close_time, end=row.close_time + moment), True),
            (Window(start=row.close_time, end=row.close_time + timedelta(days=1)), True),
            (Window(start=row.close_time - moment, end=row.close_time), False),
            (Window(end=row.close_time), False),
            (Window(start=row.close_time + moment), False),
        ):
            job = make_job(subjects, window)
            found = keys_of(rows_of(job, *await pages_of(job)))
            assert (row.run_id in found) is inside, window


@pytest.mark.parametrize("token", [b"rubbish", b'{"CloseTime":"never"}'])
async def test_a_token_the_server_does_not_take_begins_the_window_anew(
    subjects: Subjects, token: bytes
) -> None:
    job = make_job(subjects)
    pages = await pages_of(job, {"token": base64.b64encode(token).decode(), "restarts": 0})
    assert len(keys_of(rows_of(job, *pages))) == subjects.closed


def make_plan(subjects: Subjects, mode: Mode, window: Window, **params: Any) -> Plan:
    return Plan(
        BatchMetadata(
            batch_id="batch",
            source="temporal",
            mode=mode,
            connection="default",
            windows={"workflows": window},
            params={"namespaces": [subjects.namespace], **params},
            worker_queue="queue",
            started=datetime.now(UTC),
        )
    )


async def planned(plan: Plan) -> list[ETLInput]:
    return [job async for job in expand(plan, describe(plan))]


@pytest.mark.parametrize("most", [1, 10, 50_000])
async def test_planned_jobs_cover_everything_once(subjects: Subjects, most: int) -> None:
    window = Window(end=datetime.now(UTC) + timedelta(seconds=1))
    jobs = await planned(make_plan(subjects, "full", window, executions_per_job=most))
    rows = [row for job in jobs for row in rows_of(job, *await pages_of(job))]
    assert len(set(keys_of(rows))) == len(rows) == subjects.rows
    assert len(jobs) == 2 if most == 50_000 else len(jobs) > 2


async def both_closed(client: Client) -> bool | None:
    closed = await client.count_workflows("ExecutionStatus != 'Running'")
    return closed.count == 2 or None


async def test_a_memo_of_an_unknown_codec_is_loaded_as_bytes(
    temporal_server: TemporalServer,
) -> None:
    secret = RawValue(Payload(metadata={"encoding": b"binary/encrypted"}, data=b"\x01"))
    client = await new_namespace(temporal_server)
    for name, memo in (("plain", {"note": "words"}), ("secret", {"note": secret})):
        handle = await client.start_workflow("SubjectFlow", id=name, task_queue="nobody", memo=memo)
        await handle.terminate()
    await until(lambda: both_closed(client), "two closed executions")
    job = make_job(Subjects(client.namespace, client, rows=2, closed=2))
    pages = await pages_of(job)
    assert {row.workflow_id: row.memo for row in rows_of(job, *pages)} == {
        "plain": {"note": "words"},
        "secret": {"note": {"encoding": "binary/encrypted", "data": "AQ=="}},
    }
    assert pages[-1].note is not None
    assert pages[-1].note.startswith("1 executions")


async def only_one_listed(client: Client) -> bool | None:
    return (await client.count_workflows("")).count == 1 or None


async def test_an_execution_that_is_deleted_from_temporal_does_not_stay_running(
    temporal_server: TemporalServer, warehouse: Warehouse
) -> None:
    client = await new_namespace(temporal_server)
    for name in ("gone", "stays"):
        await client.start_workflow("SubjectFlow", id=name, task_queue="nobody")
    await until(lambda: two_running(client), "two running executions")
    subjects = Subjects(client.namespace, client, rows=2, closed=0)
    job = make_job(subjects, running=True)

    async def load() -> dict[str, str]:
        """Load the running executions anew, and return all statuses as they are stored."""
        loading = Job(warehouse, source="temporal", stream="workflows", rows=(TemporalWorkflow,))
        loading.loader.prepare()
        stored = JobEvents(warehouse, "temporal", DEFAULT)
        query = TemporalQuery.from_dict(job.params)
        request = PageRequest(job=job, query=query, stored=stored)
        async for page in extract(request):
            loading.load(*rows_of(job, page), at=page.extracted_at)
        with warehouse.connection() as connection:
            found = connection.execute("SELECT workflow_id, status FROM temporal_workflows")
            return {str(id_): str(status) for id_, status in found}

    assert await load() == {"gone": "RUNNING", "stays": "RUNNING"}
    await client.workflow_service.delete_workflow_execution(
        DeleteWorkflowExecutionRequest(
            namespace=client.namespace,
            workflow_execution=WorkflowExecution(workflow_id="gone"),
        )
    )
    await until(lambda: only_one_listed(client), "the deletion")
    assert await load() == {"gone": "DELETED", "stays": "RUNNING"}
    await client.get_workflow_handle("stays").terminate()
    await until(lambda: none_running(client), "the end of the other")
    # Whatever window it has closed in.
    assert await load() == {"gone": "DELETED", "stays": "TERMINATED"}


async def two_running(client: Client) -> bool | None:
    return (await client.count_workflows("ExecutionStatus = 'Running'")).count == 2 or None


async def none_running(client: Client) -> bool | None:
    return (await client.count_workflows("ExecutionStatus = 'Running'")).count == 0 or None


async def test_the_account_is_known_by_its_namespaces(
    subjects: Subjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_TEMPORAL_NAMESPACES", subjects.namespace)
    view = await asyncio.to_thread(temporal_account)
    answer = await subjects.client.workflow_service.describe_namespace(
        DescribeNamespaceRequest(namespace=subjects.namespace)
    )
    assert view.containers == {answer.namespace_info.id}
    monkeypatch.setenv("SOURCE_TEMPORAL_NAMESPACES", "no-such-namespace")
    with pytest.raises(ConfigurationError, match="no-such-namespace"):
        await asyncio.to_thread(temporal_account)


async def test_an_unknown_namespace_is_named(subjects: Subjects) -> None:
    wrong = Subjects("no-such-namespace", subjects.client, rows=0, closed=0)
    with pytest.raises(ConfigurationError, match=r"no-such-namespace.*SOURCE_TEMPORAL_NAMESPACES"):
        await pages_of(make_job(wrong))
    with pytest.raises(ConfigurationError, match="no-such-namespace"):
        await planned(make_plan(wrong, "full", Window(end=datetime.now(UTC))))


async def test_a_source_that_does_not_answer_may_answer_later(
    subjects: Subjects, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_TEMPORAL_ADDRESS", "127.0.0.1:1")
    with pytest.raises(SourceUnavailableError, match=r"127\.0\.0\.1:1 \(SOURCE_TEMPORAL_ADDRESS\)"):
        await pages_of(make_job(subjects))


def test_statuses_that_were_loaded_under_other_names_migrate(warehouse: Warehouse) -> None:
    migrate(warehouse)
    job = Job(warehouse, source="temporal", stream="workflows", rows=(TemporalWorkflow,))
    job.load(*(stored(f"old-{word}", word) for word in ("Running", "TimedOut", "ContinuedAsNew")))
    job.load(stored("new", "TIMED_OUT"), stored("other", "Napping"))
    with warehouse.connection() as connection:
        # Where the table is not there yet, there is nothing to do: the first time showed it.
        connection.execute("DELETE FROM etl_migrations WHERE name LIKE '0006%'")
    migrate(warehouse)
    found = fetch(warehouse, "SELECT workflow_id, status, row_hash FROM temporal_workflows")
    assert {row["workflow_id"]: row["status"] for row in found} == {
        "old-Running": "RUNNING",
        "old-TimedOut": "TIMED_OUT",
        "old-ContinuedAsNew": "CONTINUED_AS_NEW",
        "new": "TIMED_OUT",
        "other": "Napping",
    }
    assert sum(row["row_hash"] is None for row in found) == 3
    # The next load writes those once more, and then no more.
    again = job.load(stored("old-TimedOut", "TIMED_OUT"))
    assert counts(again)[1] == 1
    assert counts(job.load(stored("old-TimedOut", "TIMED_OUT")))[1] == 1


def stored(workflow_id: str, status: str) -> TemporalWorkflow:
    return TemporalWorkflow(
        namespace="shop",
        workflow_id=workflow_id,
        run_id="run",
        workflow_type="SubjectFlow",
        task_queue="queue",
        start_time=datetime(2025, 1, 1, tzinfo=UTC),
        start_time_unix=0.0,
        status=status,
        history_length=1,
    )


async def test_two_namespaces_are_two_connections_and_their_rows_apart(
    subjects: Subjects,
    temporal_server: TemporalServer,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Another namespace, and the same one again under another name."""
    import_sources("temporaletl.queuer.sources")
    import_sources("temporaletl.worker.sources")
    other = await new_namespace(temporal_server)
    for number in range(3):
        id_ = f"run-{number}"
        await other.start_workflow("SubjectFlow", "run", id=id_, task_queue="nobody")
        await other.get_workflow_handle(id_).terminate()

    async def is_listed() -> bool | None:
        return (await other.count_workflows("ExecutionStatus = 'Terminated'")).count == 3 or None

    await until(is_listed, "the terminated executions")
    file = tmp_path / "connections.toml"
    namespaces = {"first": subjects.namespace, "second": other.namespace, "again": other.namespace}
    file.write_text(
        "\n".join(
            f'[{name}]\nsource = "temporal"\nSOURCE_TEMPORAL_REQUESTS_PER_SECOND = 80\n'
            f'SOURCE_TEMPORAL_ADDRESS = "{temporal_server.address}"\n'
            f'SOURCE_TEMPORAL_NAMESPACES = "{namespace}"\nSOURCE_TEMPORAL_LAG_SECONDS = 0\n'
            for name, namespace in namespaces.items()
        )
    )
    monkeypatch.setenv("ETL_CONNECTIONS", str(file))
    nominal = datetime.now(UTC) + timedelta(minutes=1)
    for name in namespaces:
        request = QueuerInput(source="temporal", mode="full", connection=name)
        await Batch(warehouse).run(request, nominal=nominal)
    found = fetch(
        warehouse,
        "SELECT connection, namespace, count(*) AS n, count(DISTINCT run_id) AS runs"
        " FROM temporal_workflows GROUP BY 1, 2",
    )
    assert {(row["connection"], row["namespace"], row["n"]) for row in found} == {
        ("first", subjects.namespace, subjects.rows),
        ("second", other.namespace, 3),
        ("again", other.namespace, 3),
    }
