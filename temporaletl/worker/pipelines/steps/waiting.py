"""Steps that wait for a decision: approval by a person, wait_for_webhook by a request."""

import asyncio
from datetime import timedelta
from typing import Any

from temporaletl.clock import utc_now
from temporaletl.errors import PermanentError
from temporaletl.warehouse.pipeline_decisions import (
    RecordedDecision,
    read_decision,
    record_decision,
)
from temporaletl.warehouse.pipeline_results import read_result
from temporaletl.worker.pipelines.messages import CloseRequest, Wait
from temporaletl.worker.pipelines.nodes.requests import ApprovalData, WaitForWebhookData
from temporaletl.worker.pipelines.steps.context import NodeContext, Produced, Waiting

_TIMEOUT = "timeout"


async def run_approval(context: NodeContext[ApprovalData]) -> Waiting:
    """Ask with a title and details; wait until a person decides, or the time is over."""
    data = context.data
    asked = await context.fill({"title": data.title, "details": data.details})
    return Waiting(_wait(context), details=asked)


async def close_approval(context: NodeContext[ApprovalData], end: CloseRequest) -> Produced:
    """Give the decision that stands, and take its edges."""
    decision = await _standing(context, end)
    return Produced(decision.model_dump(mode="json"), handles=(decision.outcome,))


async def run_wait_for_webhook(context: NodeContext[WaitForWebhookData]) -> Waiting:
    """Wait until a request comes, or the time is over."""
    return Waiting(_wait(context))


async def close_wait_for_webhook(
    context: NodeContext[WaitForWebhookData], end: CloseRequest
) -> Produced:
    """Give the body that came, which stands as the result already."""
    decision = await _standing(context, end)
    execution_id = context.execution.execution_id
    body = await asyncio.to_thread(
        read_result, context.services.warehouse, execution_id, context.node
    )
    return Produced(body, handles=(decision.outcome,))


def _wait(context: NodeContext[Any]) -> Wait:
    until = utc_now() + timedelta(seconds=context.data.timeout_seconds)
    return Wait(decision=True, until=until)


async def _standing(context: NodeContext[Any], end: CloseRequest) -> RecordedDecision:
    """The decision that stands: the first that was recorded, also before the time was over."""
    warehouse, execution_id = context.services.warehouse, context.execution.execution_id
    outcome = end.outcome or _TIMEOUT
    if outcome not in context.data.handles():
        listed = ", ".join(str(one) for one in context.data.handles())
        raise PermanentError(f"{outcome} is no decision; there are {listed}")
    await asyncio.to_thread(record_decision, warehouse, execution_id, context.node, outcome)
    found = await asyncio.to_thread(read_decision, warehouse, execution_id, context.node)
    assert found is not None  # noqa: S101 - it was recorded just now, or before
    return found
