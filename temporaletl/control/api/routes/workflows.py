"""`/temporal/workflows`: the platform's workflows as Temporal has them, and their end."""

import base64
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime

from temporaletl.control.api.access import Operator, Reader
from temporaletl.control.api.context import InContext
from temporaletl.control.api.paging import After, Limit, PageOf, decode_cursor, encode_cursor, link
from temporaletl.control.api.paths import WorkflowName
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.api.routes.sync import STORED, ControlAccepted, control
from temporaletl.control.api.times import Timestamp
from temporaletl.control.operations.workflows import (
    WorkflowDetails,
    WorkflowReport,
    WorkflowState,
    list_workflows,
    show_workflow,
)

router = APIRouter(prefix="/temporal/workflows", tags=["workflows"], responses=RESPONSES)


class WorkflowsFound(PageOf[WorkflowReport]):
    """Workflows, the latest first; as they were at `as_of`."""

    as_of: AwareDatetime


class ObservedWorkflow(WorkflowDetails):
    """A workflow, as it was at `as_of`."""

    as_of: AwareDatetime


@router.get("", summary="List workflows", operation_id="list_workflows")
async def get_workflows(
    request: Request,
    response: Response,
    context: InContext,
    _: Reader,
    limit: Limit = 50,
    after: After = None,
    source: Annotated[str | None, Query(max_length=100, examples=["jira"])] = None,
    state: WorkflowState | None = None,
    since: Annotated[Timestamp | None, Query(description="those that began then or later")] = None,
) -> WorkflowsFound:
    """List the workflows of runs and jobs; Temporal's list lags behind by a second."""
    key = decode_cursor(after, tuple[bytes])
    observed = await context.observations.latest(
        f"workflows {request.url.query}",
        partial(
            list_workflows,
            context.platform,
            limit=limit,
            after=key[0] if key else None,
            source=source,
            state=state,
            since=since,
        ),
    )
    token = observed.value.next
    following = encode_cursor(base64.b64encode(token).decode()) if token else None
    link(request, response, following)
    return WorkflowsFound(items=observed.value.workflows, next=following, as_of=observed.as_of)


@router.get("/{workflow_id:name}", summary="Show a workflow", operation_id="get_workflow")
async def get_workflow(
    context: InContext, _: Reader, workflow_id: WorkflowName
) -> ObservedWorkflow:
    """Show a workflow with its pending activities: which attempt, and why the last one failed."""
    observed = await context.observations.latest(
        f"workflow {workflow_id}", partial(show_workflow, context.platform, workflow_id)
    )
    return ObservedWorkflow(**dict(observed.value), as_of=observed.as_of)


@router.post(
    "/{workflow_id:name}/cancel",
    summary="Cancel a workflow",
    operation_id="cancel_workflow",
    responses=STORED,
)
async def post_cancel(
    context: InContext, caller: Operator, response: Response, workflow_id: WorkflowName
) -> ControlAccepted:
    """End a run or a job at the next page of each job; what is loaded stays. Safe to repeat."""
    return await control(context, caller, response, workflow_id, "cancel")
