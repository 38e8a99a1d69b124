"""Starts of runs from pages: in the name of who asks, and entered in the audit."""

from temporaletl.control.operations.audit import record_outcome
from temporaletl.control.operations.runs import start_only_run, start_run
from temporaletl.control.web.visit import Visit
from temporaletl.messages import QueuerInput
from temporaletl.names import label


async def start(
    visit: Visit,
    request: QueuerInput,
    action: str,
    *,
    force: bool = False,
    reason: str | None = None,
) -> str:
    """Start a run, and return its workflow id; `force` starts it although another one goes on.

    Raises:
        ForbiddenError: who asks may read only.
        ETLError: as `start_only_run`.
    """
    caller = visit.operator()
    starting = start_run if force else start_only_run
    run = await starting(visit.context.platform, request, by=caller.name)
    run.ending.cancel()  # nobody waits here
    visit.context.forget()
    await record_outcome(
        visit.context.platform,
        caller.author(reason),
        action,
        label(request.source, request.connection),
        "done",
        details={"workflow_id": run.workflow_id, "engine": run.engine},
    )
    return run.workflow_id
