"""Records the histories that the replay tests replay: `scripts/record-histories`.

Not a test: pytest runs it only where it is named, for the servers and the patching.
"""

import contextlib
from collections.abc import AsyncIterator

import pytest
from temporalio.client import Client, WorkflowFailureError, WorkflowHistory

from temporaletl.strategies import import_sources
from temporaletl.warehouse.connection import Warehouse
from tests.integration.flows.numbers import outages
from tests.integration.flows.services import running
from tests.integration.postgres_server import postgres_url, warehouse
from tests.integration.temporal_server import TemporalServer, shared_temporal, temporal_server
from tests.replay.histories import FOLDER, Recorded, write
from tests.replay.scenarios import OUTAGE, SCENARIOS, Scenario, set_bounds

__all__ = ["postgres_url", "shared_temporal", "temporal_server", "warehouse"]


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
async def test_record(
    scenario: Scenario,
    temporal_server: TemporalServer,
    warehouse: Warehouse,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import_sources("temporaletl.queuer.sources")
    import_sources("temporaletl.worker.sources")
    set_bounds(scenario.bounds, monkeypatch)
    if "outage" in scenario.params:
        outages.add(OUTAGE)
    client = temporal_server.client
    async with running(
        client, warehouse, attempts=scenario.attempts, **scenario.worker
    ) as services:
        batch = await scenario.start(services)
        await scenario.act(services, batch)
        with contextlib.suppress(WorkflowFailureError):
            await batch.result()
        found: dict[str, list[WorkflowHistory]] = {}
        async for workflow, history in family(
            client, scenario.root, batch.id, batch.first_execution_run_id
        ):
            found.setdefault(workflow, []).append(history)
    for workflow in scenario.keeps:
        for old in FOLDER.glob(f"{workflow}-{scenario.name}-[0-9]*.json"):
            old.unlink()
        for number, history in enumerate(found[workflow], 1):
            write(Recorded(workflow, scenario.name, number), history)


async def family(
    client: Client, workflow: str, workflow_id: str, run_id: str | None = None
) -> AsyncIterator[tuple[str, WorkflowHistory]]:
    """A workflow's runs, each continuing the one before, and those of its children."""
    children = []
    while True:
        history = await client.get_workflow_handle(workflow_id, run_id=run_id).fetch_history()
        yield workflow, history
        children += [
            event.child_workflow_execution_started_event_attributes
            for event in history.events
            if event.HasField("child_workflow_execution_started_event_attributes")
        ]
        last = history.events[-1]
        if not last.HasField("workflow_execution_continued_as_new_event_attributes"):
            break
        run_id = last.workflow_execution_continued_as_new_event_attributes.new_execution_run_id
    for child in children:
        execution = child.workflow_execution
        async for each in family(
            client, child.workflow_type.name, execution.workflow_id, execution.run_id
        ):
            yield each
