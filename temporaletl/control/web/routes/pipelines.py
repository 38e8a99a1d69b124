"""`/pipelines` and `/executions`: pipelines drawn, executed, watched and run anew from a node."""

import asyncio
import json
from functools import partial
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import Path, Response
from markupsafe import Markup

from temporaletl.control.operations.execution_details import (
    ExecutionDetails,
    NodeDetails,
    execution_details,
)
from temporaletl.control.operations.executions import (
    ExecutionAction,
    Resumption,
    control_execution,
    decide,
    find_executions,
    start_execution,
)
from temporaletl.control.operations.pipeline_drawing import NodeSign, draw_svg
from temporaletl.control.operations.stored_pipelines import (
    find_pipeline,
    pipeline_versions,
    stored_pipelines,
)
from temporaletl.control.web.forms import parse_json
from temporaletl.control.web.scheduled import schedules_of
from temporaletl.control.web.visit import InVisit, Visit, pages
from temporaletl.names import PIPELINE
from temporaletl.warehouse.pipeline_executions import (
    ENDED,
    ExecutionEntry,
    ExecutionFilter,
)
from temporaletl.worker.pipelines.messages import ExecutionInput
from temporaletl.worker.pipelines.validation import validate

router = pages()

_LATEST = 50
_LIVELY, _CALM = 2, 5
_DONE = {"pause": "pauses", "resume": "goes on", "cancel": "is being cancelled"}

PipelineName = Annotated[str, Path(max_length=63)]
ExecutionId = Annotated[str, Path(max_length=1_000)]


@router.get("/pipelines")
async def get_pipelines(visit: InVisit) -> Response:
    """List the stored pipelines, and the latest executions of any."""
    platform = visit.context.platform
    stored = await visit.dashboard.sights.see("pipelines", partial(stored_pipelines, platform))
    latest = await _latest(visit, None)
    return visit.page(
        "pipelines.html",
        pipelines=stored.value,
        executions=latest,
        sight=stored,
        every=_renewal(latest),
    )


@router.get("/pipelines/{name}")
async def get_pipeline(visit: InVisit, name: PipelineName) -> Response:
    """Show a stored pipeline: its graph, its versions, its latest executions."""
    platform = visit.context.platform
    stored = await find_pipeline(platform, name)
    pipeline = validate(stored.document)
    latest, (schedules, unknown) = await asyncio.gather(
        _latest(visit, name), schedules_of(visit, PIPELINE, name)
    )
    return visit.page(
        "pipeline.html",
        schedules=schedules,
        schedules_unknown=unknown,
        stored=stored,
        versions=await pipeline_versions(platform, name),
        graph=Markup(draw_svg(pipeline)),  # noqa: S704 - its texts are escaped
        description=pipeline.definition.description,
        executions=latest,
        every=_renewal(latest),
    )


@router.post("/pipelines/{name}/execute")
async def post_execute(visit: InVisit, name: PipelineName) -> Response:
    """Start an execution of a stored pipeline."""
    caller, form = visit.operator(), await visit.form()
    value = parse_json("input", form.text("input") or "null")
    started = await start_execution(
        visit.context.platform,
        ExecutionInput(pipeline=name, version=form.text("version") or None, input=value),
        how="dashboard",
        author=caller.author(),
    )
    return visit.done(_path(started.execution_id), f"started {started.execution_id}")


@router.get("/executions/{execution_id}")
async def get_execution(visit: InVisit, execution_id: ExecutionId) -> Response:
    """Show an execution: its graph with the states of its nodes, and what each did."""
    observe = partial(execution_details, visit.context.platform, execution_id)
    sight = await visit.dashboard.sights.see(f"execution {execution_id}", observe)
    details: ExecutionDetails = sight.value
    ended = details.execution.state in ENDED
    signs = {node.id: _sign(node, details) for node in details.nodes}
    pipeline = await asyncio.to_thread(validate, details.execution.document)
    return visit.page(
        "execution.html",
        details=details,
        execution=details.execution,
        nodes=details.nodes,
        ended=ended,
        graph=Markup(draw_svg(pipeline, signs)),  # noqa: S704 - its texts are escaped
        sight=sight,
        every=0 if ended else _LIVELY,
    )


@router.post("/executions/{execution_id}/resume-from")
async def post_resume(visit: InVisit, execution_id: ExecutionId) -> Response:
    """Run an execution anew from a node, with what was recorded before it."""
    caller, form = visit.operator(), await visit.form()
    version: Literal["same", "latest"] = "latest" if form.is_checked("latest") else "same"
    started = await start_execution(
        visit.context.platform,
        ExecutionInput(),
        how="dashboard",
        author=caller.author(),
        resumption=Resumption(execution_id, form.text("node") or None, version),
    )
    return visit.done(_path(started.execution_id), f"started {started.execution_id}")


@router.post("/executions/{execution_id}/nodes/{node}/decide")
async def post_decision(
    visit: InVisit, execution_id: ExecutionId, node: Annotated[str, Path(max_length=100)]
) -> Response:
    """Approve or reject what a node waits for."""
    caller, form = visit.operator(), await visit.form()
    outcome = form.text("outcome")
    first = await decide(
        visit.context.platform,
        execution_id,
        node,
        outcome,
        comment=form.text("comment") or None,
        author=caller.author(),
    )
    visit.context.forget()
    said = f"{node} is {outcome}" if first else f"{node} had been decided before"
    return visit.done(_path(execution_id), said)


@router.post("/executions/{execution_id}/{action}")
async def post_control(
    visit: InVisit, execution_id: ExecutionId, action: ExecutionAction
) -> Response:
    """Pause, resume or cancel an execution."""
    author = visit.operator().author()
    await control_execution(visit.context.platform, execution_id, action, author=author)
    visit.context.forget()
    return visit.done(_path(execution_id), f"{execution_id} {_DONE[action]}")


async def _latest(visit: Visit, pipeline: str | None) -> list[ExecutionEntry]:
    wanted = ExecutionFilter(pipeline=pipeline, limit=_LATEST)
    observe = partial(find_executions, visit.context.platform, wanted)
    return (await visit.dashboard.sights.see(f"executions of {pipeline}", observe)).value


def _renewal(executions: list[ExecutionEntry]) -> int:
    return _LIVELY if any(one.ended_at is None for one in executions) else _CALM


def _path(execution_id: str) -> str:
    return f"/executions/{quote(execution_id, safe='')}"


def _sign(node: NodeDetails, details: ExecutionDetails) -> NodeSign:
    """What the graph says of a node: attempts where there were several, items, how long."""
    record = node.record
    if record is None:
        return NodeSign(node.state)
    said = [f"{record.attempts} attempts"] if record.attempts > 1 else []
    if node.id in details.chunks:
        said.append(f"{details.chunks[node.id]} of {json.dumps((record.wait or {}).get('chunks'))}")
    elif record.result_items is not None:
        said.append(f"{record.result_items:,} items")
    if node.duration is not None:
        said.append(f"{node.duration.total_seconds():.1f} s")
    return NodeSign(node.state, ", ".join(said))
