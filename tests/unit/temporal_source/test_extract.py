from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import JsonValue
from temporalio.api.workflowservice.v1 import ListWorkflowExecutionsResponse

from temporaletl import ConfigurationError, Page, PageRequest, SourceProtocolError
from temporaletl.external.temporal import StaleTokenError
from tests.unit.temporal_source.executions import make_execution, make_job
from worker.sources.temporal import extract as module
from worker.sources.temporal.extract import RUNNING_STALENESS, extract
from worker.sources.temporal.query import TemporalQuery


class FakeStore:
    """Pages of one execution each, their tokens `generation:index`."""

    def __init__(self, pages: int) -> None:
        self.pages = pages
        self.generation = 1
        self.next_token: Callable[[int], bytes] = self._token
        self.listed: list[str] = []

    def _token(self, index: int) -> bytes:
        return f"{self.generation}:{index}".encode() if index < self.pages else b""

    async def page(self, namespace: str, query: str, token: bytes) -> Any:
        assert namespace == "shop"
        self.listed.append(query)
        generation, _, index = token.decode().partition(":")
        if token and generation != str(self.generation):
            raise StaleTokenError("stale")
        number = int(index or 0)
        return ListWorkflowExecutionsResponse(
            executions=[make_execution(run_id=f"run-{number}")],
            next_page_token=self.next_token(number + 1),
        )


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeStore:
    fake = FakeStore(pages=4)
    monkeypatch.setattr(module, "visibility", lambda: fake)
    return fake


async def pages_from(cursor: JsonValue = None, **params: Any) -> list[Page]:
    job = make_job(**params)
    query = TemporalQuery.from_dict(job.params)
    return [page async for page in extract(PageRequest(job=job, query=query, cursor=cursor))]


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
