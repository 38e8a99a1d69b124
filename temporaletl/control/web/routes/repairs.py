"""What failed done again: a run's failed jobs, and rejects."""

from typing import Annotated

from fastapi import Path, Response

from temporaletl.bound_connection import DEFAULT
from temporaletl.control.operations.rejects import replay_request
from temporaletl.control.operations.retries import retry_request
from temporaletl.control.operations.runs import run_request
from temporaletl.control.web.findings import path_of_run
from temporaletl.control.web.starting import start
from temporaletl.control.web.visit import InVisit, pages

router = pages()


@router.post("/runs/{run:path}/retry")
async def post_retry(visit: InVisit, run: Annotated[str, Path(max_length=500)]) -> Response:
    """Start a run of what failed in another one, and of nothing else."""
    visit.operator()
    request = await retry_request(visit.context.platform, run)
    started = await start(visit, request, "run.retry")
    return visit.done(path_of_run(started), f"retries what failed in {run}")


@router.post("/rejects/replay")
async def post_replay(visit: InVisit) -> Response:
    """Start a run that sends the rejects of a connection through the present transform."""
    visit.operator()
    form = await visit.form()
    request = run_request(
        form.text("source"),
        connection=form.text("connection") or DEFAULT,
        mode="replay",
        streams=form.texts("stream"),
    )
    notice = "The rejects go through the present transform: those that become rows leave the list."
    return visit.done(path_of_run(await start(visit, request, "rejects.replay")), notice)


@router.post("/rejects/{reject_id}/replay")
async def post_replay_one(
    visit: InVisit, reject_id: Annotated[int, Path(ge=1, le=2**63 - 1)]
) -> Response:
    """Start a run that sends one reject through the present transform."""
    visit.operator()
    request = await replay_request(visit.context.platform, reject_id)
    notice = "The record goes through the present transform: as a row it leaves the list."
    return visit.done(path_of_run(await start(visit, request, "rejects.replay")), notice)
