"""What the recorded histories show: one run of a batch each, on real servers."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest
from temporalio.client import WorkflowHandle

from temporaletl import names
from temporaletl.messages import QueuerInput
from temporaletl.warehouse.pipeline_decisions import record_decision
from temporaletl.worker.pipelines.messages import Decision, ExecutionInput, ExecutionStatus
from tests.integration.flows.numbers import outages
from tests.integration.flows.services import Services
from tests.waiting import until

QUEUER, DISPATCH, ETL = names.QUEUER_FLOW, names.DISPATCH_FLOW, names.ETL_FLOW
PIPELINE = names.PIPELINE_FLOW
OUTAGE = "recorded"
#: Where the workflows of today have the bounds that scenarios and histories of releases name.
BOUNDS = {
    "JOBS_PER_RUN": "temporaletl.queuer.dispatch.JOBS_PER_RUN",
    "_JOBS_PER_DISPATCHER": "temporaletl.queuer.flow._JOBS_PER_DISPATCHER",
    "NODES_PER_RUN": "temporaletl.worker.pipelines.interpreter.NODES_PER_RUN",
    "SEGMENTS_PER_RUN": "temporaletl.worker.flow.SEGMENTS_PER_RUN",
}

_until = partial(until, within_seconds=120)

type Batch = WorkflowHandle[Any, Any]


def set_bounds(bounds: Mapping[str, int], patch: pytest.MonkeyPatch) -> None:
    """Give the workflows the bounds of a scenario, until the test ends."""
    for name, value in bounds.items():
        patch.setattr(BOUNDS[name], value)


async def _nothing(_services: Services, _batch: Batch) -> None: ...


@dataclass(frozen=True)
class Scenario:
    """A batch of numbers, what is done to it while it runs, and whose histories are kept."""

    name: str
    params: Mapping[str, Any]
    keeps: tuple[str, ...] = (QUEUER, DISPATCH, ETL)
    act: Callable[[Services, Batch], Awaitable[None]] = _nothing
    mode: str = "full"
    attempts: int = 5
    #: Settings of the worker.
    worker: Mapping[str, Any] = field(default_factory=dict)
    #: The bounds that the workflows had when they were recorded, where not their own: see BOUNDS.
    bounds: Mapping[str, int] = field(default_factory=dict)
    #: Of a pipeline, in place of a batch.
    definition: Mapping[str, Any] | None = None

    @property
    def root(self) -> str:
        """The workflow that is started; the others are its children."""
        return QUEUER if self.definition is None else PIPELINE

    async def start(self, services: Services) -> Batch:
        """Start what is recorded."""
        if self.definition is None:
            return await services.start(request(self))
        return await services.client.start_workflow(
            PIPELINE,
            ExecutionInput(definition=dict(self.definition), input={"n": 3, "of": [1, 2, 3]}),
            id=f"pipeline-{self.name}",
            task_queue=f"{services.queue}-etl",
        )


def _signals(*signals: str) -> Callable[[Services, Batch], Awaitable[None]]:
    async def act(services: Services, batch: Batch) -> None:
        await _until(lambda: _pages(services) > 0)
        for signal in signals:
            await batch.signal(signal)
            if signal == names.PAUSE:
                await _until(lambda: _is_quiet(services))

    return act


async def _pause_and_resume_by_update(services: Services, batch: Batch) -> None:
    await _until(lambda: _pages(services) > 0)
    await batch.execute_update(names.PAUSE)

    async def paused() -> bool:
        return str((await batch.query(names.STATUS))["state"]) == "paused"

    await _until(paused)
    await batch.execute_update(names.RESUME)


async def _cancel_by_update(services: Services, batch: Batch) -> None:
    await _until(lambda: _pages(services) > 0)
    await batch.execute_update(names.CANCEL)


async def _cancel_from_outside(services: Services, batch: Batch) -> None:
    await _until(lambda: _pages(services) > 0)
    await batch.cancel()


async def _cancel_the_planning(_services: Services, batch: Batch) -> None:
    await _until(lambda: _plans(batch))
    await batch.signal(names.CANCEL)


async def _cancel_the_planning_from_outside(_services: Services, batch: Batch) -> None:
    await _until(lambda: _plans(batch))
    await batch.cancel()


async def _pause_the_planning(_services: Services, batch: Batch) -> None:
    await _until(lambda: _plans(batch))
    await batch.signal(names.PAUSE)

    async def planned() -> bool:
        return (await batch.query(names.STATUS))["jobs"] is not None

    await _until(planned)
    await batch.signal(names.RESUME)


async def _pause_in_an_outage(services: Services, batch: Batch) -> None:
    outages.add(OUTAGE)
    try:
        await _until(lambda: _waits_for_its_next_attempt(services))
        await batch.signal(names.PAUSE)
        await _until(lambda: _is_quiet(services))
    finally:
        outages.discard(OUTAGE)
    await batch.signal(names.RESUME)


async def _waits(_services: Services, execution: Batch) -> ExecutionStatus:
    """Wait until the node `wait` of an execution waits."""
    found: ExecutionStatus | None = None

    async def waits() -> bool:
        nonlocal found
        found = await execution.query(names.GET_STATUS, result_type=ExecutionStatus)
        [(rows,)] = _services.rows("SELECT count(*) FROM pipeline_nodes WHERE wait IS NOT NULL")
        return found.nodes.get("wait") == "running" and bool(rows)

    await _until(waits)
    assert found is not None
    return found


async def _approve(services: Services, execution: Batch) -> None:
    status = await _waits(services, execution)
    record_decision(services.warehouse, status.execution_id or "", "wait", "approved", by="who")
    await execution.signal(names.DECIDE, Decision(node="wait", outcome="approved"))


async def _pause_and_resume_nodes(services: Services, execution: Batch) -> None:
    await _waits(services, execution)
    await execution.execute_update(names.PAUSE)
    await execution.signal(names.RESUME)


async def _cancel_nodes(services: Services, execution: Batch) -> None:
    await _waits(services, execution)
    await execution.signal(names.CANCEL_WORKFLOW)


async def _cancel_nodes_from_outside(services: Services, execution: Batch) -> None:
    await _waits(services, execution)
    await execution.cancel()


def _pages(services: Services) -> int:
    [(pages,)] = services.rows("SELECT coalesce(sum(pages), 0)::int FROM etl_jobs")
    return int(pages)


async def _plans(batch: Batch) -> bool:
    pending = (await batch.describe()).raw_description.pending_activities
    return any(one.activity_type.name == names.EXPAND_JOBS for one in pending)


async def _pending(services: Services) -> list[Any]:
    found = services.rows("SELECT job_id FROM etl_jobs WHERE state = 'running' LIMIT 1")
    if not found:
        return []
    job = services.client.get_workflow_handle(names.job_workflow_id(str(found[0][0])))
    return list((await job.describe()).raw_description.pending_activities)


async def _is_quiet(services: Services) -> bool:
    return not await _pending(services)


async def _waits_for_its_next_attempt(services: Services) -> bool:
    return any(one.attempt > 1 for one in await _pending(services))


def request(scenario: Scenario) -> QueuerInput:
    return QueuerInput.model_validate(
        {"source": "numbers", "mode": scenario.mode, "params": scenario.params}
    )


def _graph(*edges: str, **nodes: Any) -> dict[str, Any]:
    """A definition: nodes with type and data by id; edges as `a b` or `a b handle`."""
    parts = [
        dict(zip(("source", "target", "sourceHandle"), one.split(), strict=False)) for one in edges
    ]
    listed = [{"id": node, "type": kind, "data": data} for node, (kind, data) in nodes.items()]
    return {"nodes": listed, "edges": parts}


def _made(**fields: str) -> tuple[str, dict[str, Any]]:
    return "transform", {"transform_type": "mapping", "mapping": fields}


def _waiting(seconds: float = 60) -> dict[str, Any]:
    return _graph(
        *("first wait", "wait last"),
        first=_made(n="trigger.n"),
        wait=("delay", {"seconds": seconds}),
        last=_made(n="inputs.n"),
    )


_ROWS = {"table": "recorded", "key": ["id"], "columns": {"id": "integer"}}
_BRANCHES = _graph(
    *("odd which true", "odd never false", "which sent default", "sent told error", "told after"),
    odd=("condition", {"condition": "inputs.n % 2 == 1"}),
    never=_made(n="0"),
    which=("switch", {"cases": [{"name": "big", "when": "inputs.n > 9"}]}),
    sent=("api_call", {"url": "http://192.0.2.1/"}),
    told=_made(why="inputs.type"),
    after=("delay", {"seconds": 1}),
)
_LISTS = _graph(
    *("each loaded", "loaded last"),
    each=(
        "map",
        {
            "over": "trigger.of",
            "type": "transform",
            "data": {"transform_type": "mapping", "mapping": {"id": "item"}},
            "chunk_items": 1,
        },
    ),
    loaded=("load", {**_ROWS, "rows": "each"}),
    last=_made(rows="inputs.inserted"),
)
_SLOW = {"jobs": 1, "pages": 40, "size": 5, "page_seconds": 0.05}

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("completed", {"jobs": 2, "pages": 3, "size": 5}, mode="incremental"),
        Scenario("failed-job", {"jobs": 3, "size": 5, "poisoned": 1}),
        Scenario("planning-failure", {"jobs": -1}, keeps=(QUEUER,)),
        Scenario("paused-and-resumed", _SLOW, act=_signals(names.PAUSE, names.RESUME)),
        Scenario("cancelled-by-signal", _SLOW, act=_signals(names.CANCEL)),
        Scenario("paused-and-resumed-by-update", _SLOW, act=_pause_and_resume_by_update),
        Scenario("cancelled-by-update", _SLOW, act=_cancel_by_update),
        Scenario("cancelled-from-outside", _SLOW, act=_cancel_from_outside),
        Scenario(
            "paused-while-planning",
            {"jobs": 5, "plan_seconds": 0.1},
            keeps=(QUEUER, DISPATCH),
            act=_pause_the_planning,
        ),
        Scenario(
            "cancelled-while-planning",
            {"jobs": 500, "plan_seconds": 0.1},
            keeps=(QUEUER,),
            act=_cancel_the_planning,
        ),
        Scenario(
            "cancelled-from-outside-while-planning",
            {"jobs": 500, "plan_seconds": 0.1},
            keeps=(QUEUER,),
            act=_cancel_the_planning_from_outside,
        ),
        Scenario(
            "continued-dispatching",
            {"jobs": 7, "size": 1},
            keeps=(QUEUER, DISPATCH),
            bounds={"JOBS_PER_RUN": 3},
        ),
        Scenario(
            "several-dispatchers",
            {"jobs": 6, "size": 1},
            keeps=(QUEUER, DISPATCH),
            bounds={"_JOBS_PER_DISPATCHER": 2},
        ),
        Scenario(
            "continued-segments",
            {"jobs": 1, "pages": 5, "size": 2, "page_seconds": 0.02},
            keeps=(DISPATCH, ETL),
            worker={"segment_seconds": 0.001, "rows_per_page": 1},
            bounds={"SEGMENTS_PER_RUN": 2},
        ),
        Scenario("retried-segment", {"jobs": 1, "pages": 6, "flaky_page": 3}, keeps=(ETL,)),
        Scenario(
            "paused-in-an-outage",
            {"jobs": 1, "outage": OUTAGE},
            keeps=(ETL,),
            act=_pause_in_an_outage,
            attempts=1_000,
        ),
        Scenario("branches", {}, keeps=(PIPELINE,), definition=_BRANCHES),
        # As `branches`, whose nodes ran one by one: quick ones run with the one before them.
        Scenario("followed-nodes", {}, keeps=(PIPELINE,), definition=_BRANCHES),
        # Its load failed: there was no source of pipelines' rows.
        Scenario("lists", {}, keeps=(PIPELINE,), definition=_LISTS),
        Scenario("loaded-lists", {}, keeps=(PIPELINE,), definition=_LISTS),
        Scenario(
            "approved",
            {},
            keeps=(PIPELINE,),
            act=_approve,
            definition=_graph(
                "wait last approved", wait=("approval", {"title": "?"}), last=_made(by="inputs.by")
            ),
        ),
        Scenario(
            "paused-nodes",
            {},
            keeps=(PIPELINE,),
            act=_pause_and_resume_nodes,
            definition=_waiting(seconds=2),
        ),
        Scenario(
            "cancelled-nodes", {}, keeps=(PIPELINE,), act=_cancel_nodes, definition=_waiting()
        ),
        Scenario(
            "nodes-cancelled-from-outside",
            {},
            keeps=(PIPELINE,),
            act=_cancel_nodes_from_outside,
            definition=_waiting(),
        ),
        Scenario(
            "timed-out", {}, keeps=(PIPELINE,), definition={**_waiting(), "timeout_seconds": 1}
        ),
        Scenario(
            "continued-nodes",
            {},
            keeps=(PIPELINE,),
            bounds={"NODES_PER_RUN": 1},
            definition=_waiting(seconds=2),
        ),
    )
}
