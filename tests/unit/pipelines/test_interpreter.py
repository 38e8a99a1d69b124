"""The interpreter over small graphs: paused, stopped and continued as new at any moment."""

import asyncio
import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from types import SimpleNamespace
from typing import Any, Literal, get_args

import pytest
from temporalio.exceptions import ApplicationError

from temporaletl import names
from temporaletl.worker.pipelines import interpreter as interpreting
from temporaletl.worker.pipelines.control import Control
from temporaletl.worker.pipelines.flow import WorkflowExecution
from temporaletl.worker.pipelines.graph import Join
from temporaletl.worker.pipelines.interpreter import Interpreter
from temporaletl.worker.pipelines.messages import (
    ExecutionPlan,
    NodeError,
    NodeOutcome,
    PlannedNode,
    Wait,
)
from temporaletl.worker.pipelines.outcomes import value_of_failure
from tests.pipeline_graphs import Drawn, expected, graphs

Way = Literal["through", "paused", "cancelled", "timed_out", "cancelled by Temporal"]
_WAYS: tuple[Way, ...] = get_args(Way)
_JOINS: tuple[Join, ...] = ("any", "all")
#: Turns of the loop until everything waits.
_TO_REST = 12
_ERROR = NodeError(type="X", message="x")


async def _condition(holds: Callable[[], bool], **_: Any) -> None:
    while not holds():  # noqa: ASYNC110 - whoever plays changes what it looks at
        await asyncio.sleep(0)


@pytest.fixture(autouse=True)
def clockless(monkeypatch: pytest.MonkeyPatch) -> None:
    """A workflow's surroundings without Temporal: conditions are looked at again and again."""
    suggested = SimpleNamespace(is_continue_as_new_suggested=lambda: False)
    found = SimpleNamespace(
        info=lambda: suggested,
        wait_condition=_condition,
        now=lambda: datetime.now(UTC),
        patched=lambda _: True,
    )
    monkeypatch.setattr(interpreting, "workflow", found)


class Played:
    """An execution whose activities end when, and as, chance has it."""

    def __init__(self, drawn: Drawn, way: Way, chance: random.Random) -> None:
        self.drawn, self.way, self.chance = drawn, way, chance
        self.joins = {node: chance.choice(_JOINS) for node in drawn.nodes}
        self.failing = {node for node in drawn.nodes if chance.random() < 0.35}
        self.going_on = {node for node in drawn.nodes if chance.random() < 0.5}
        self.waiting = {node for node in drawn.nodes if chance.random() < 0.25}
        self.expected = expected(drawn, self.joins, self.failing, self.going_on)
        self.control = Control()
        self.recorded: dict[str, NodeOutcome] = {}
        self.started: list[str] = []
        self.open: dict[str, asyncio.Future[None]] = {}
        self.runs = 0
        self.task: asyncio.Task[Any] | None = None

    # What activities do

    async def answer(self, name: str, node: str) -> NodeOutcome:
        if name == names.RUN_NODE:
            self.started.append(node)
        known = self.recorded.get(node)
        if known is not None and known.wait is None:
            return known
        if name != names.FAIL_NODE:
            await self._ends(node)
        if name == names.RUN_NODE and node in self.waiting:
            outcome = NodeOutcome(state="running", wait=Wait(decision=True))
        elif name != names.FAIL_NODE and node in self.failing:
            raise ApplicationError("x", type="X", non_retryable=True)
        elif name == names.FAIL_NODE:
            caught, on = self.drawn.catches(node), node in self.going_on
            _, handles = value_of_failure(_ERROR, None, catches=caught, goes_on=on)
            outcome = NodeOutcome(state="failed", handles=handles, error=_ERROR)
        else:
            outcome = NodeOutcome(state="completed", handles=(None,))
        self.recorded[node] = outcome
        return outcome

    async def _ends(self, node: str) -> None:
        self.open[node] = asyncio.get_running_loop().create_future()
        try:
            await self.open[node]
        except asyncio.CancelledError:
            if self.chance.random() < 0.5:
                raise
            # It came to its end all the same.
        finally:
            del self.open[node]

    # What happens meanwhile

    def _decides(self) -> list[str]:
        known = self.recorded
        if self.control.stop not in (None, "failed"):
            return []  # what is stopped waits for nobody
        undecided = (node for node in self.waiting if node not in self.control.decisions)
        return [node for node in undecided if node in known and known[node].wait is not None]

    def _happens(self) -> None:
        """One of the things that can happen now."""
        control, chance = self.control, self.chance
        can: list[Callable[[], object]] = [
            *(partial(one.set_result, None) for one in self.open.values() if not one.done()),
            *(partial(control.decisions.setdefault, one, "received") for one in self._decides()),
        ]
        if control.paused or (self.way == "paused" and chance.random() < 0.3):
            can.append(lambda: setattr(control, "paused", not control.paused))
        if self.way in ("cancelled", "timed_out") and control.stop is None:
            can.append(lambda: setattr(control, "stop", self.way))
        if self.way == "cancelled by Temporal" and control.stop is None and self.task:
            can.append(self.task.cancel)
        if can:
            chance.choice(can)()
            control.note()

    async def play(self) -> dict[str, str]:
        """Run to the end, over as many runs as it takes; the states of the nodes then."""
        while True:
            self.runs += 1
            assert self.runs < 50
            running = _Run(self)
            task = asyncio.create_task(self._run(running))
            for _ in range(1_000):
                if task.done():
                    break
                # A workflow hears of several things at once, and comes to rest before the next.
                for _ in range(_TO_REST):
                    await asyncio.sleep(0)
                for _ in range(self.chance.choice((1, 1, 2))):
                    self._happens()
            assert task.done(), self.told()
            if task.result():
                return {**running.progress.states}
            # As the workflow carries it, and no more of it.
            self.control = Control(
                paused=self.control.paused,
                stop="cancelled" if self.control.stop == "cancelled" else None,
                decisions=dict(self.control.decisions),
            )

    async def _run(self, running: Interpreter) -> bool:
        """A run, as the workflow has it."""
        self.task = asyncio.current_task()
        try:
            return await running.run()
        except asyncio.CancelledError:
            self.control.stop = "cancelled"
            await WorkflowExecution._stop_from_outside(running)
            return True

    def plan(self) -> ExecutionPlan:
        return ExecutionPlan(
            execution_id="e",
            nodes=tuple(
                PlannedNode(
                    id=node,
                    type="transform",
                    join=self.joins[node],
                    goes_on=node in self.going_on,
                    catches=self.drawn.catches(node),
                )
                for node in self.drawn.nodes
            ),
            links=self.drawn.links,
            recorded=dict(self.recorded),
            queuer_queue="",
        )

    def told(self) -> str:
        told = (self.drawn.links, self.joins, self.failing, self.going_on, self.waiting)
        return f"{self.way}: {told}, {self.started}"


class _Run(Interpreter):
    """A run of it, whose activities are played."""

    def __init__(self, played: Played) -> None:
        self._played = played
        super().__init__(played.plan(), played.control)

    def _start(self, node: str) -> None:
        control = self._played.control
        assert node in self._played.recorded or not (control.paused or control.stop)
        super()._start(node)

    async def _call(self, name: str, request: Any, node: PlannedNode) -> NodeOutcome:
        del request
        return await self._played.answer(name, node.id)


async def check(drawn: Drawn, way: Way, chance: random.Random) -> int:
    """Play a graph; nothing runs twice, or against the rule, or behind the end. Its runs."""
    played = Played(drawn, way, chance)
    states = await played.play()
    should, stop = played.expected, played.control.stop
    uncaught = {
        node
        for node in played.failing - played.going_on
        if states[node] == "failed" and not drawn.catches(node)
    }
    assert len(played.started) == len(set(played.started)), played.told()
    assert "running" not in states.values(), played.told()
    ends = {"cancelled"} if way not in ("through", "paused") else set()
    for node, state in states.items():
        if stop is None:
            assert state == should[node], played.told()
        elif node in played.started:
            assert should[node] in ("completed", "failed"), played.told()
            assert state in {should[node]} | ends, played.told()
        else:
            assert state in ("waiting", "skipped"), played.told()
            assert state == "waiting" or should[node] in ("skipped", "completed", "failed")
    assert bool(uncaught) <= (stop is not None), played.told()
    assert not uncaught or stop in ("failed", way.partition(" ")[0]), played.told()
    return played.runs


def _sample(chance: random.Random, share: float) -> list[Drawn]:
    return [drawn for drawn in graphs(5) if chance.random() < share]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("nodes_per_run", [600, 1, 2])
@pytest.mark.parametrize("share", [0.003, pytest.param(0.1, marks=pytest.mark.slow)])
async def test_a_graph_keeps_to_the_rule_whatever_happens(
    monkeypatch: pytest.MonkeyPatch, way: Way, nodes_per_run: int, share: float
) -> None:
    monkeypatch.setattr(interpreting, "NODES_PER_RUN", nodes_per_run)
    chance = random.Random(f"{way} {nodes_per_run}")  # noqa: S311
    small = [drawn for size in range(1, 5 if share > 0.01 else 4) for drawn in graphs(size)]
    runs = [await check(one, way, chance) for one in small + _sample(chance, share)]
    assert (max(runs) > 1) == (nodes_per_run < 600)
