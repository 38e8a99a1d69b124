"""`ai_agent`: what a model answers is bound, counted, and never taken for what it is not."""

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from temporaletl.errors import ETLError, RetryableError
from temporaletl.secrets import REDACTED
from temporaletl.temporal.attempts import message_of
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.model_tokens import TokenBudgetError, reserve_tokens, settle_tokens
from temporaletl.warehouse.pipeline_nodes import NodeRecord, read_nodes
from temporaletl.warehouse.pipeline_results import read_result
from temporaletl.worker.pipelines.activities import services_of
from temporaletl.worker.pipelines.executions import enter
from temporaletl.worker.pipelines.messages import (
    ExecutionInput,
    FailRequest,
    NodeError,
    NodeRequest,
)
from temporaletl.worker.pipelines.runner import NodeRunner
from tests.fakes.openai import serve
from tests.fakes.server import FakeServer
from tests.integration.pipelines.conftest import Pipelines, definition
from tests.integration.pipelines.site import Site
from tests.integration.warehouse.batches import rows

KEY = "sk-not-to-be-seen-anywhere"
#: What a model is asked about, which no error tells.
PRIVATE = "Ms Private owes 42 dollars for a refund"
EXTRACT: dict[str, Any] = {
    "agent_type": "extract",
    "output_schema": {
        "type": "object",
        "properties": {"who": {"type": "string"}, "owes": {"$ref": "#/$defs/amount"}},
        "required": ["who", "owes"],
        "additionalProperties": False,
        "$defs": {"amount": {"type": "number", "minimum": 0}},
    },
    "input": "{{ trigger }}",
}


@pytest.fixture
def model(site: Site, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """An endpoint of a model; to be asked for before `pipelines`."""
    with serve(["fake-1", "fake-2"], key=KEY) as server:
        server.faults.retry_after = timedelta(0)
        monkeypatch.setenv("PIPELINE_ALLOWED_PORTS", f"{server.port},{site.server.port}")
        monkeypatch.setenv("PIPELINE_MODEL_URL", f"{server.url}/v1")
        monkeypatch.setenv("PIPELINE_MODEL_KEY", KEY)
        monkeypatch.setenv("PIPELINE_MODEL", "fake-1")
        yield server


class Asked:
    """A node that was run until it completed or failed for good, and what was recorded of it."""

    def __init__(self, warehouse: Warehouse) -> None:
        self.warehouse = warehouse
        self.runner = NodeRunner(services_of(warehouse))
        self.execution_id = uuid.uuid4().hex
        self.error: ETLError | None = None

    async def run(self, most_attempts: int = 2, **data: Any) -> "Asked":
        document = definition({"ask": ("ai_agent", data)})
        request = ExecutionInput(definition=document, input=PRIVATE)
        enter(self.warehouse, request, execution_id=self.execution_id, started_how="api")
        for attempt in range(1, most_attempts + 1):
            try:
                await self.runner.run(NodeRequest(execution_id=self.execution_id, node="ask"))
            except ETLError as error:
                if isinstance(error, RetryableError) and attempt < most_attempts:
                    continue
                self.error = error
                told = NodeError(type=type(error).__name__, message=message_of(error), node="ask")
                await self.runner.fail(
                    FailRequest(
                        execution_id=self.execution_id, node="ask", state="failed", error=told
                    )
                )
            break
        return self

    @property
    def record(self) -> NodeRecord:
        [record] = read_nodes(self.warehouse, self.execution_id)
        return record

    @property
    def details(self) -> dict[str, Any]:
        return self.record.details or {}

    @property
    def result(self) -> Any:
        return read_result(self.warehouse, self.execution_id, "ask")


@pytest.fixture
def node(model: FakeServer, warehouse: Warehouse) -> Asked:  # noqa: ARG001 - of the settings
    return Asked(warehouse)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"agent_type": "generate", "instructions": "Write to {{ trigger[:10] }}."}, "characters"),
        ({"agent_type": "summarise"}, "characters"),
        ({"agent_type": "classify", "labels": ["praise", "refund"]}, "refund"),
        ({"agent_type": "judge", "instructions": "Is it polite?"}, {"passes": True}),
        (EXTRACT, {"owes": 42}),
    ],
    ids=lambda value: value.get("agent_type", "") if isinstance(value, dict) else "",
)
async def test_an_agent_of_each_type_gives_its_result(
    model: FakeServer, node: Asked, data: dict[str, Any], expected: Any
) -> None:
    await node.run(**data)

    if isinstance(expected, dict):
        assert {**node.result, **expected} == node.result
    else:
        assert expected in node.result
    details = node.details
    assert (details["model"], details["calls"]) == ("fake-1-2026-11", 1)
    assert details["prompt_tokens"] > details["completion_tokens"] > 0 == details["reserved_tokens"]
    [exchange] = model.traffic.requested("/chat")
    system, user = exchange.request.json()["messages"]
    assert PRIVATE in user["content"]
    assert PRIVATE not in system["content"]
    assert exchange.request.headers["idempotency-key"] == f"{node.execution_id}/ask"


@pytest.mark.parametrize(
    "fault",
    [
        *("429", "500", "503", "malformed", "wrong-type", "html", "empty-body", "empty-object"),
        *("no-choices", "empty", "tool-call", "cut", "reset", "cut-gzip"),
    ],
)
async def test_a_fault_that_passes_is_retried(model: FakeServer, node: Asked, fault: str) -> None:
    model.faults.add(f"{fault}:1:1")

    await node.run(**EXTRACT)

    assert node.result["owes"] == 42
    assert node.record.attempts == model.traffic.count("/chat") == 2


@pytest.mark.parametrize("fault", ["unfit", "no-json", "echo"])
async def test_an_answer_that_does_not_fit_is_corrected_once(
    model: FakeServer, node: Asked, fault: str
) -> None:
    model.faults.add(f"{fault}:1:1")

    await node.run(**EXTRACT)

    assert node.result["owes"] == 42
    assert (node.record.attempts, node.details["calls"]) == (1, 2)
    first, second = (one.request for one in model.traffic.requested("/chat"))
    assert "That does not fit the schema" in second.json()["messages"][-1]["content"]
    assert second.headers["idempotency-key"] != first.headers["idempotency-key"]


@pytest.mark.parametrize("fault", ["fenced", "no-usage", "negative-usage", "bom"])
async def test_a_peculiar_answer_is_an_answer(model: FakeServer, node: Asked, fault: str) -> None:
    model.faults.add(f"{fault}:1")

    await node.run(**EXTRACT)

    assert node.result["owes"] == 42
    assert node.details["prompt_tokens"] > 0


@pytest.mark.parametrize(
    ("fault", "error", "words", "requests"),
    [
        ("unfit", "UnfitAnswerError", "of the schema", 2),
        ("no-json", "UnfitAnswerError", "which is no JSON", 2),
        ("refusal", "ModelRefusedError", "fake-1-2026-11 refused", 1),
        ("length", "CutAnswerError", "cut at 1,000 tokens", 1),
        ("filter", "FilteredAnswerError", "withheld its answer", 1),
        ("filtered-question", "FilteredAnswerError", "filter refused", 1),
        ("tool-call", "MalformedAnswerError", "ended with tool_calls", 2),
        ("empty", "EmptyAnswerError", "answered nothing", 2),
        ("500", "SourceUnavailableError", "HTTP 500: server_error", 2),
        ("429-huge", "PermanentError", "longer than an hour", 1),
        ("huge", "OversizedAnswerError", "PIPELINE_RESPONSE_MB", 1),
    ],
)
async def test_what_is_no_answer_is_an_error_of_its_own_that_quotes_nothing(
    model: FakeServer, node: Asked, fault: str, error: str, words: str, requests: int
) -> None:
    model.faults.add(f"{fault}:1")

    await node.run(**EXTRACT)

    assert type(node.error).__name__ == error
    assert words in str(node.error)
    assert not any(secret in str(node.error) for secret in ("Private", "42 dollars", KEY))
    assert model.traffic.count("/chat") == requests
    # Of an answer that was not read, nobody knows what it took.
    assert (node.details["reserved_tokens"] > 1_000) == (fault == "huge")


@pytest.mark.parametrize(
    ("setting", "value", "words"),
    [
        ("PIPELINE_MODEL_KEY", "another-key", "HTTP 401: invalid_api_key"),
        ("PIPELINE_MODEL", "none-such", "HTTP 404: model_not_found"),
        ("PIPELINE_MODEL", "", "set PIPELINE_MODEL,"),
        ("PIPELINE_MODEL_URL", "", "set PIPELINE_MODEL_URL,"),
        ("PIPELINE_MODEL_URL", "https://169.254.169.254/v1", "169.254.169.254"),
        ("PIPELINE_ALLOWED_HOSTS", "example.com", "is not in PIPELINE_ALLOWED_HOSTS"),
        ("PIPELINE_MODEL_CALL_TOKENS", "1000", "PIPELINE_MODEL_CALL_TOKENS = 1,000: give it less"),
    ],
)
async def test_a_call_that_settings_do_not_allow_takes_no_tokens(
    model: FakeServer,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
    setting: str,
    value: str,
    words: str,
) -> None:
    monkeypatch.setenv(setting, value)

    node = await Asked(warehouse).run(most_attempts=1, **EXTRACT)

    assert words in str(node.error)
    assert rows(warehouse, "SELECT coalesce(sum(tokens), 0)::int FROM pipeline_token_days") == [
        (0,)
    ]
    assert model.traffic.count("/chat", status=200) == 0


async def test_an_answer_that_drips_ends_in_time_and_stays_counted(
    model: FakeServer, node: Asked
) -> None:
    model.faults.add("slow:1")

    await node.run(most_attempts=1, **EXTRACT, timeout_seconds=0.5)

    assert "no whole answer within 0.5 s" in str(node.error)
    assert node.details["reserved_tokens"] > 1_000


async def test_a_secret_that_a_model_repeats_is_in_no_result(
    model: FakeServer, node: Asked
) -> None:
    model.faults.add("echo:1")

    await node.run(agent_type="summarise", model="fake-2")

    assert KEY not in node.result
    assert REDACTED in node.result
    assert node.details["model"] == "fake-2-2026-11"


async def test_items_of_a_map_are_asked_about_and_counted_together(
    model: FakeServer, pipelines: Pipelines
) -> None:
    model.faults.add("refusal:1:1")
    each = {"agent_type": "classify", "labels": ["praise", "refund"]}
    data = {"over": "trigger", "type": "ai_agent", "data": each, "concurrency": 1}

    summary = await pipelines.run(
        definition({"each": ("map", data)}), ["a refund", "a refund please", "much praise"]
    )

    assert pipelines.result(summary, "each") == [None, "refund", "praise"]
    details = pipelines.nodes(summary)["each"].details or {}
    assert details["errors"] == [{"item": 0, "message": "fake-1-2026-11 refused to answer"}]
    assert (details["items"], details["failed"], details["calls"]) == (3, 1, 3)
    assert details["prompt_tokens"] > 0


@pytest.fixture
def budget(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A budget of tokens that is enough for one call."""
    monkeypatch.setenv(request.param, "1400")
    return str(request.param)


@pytest.mark.parametrize(
    "budget", ["PIPELINE_MODEL_EXECUTION_TOKENS", "PIPELINE_MODEL_DAY_TOKENS"], indirect=True
)
async def test_of_items_that_come_at_once_one_gets_the_last_of_a_budget(
    model: FakeServer, budget: str, pipelines: Pipelines
) -> None:
    model.latency_seconds = 0.5  # the first is under way when the others come
    each = {"agent_type": "summarise", "max_tokens": 1_000}
    data = {"over": "trigger", "type": "ai_agent", "data": each, "chunk_items": 1}

    summary = await pipelines.run(definition({"each": ("map", data)}), [PRIVATE] * 3)

    details = pipelines.nodes(summary)["each"].details or {}
    assert (details["failed"], details["calls"], details["reserved_tokens"]) == (2, 1, 0)
    assert all(f"{budget} = 1,400 has no" in one["message"] for one in details["errors"])
    assert model.traffic.count("/chat") == 1


def test_budgets_are_shared_by_all_who_reserve_at_once(warehouse: Warehouse) -> None:
    document = definition({"ask": ("ai_agent", {"agent_type": "summarise"})})
    for name in ("a", "b"):
        request = ExecutionInput(definition=document)
        enter(warehouse, request, execution_id=name, started_how="api")

    def reserve(number: int) -> int:
        try:
            reserved = reserve_tokens(
                warehouse,
                "ab"[number % 2],
                "ask",
                10,
                most_of_execution=100,
                most_of_day=150,
            )
        except TokenBudgetError:
            return 0
        if number % 3 == 0:
            settle_tokens(warehouse, reserved, model="m", prompt_tokens=3, completion_tokens=4)
            return 7
        return 10

    with ThreadPoolExecutor(8) as threads:
        taken = sum(threads.map(reserve, range(60)))

    day = "SELECT sum(tokens)::int FROM pipeline_token_days"
    use = "SELECT sum(prompt_tokens + completion_tokens + reserved_tokens)::int"
    assert rows(warehouse, day) == rows(warehouse, f"{use} FROM pipeline_model_use") == [(taken,)]
    # Full, but for what was given back when nobody wanted it any more.
    assert 110 < taken <= 150
