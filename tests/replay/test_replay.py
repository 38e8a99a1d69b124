"""Workflows of today go through histories of before without a contradiction."""

import base64
import json
import re
from typing import Any

import pytest
from temporalio.client import WorkflowHistory
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

import temporaletl.queuer.dispatch
import temporaletl.queuer.flow
import temporaletl.worker.flow
import temporaletl.worker.pipelines.interpreter
from temporaletl.queuer.dispatch import DispatchFlow
from temporaletl.queuer.flow import QueuerFlow
from temporaletl.temporal.builds import workflow_runner
from temporaletl.temporal.connect import data_converter
from temporaletl.worker.flow import ETLFlow
from temporaletl.worker.pipelines.flow import WorkflowExecution
from tests.replay.histories import RECORDER, Recorded, read, recorded, texts
from tests.replay.scenarios import SCENARIOS, set_bounds

_MOST_BYTES = 64 * 1024


def replayer() -> Replayer:
    return Replayer(
        workflows=[QueuerFlow, DispatchFlow, ETLFlow, WorkflowExecution],
        data_converter=data_converter(),
        workflow_runner=workflow_runner(),
    )


@pytest.mark.parametrize("history", recorded(), ids=str)
async def test_a_recorded_history_replays(
    history: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_bounds(SCENARIOS[history.scenario].bounds, monkeypatch)
    await replayer().replay_workflow(read(history))


def test_every_scenario_has_its_histories_and_there_are_no_others() -> None:
    there_are = {(history.workflow, history.scenario) for history in recorded()}
    assert there_are == {
        (workflow, name) for name, scenario in SCENARIOS.items() for workflow in scenario.keeps
    }


@pytest.mark.parametrize(
    ("workflow", "scenario"),
    [
        (workflow, scenario)
        for workflow in ("QueuerFlow", "DispatchFlow", "ETLFlow")
        for scenario in (
            "completed",
            "failed-job",
            "paused-and-resumed",
            "cancelled-by-signal",
            "cancelled-from-outside",
        )
    ],
)
def test_what_can_happen_to_every_workflow_is_recorded_of_every_workflow(
    workflow: str, scenario: str
) -> None:
    assert workflow in SCENARIOS[scenario].keeps


def closes(history: Recorded) -> str:
    """What the history's last event says, `continued_as_new` for one."""
    last = read(history).events[-1]
    fields = [field.name for field, _ in last.ListFields() if field.name.endswith("_attributes")]
    return fields[0].removeprefix("workflow_execution_").removesuffix("_event_attributes")


@pytest.mark.parametrize(
    ("workflow", "scenario", "ends"),
    [
        ("DispatchFlow", "continued-dispatching", ["continued_as_new"] * 2 + ["completed"]),
        ("DispatchFlow", "several-dispatchers", ["completed"] * 3),
        ("ETLFlow", "failed-job", ["completed", "completed", "failed"]),
        ("QueuerFlow", "planning-failure", ["failed"]),
        ("QueuerFlow", "cancelled-by-signal", ["completed"]),
        ("QueuerFlow", "cancelled-from-outside", ["canceled"]),
        ("DispatchFlow", "cancelled-from-outside", ["canceled"]),
        ("ETLFlow", "paused-in-an-outage", ["completed"]),
        ("WorkflowExecution", "branches", ["completed"]),
        ("WorkflowExecution", "cancelled-nodes", ["completed"]),
        ("WorkflowExecution", "nodes-cancelled-from-outside", ["canceled"]),
        ("WorkflowExecution", "timed-out", ["completed"]),
        ("WorkflowExecution", "continued-nodes", ["continued_as_new"] * 2 + ["completed"]),
    ],
)
def test_the_histories_show_what_they_are_named_for(
    workflow: str, scenario: str, ends: list[str]
) -> None:
    of_it = [h for h in recorded() if (h.workflow, h.scenario) == (workflow, scenario)]
    assert sorted(closes(history) for history in of_it) == sorted(ends)


def test_a_job_of_many_segments_is_recorded_over_many_runs() -> None:
    of_it = [h for h in recorded() if (h.workflow, h.scenario) == ("ETLFlow", "continued-segments")]
    *before, last = [closes(history) for history in of_it]
    assert before
    assert set(before) == {"continued_as_new"}
    assert last == "completed"


@pytest.mark.parametrize("workflow", ["QueuerFlow", "DispatchFlow", "ETLFlow"])
async def test_a_changed_step_would_be_noticed(workflow: str) -> None:
    history = read(Recorded(workflow, "completed", 1))
    scheduled = next(
        event.activity_task_scheduled_event_attributes
        for event in history.events
        if event.HasField("activity_task_scheduled_event_attributes")
    )
    scheduled.activity_type.name = "another_step"
    with pytest.raises(NondeterminismError):
        await replayer().replay_workflow(history)


async def test_a_step_too_many_would_be_noticed() -> None:
    """It ended after three jobs; with today's bounds it would start all seven."""
    with pytest.raises(NondeterminismError):
        await replayer().replay_workflow(read(Recorded("DispatchFlow", "continued-dispatching", 1)))


def test_bounds_that_running_workflows_depend_on_stay_as_they_are() -> None:
    """A workflow that was started under one bound goes on only under the same one.

    To change it, keep the old value for them with `workflow.patched`.
    """
    assert temporaletl.queuer.dispatch.JOBS_PER_RUN == 400
    assert temporaletl.queuer.dispatch._OUTCOMES_AT_ONCE == 100
    assert temporaletl.queuer.flow._JOBS_PER_DISPATCHER == 1_000
    assert temporaletl.queuer.flow._MAX_DISPATCHERS == 8
    assert temporaletl.worker.flow.SEGMENTS_PER_RUN == 400
    assert temporaletl.worker.pipelines.interpreter.NODES_PER_RUN == 600
    assert temporaletl.worker.pipelines.interpreter.MOST_AT_ONCE == 50


@pytest.mark.parametrize("history", recorded(), ids=str)
def test_a_history_is_small_and_tells_nothing_of_the_machine(history: Recorded) -> None:
    text = history.file.read_text()
    assert len(text) <= _MOST_BYTES
    for name, value in texts(json.loads(text)):
        plain = decoded(name, value)
        assert not re.search(r"/(work|home|root|tmp|usr)/|\d+@", plain), (name, plain)
        if name == "identity":
            assert value in (RECORDER, "history-service", "")


def decoded(name: str, value: str) -> str:
    """A payload's data in clear; other texts as they are."""
    if name != "data":
        return value
    return base64.b64decode(value).decode()


def test_scrubbing_leaves_the_order_and_types_of_events() -> None:
    history: WorkflowHistory = read(Recorded("QueuerFlow", "completed", 1))
    ids = [event.event_id for event in history.events]
    assert ids == list(range(1, len(ids) + 1))


def test_every_payload_is_plain_json() -> None:
    """Encrypted, the recorded ones could not be replayed without the key."""
    for history in recorded():
        document: dict[str, Any] = json.loads(history.file.read_text())
        encodings = {
            base64.b64decode(value).decode()
            for name, value in texts(document)
            if name == "encoding"
        }
        assert encodings <= {"json/plain", "binary/null"}
