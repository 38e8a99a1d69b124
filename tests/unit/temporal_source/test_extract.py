from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import JsonValue
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import ListWorkflowExecutionsResponse

from temporaletl import (
    ConfigurationError,
    NothingStored,
    Page,
    PageRequest,
    SourceProtocolError,
    SourceUnavailableError,
)
from temporaletl.external.temporal import StaleTokenError
from temporaletl.rows import TemporalWorkflow
from temporaletl.worker.sources.temporal import extract as module
from temporaletl.worker.sources.temporal.extract import RUNNING_STALENESS, extract
from temporaletl.worker.sources.temporal.query import TemporalQuery
from temporaletl.worker.sources.temporal.transform import transform
from tests.unit.temporal_source.executions import (
    as_record,
    json_payload,
    make_context,
    make_execution,
    make_job,
)


class FakeStore:
    """Pages of one execution each, their tokens `generation:index`."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.generation = 1
        self.next_token: Callable[[int], bytes] = self._token
        #: Whether the page of that number holds its execution.
        self.holds: Callable[[int], bool] = lambda _number: True
        self.listed: list[str] = []
        self.threads = ThreadPoolExecutor(1)
        #: What a list by run ids finds.
        self.by_id: dict[str, WorkflowExecutionInfo] = {}
        self.token_by_id: Callable[[bytes], bytes] = lambda _token: b""
        #: What is found by the execution itself, where no list has it.
        self.described: dict[str, WorkflowExecutionInfo] = {}

    def _token(self, index: int) -> bytes:
        return f"{self.generation}:{index}".encode() if index < self.pages else b""

    async def page(self, namespace: str, query: str, token: bytes) -> Any:
        assert namespace == "shop"
        self.listed.append(query)
        if query.startswith("RunId IN"):
            found = [each for run_id, each in self.by_id.items() if run_id in query]
            return ListWorkflowExecutionsResponse(
                executions=found, next_page_token=self.token_by_id(token)
            )
        generation, _, index = token.decode().partition(":")
        if token and generation != str(self.generation):
            raise StaleTokenError("stale")
        number = int(index or 0)
        return ListWorkflowExecutionsResponse(
            executions=[make_execution(run_id=f"run-{number}")] if self.holds(number) else [],
            next_page_token=self.next_token(number + 1),
        )

    async def describe(self, namespace: str, workflow_id: str, run_id: str) -> Any:
        assert (namespace, workflow_id) == ("shop", "order-1")
        return self.described.get(run_id)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    fake = FakeStore(pages=4)
    monkeypatch.setattr(module, "visibility", lambda: fake)
    return fake


async def pages_from(
    cursor: JsonValue = None, stored: Sequence[TemporalWorkflow] = (), **params: Any
) -> list[Page]:
    job = make_job(**params)
    query = TemporalQuery.from_dict(job.params)

    class Stored(NothingStored):
        def rows(
            self, wanted: Any, *, equal: Mapping[str, str], behind: Sequence[str] | None, most: int
        ) -> Sequence[Any]:
            assert wanted is TemporalWorkflow
            assert equal == {"namespace": "shop", "status": "RUNNING"}
            keys = [(row.namespace, row.workflow_id, row.run_id) for row in stored]
            first = 0 if behind is None else keys.index(tuple(behind)) + 1  # type: ignore[arg-type]
            return stored[first : first + most]

    request = PageRequest(job=job, query=query, cursor=cursor, stored=Stored())
    return [page async for page in extract(request)]


def runs(pages: Sequence[Page]) -> list[str]:
    return [record["execution"]["runId"] for page in pages for record in page.records]


ALL = ["run-0", "run-1", "run-2", "run-3"]


@pytest.mark.usefixtures("store")
async def test_extraction_goes_on_behind_any_page() -> None:
    pages = await pages_from()
    assert runs(pages) == ALL
    for number, page in enumerate(pages, start=1):
        assert runs(await pages_from(page.cursor)) == ALL[number:]


async def test_a_stale_token_begins_the_window_anew(store: FakeStore) -> None:
    cursor = (await pages_from())[1].cursor
    store.generation = 2
    assert runs(await pages_from(cursor)) == ALL


async def test_a_server_that_never_takes_its_tokens_back_is_an_error(store: FakeStore) -> None:
    cursor = (await pages_from())[1].cursor
    for _ in range(3):
        store.generation += 1
        cursor = (await pages_from(cursor))[1].cursor
    store.generation += 1
    with pytest.raises(SourceProtocolError, match="begun anew 3 times"):
        await pages_from(cursor)


async def test_a_token_refused_midway_is_left_to_a_retry(store: FakeStore) -> None:
    store.next_token = lambda index: f"0:{index}".encode()
    with pytest.raises(StaleTokenError):
        await pages_from()


@pytest.mark.parametrize("period", [1, 3])
async def test_a_repeated_token_is_an_error(store: FakeStore, period: int) -> None:
    store.pages = 1000
    store.next_token = lambda index: f"1:{index % period}".encode()
    with pytest.raises(SourceProtocolError, match="repeats a page token"):
        await pages_from()


async def test_pages_of_nothing_but_tokens_are_given_up(store: FakeStore) -> None:
    store.pages = 2_000
    store.holds = lambda number: number == 0
    with pytest.raises(SourceUnavailableError, match="'shop' does not end"):
        await pages_from()
    assert len(store.listed) < 1_100


async def test_an_empty_page_in_the_middle_is_passed_over(store: FakeStore) -> None:
    store.holds = lambda number: number % 2 == 1
    pages = await pages_from()
    assert runs(pages) == ["run-1", "run-3"]
    assert len(pages) == 2
    assert runs(await pages_from(pages[0].cursor)) == ["run-3"]


async def test_a_look_for_executions_that_finds_only_tokens_is_given_up(
    store: FakeStore,
) -> None:
    store.token_by_id = lambda token: str(int(token or 0) + 1).encode()
    with pytest.raises(SourceUnavailableError, match="does not end"):
        await pages_from(stored=[stored_row("gone")], running=True)
    assert len(store.listed) < 1_100


async def test_a_cursor_of_something_else_is_named(store: FakeStore) -> None:
    with pytest.raises(ConfigurationError, match="is no cursor of source 'temporal'"):
        await pages_from({"offset": 5})
    assert store.listed == []


async def test_running_executions_count_as_known_earlier_than_closed_ones(
    store: FakeStore,
) -> None:
    before = datetime.now(UTC)
    closed, running = await pages_from(), await pages_from(running=True)
    after = datetime.now(UTC)
    assert store.listed[-1] == "ExecutionStatus = 'Running'"
    assert running.pop().records == []
    for page in closed:
        assert page.extracted_at is not None
        assert before <= page.extracted_at <= after
    for page in running:
        assert page.extracted_at is not None
        assert before <= page.extracted_at + RUNNING_STALENESS <= after


async def test_an_execution_that_json_cannot_hold_is_rejected_with_its_bytes(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = make_execution(run_id="broken")
    broken.start_time.seconds = 10**15  # after the year 9999
    good = make_execution(run_id="good")

    async def page(namespace: str, query: str, token: bytes) -> Any:
        del namespace, query, token
        return ListWorkflowExecutionsResponse(executions=[broken, good])

    monkeypatch.setattr(store, "page", page)
    (only,) = await pages_from()
    assert runs([only]) == ["good"]
    (reject,) = only.rejects
    assert (reject.stage, reject.key) == ("extract", "order-1/broken")
    assert reject.payload == broken.SerializeToString()


def stored_row(run_id: str) -> TemporalWorkflow:
    """The row that was loaded while the execution ran."""
    running = WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING
    record = as_record(make_execution(run_id=run_id, status=running, closed=None))
    (row,) = transform(record, make_context())
    assert isinstance(row, TemporalWorkflow)
    return row


async def test_a_repeated_token_is_an_error_where_executions_are_looked_for(
    store: FakeStore,
) -> None:
    store.token_by_id = lambda _token: b"again"
    with pytest.raises(SourceProtocolError, match="repeats a page token"):
        await pages_from(stored=[stored_row("closed")], running=True)


async def test_what_is_stored_as_running_and_listed_no_more_is_looked_for(
    store: FakeStore,
) -> None:
    running = WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING
    store.by_id["closed"] = make_execution(run_id="closed")
    store.described["hidden"] = make_execution(run_id="hidden", status=running, closed=None)
    stored = [stored_row(run_id) for run_id in ("closed", "gone", "hidden", "run-1")]
    pages = await pages_from(stored=stored, running=True)
    (closed, deleted) = pages[-1].records
    assert closed["execution"]["runId"] == "closed"
    assert (deleted.run_id, deleted.status, deleted.raw) == ("gone", "DELETED", stored[1].raw)
    assert list(transform(deleted, make_context())) == [deleted]
    assert pages[-1].note is not None
    assert pages[-1].note.startswith("1 executions that were running are deleted from Temporal")
    assert "'run-1'" not in store.listed[-1]


async def test_the_look_for_what_is_missing_goes_on_behind_any_page(store: FakeStore) -> None:
    stored = [stored_row(f"gone-{number:03}") for number in range(250)]
    pages = await pages_from(stored=stored, running=True)
    assert len(pages) == store.pages + 3
    for number, page in enumerate(pages, start=1):
        rest = await pages_from(page.cursor, stored, running=True)
        assert [len(each.records) for each in rest] == [
            len(each.records) for each in pages[number:]
        ]
    assert pages[-1].note is not None
    assert pages[-1].note.startswith("250 executions")


async def test_executions_with_what_cannot_be_decoded_are_counted(
    store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = make_execution(memo={"a": json_payload("NaN"), "b": json_payload("{")})

    async def page(namespace: str, query: str, token: bytes) -> Any:
        del namespace, query
        following = b"" if token else b"more"
        return ListWorkflowExecutionsResponse(
            executions=[broken, make_execution(run_id="run-2")], next_page_token=following
        )

    monkeypatch.setattr(store, "page", page)
    first, second = await pages_from()
    assert not first.rejects
    assert first.note is not None
    assert first.note.startswith("1 executions have a memo field or a search attribute")
    assert second.note is not None
    assert second.note.startswith("2 executions")
    (rest,) = await pages_from(first.cursor)
    assert rest.note == second.note
