"""`/runs`: runs listed, shown, started, paused, resumed and cancelled."""

from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import Path, Query, Response

from temporaletl.connections import DEFAULT
from temporaletl.control.api.paging import decode_cursor, encode_cursor
from temporaletl.control.operations.audit import record_outcome
from temporaletl.control.operations.backfills import plan_backfill
from temporaletl.control.operations.control import Action, Controlled, control_run
from temporaletl.control.operations.details import Details, run_details
from temporaletl.control.operations.figures import count_pages
from temporaletl.control.operations.history import (
    RunFilter,
    list_jobs,
    list_pages,
    list_runs,
    read_run_log,
)
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.reports import RunKey, RunReport
from temporaletl.control.operations.runs import run_request
from temporaletl.control.web.charts import Chart, throughput_chart
from temporaletl.control.web.findings import (
    cause_of,
    connection_path,
    path_of_run,
    run_path,
)
from temporaletl.control.web.forms import parse_date, parse_object
from temporaletl.control.web.starting import start
from temporaletl.control.web.visit import Form, InVisit, Visit, pages
from temporaletl.errors import ConfigurationError, ETLError, NotFoundError
from temporaletl.messages import Mode, QueuerInput
from temporaletl.warehouse.reports import JobReport, PageReport
from temporaletl.warehouse.run_log import RunLogTail

router = pages()

MODES: tuple[Mode, ...] = ("incremental", "full", "backfill", "replay")
STATES = (
    *("waiting", "running", "pausing", "paused", "cancelling"),
    *("lost", "completed", "failed", "cancelled", "skipped"),
)
_RUNS = 50
_JOBS = 50
_PAGES = 20
_LOG_LINES = 100
_LOG_LAG = timedelta(seconds=10)

RunName = Annotated[str, Path(max_length=500)]
After = Annotated[str | None, Query(max_length=500)]
Chosen = Annotated[str, Query(max_length=100)]


@router.get("/runs")
async def get_runs(
    visit: InVisit,
    source: Chosen = "",
    connection: Chosen = "",
    mode: Chosen = "",
    state: Chosen = "",
    after: After = None,
) -> Response:
    """List the runs that go on, then those that ended, the latest first in both."""
    observed = await visit.open_runs()
    if mode and mode not in MODES:
        raise ConfigurationError(f"mode: there is no {mode!r}; the modes are {', '.join(MODES)}")
    chosen = RunFilter(
        source=source or None,
        connection=connection or None,
        mode=next((one for one in MODES if one == mode), None),
        state=state or None,
    )
    key = decode_cursor(after, RunKey)
    found = await list_runs(
        visit.context.platform,
        observed.value,
        chosen,
        limit=_RUNS + 1,
        after=key,
    )
    items = found[:_RUNS]
    following = None
    if len(found) > _RUNS:
        goes_on, started_at, name = RunKey.of(items[-1])
        following = encode_cursor(goes_on, started_at.isoformat(), name)
    given = {"source": source, "connection": connection, "mode": mode, "state": state}
    return visit.page(
        "runs.html",
        runs=items,
        observed=observed,
        given=given,
        modes=MODES,
        states=STATES,
        next_path=_with(given, after=following) if following else None,
        is_first=after is None,
        cause_of=cause_of,
        run_path=run_path,
        polls=after is None and any(run.ended_at is None for run in items),
    )


def _with(given: dict[str, str], **more: str) -> str:
    return "?" + urlencode({key: value for key, value in {**given, **more}.items() if value})


@router.post("/runs")
async def post_run(visit: InVisit) -> Response:
    """Start a run; lead to its page."""
    visit.operator()
    form = await visit.form()
    request = _requested(form)
    started = await start(
        visit,
        request,
        f"sync.{request.mode}",
        force=form.is_checked("force"),
        reason=form.text("reason") or None,
    )
    return visit.done(path_of_run(started), f"started {started}")


@router.post("/backfills")
async def post_plan(visit: InVisit) -> Response:
    """Show what a backfill would do; nothing is written, and nothing is started."""
    visit.operator()
    form = await visit.form()
    request = _requested(form, mode="backfill")
    plan = await plan_backfill(visit.context.platform, request, limit=_JOBS)
    return visit.page("plan.html", plan=plan, form=form, request=request, polls=False)


def _requested(form: Form, mode: Mode | None = None) -> QueuerInput:
    """The run that a form asks for."""
    return run_request(
        form.text("source"),
        connection=form.text("connection") or DEFAULT,
        mode=mode or next((one for one in MODES if one == form.text("mode")), None),
        streams=form.texts("stream"),
        date_start=parse_date("from", form.text("from")),
        date_end=parse_date("to", form.text("to")),
        params=parse_object("params", form.text("params")),
    )


@router.get("/runs/{run:path}")
async def get_run(
    visit: InVisit, run: RunName, state: Chosen = "", after: After = None, page: After = None
) -> Response:
    """Show a run, its jobs, its pages and its throughput; or one job, by its id."""
    platform = visit.context.platform
    sight = await visit.dashboard.sights.see(f"run {run}", partial(run_details, platform, run))
    found = sight.value
    if found.run is None:
        return visit.page("job.html", job=found.job, details=found, sight=sight, polls=False)
    jobs, next_job = await _jobs(visit, run, state, after)
    committed, next_page = await _pages(visit, run, page)
    given = {"state": state, "after": after or "", "page": page or ""}
    throughput, step = await _throughput(visit, found)
    return visit.page(
        "run.html",
        run=found.run,
        details=found,
        sight=sight,
        cause=cause_of(found.run),
        jobs=jobs,
        pages=committed,
        next_job=_with({**given, "after": next_job}) if next_job else None,
        next_page=_with({**given, "page": next_page}) if next_page else None,
        given=given,
        throughput=throughput,
        step=step,
        log=await _log(visit, run),
        ui_path=ui_path(visit.context.platform, found.run),
        connection_path=connection_path,
        run_path=run_path,
        polls=_moves(found.run),
    )


def _moves(run: RunReport) -> bool:
    """Whether the page of a run changes: the end of its log comes a moment after its own."""
    return run.ended_at is None or datetime.now(UTC) - run.ended_at < _LOG_LAG


async def _jobs(
    visit: Visit, run: str, state: str, after: str | None
) -> tuple[list[JobReport], str | None]:
    key = decode_cursor(after, tuple[int])
    try:
        found = await list_jobs(
            visit.context.platform,
            run,
            limit=_JOBS + 1,
            after=key[0] if key else None,
            state=state or None,
        )
    except NotFoundError:  # it is not planned yet
        return [], None
    more = len(found) > _JOBS
    return found[:_JOBS], encode_cursor(found[_JOBS - 1].seq or 0) if more else None


async def _pages(visit: Visit, run: str, after: str | None) -> tuple[list[PageReport], str | None]:
    try:
        found = await list_pages(
            visit.context.platform,
            run,
            limit=_PAGES + 1,
            after=decode_cursor(after, tuple[int, int]),
        )
    except NotFoundError:
        return [], None
    last = found[_PAGES - 1] if len(found) > _PAGES else None
    return found[:_PAGES], encode_cursor(last.seq, last.page) if last else None


async def _log(visit: Visit, run: str) -> RunLogTail | None:
    """The last lines of the run's log; None where it cannot be read, or has no batch yet."""
    try:
        return await read_run_log(visit.context.platform, run, limit=_LOG_LINES)
    except ETLError:
        return None


async def _throughput(visit: Visit, details: Details) -> tuple[Chart | None, timedelta]:
    """The chart of a run's rows by time, and the span of a bar."""
    run: RunReport | None = details.run
    if run is None or run.batch_id is None:
        return None, timedelta(0)
    until = run.ended_at or datetime.now(UTC)
    key = f"pages {run.batch_id}"
    observe = partial(count_pages, visit.context.platform, run.batch_id, run.started_at, until)
    observations = visit.dashboard.figures if run.ended_at else visit.context.observations
    try:
        sight = await visit.dashboard.sights.of(key, partial(observations.latest, key, observe))
    except (ETLError, TimeoutError):
        return None, timedelta(0)
    step, counts = sight.value
    return None if counts is None else throughput_chart(counts, step), step


@router.post("/runs/{run:path}/{action}")
async def post_control(visit: InVisit, run: RunName, action: Action) -> Response:
    """Pause, resume or cancel a run or a job. Safe to repeat."""
    caller, form = visit.operator(), await visit.form()
    done = await control_run(visit.context.platform, run, action, by=caller.name)
    visit.context.forget()
    await record_outcome(
        visit.context.platform,
        caller.author(form.text("reason") or None),
        f"sync.{action}",
        done.workflow_id,
        "done",
    )
    return visit.done(path_of_run(run), _sentence(done))


def ui_path(platform: Platform, run: RunReport) -> str | None:
    """The page of a run's workflow in Temporal's own UI; None where that is not configured."""
    address = platform.settings.ui_address
    if address is None:
        return None
    namespace = quote(platform.settings.namespace, safe="")
    workflow = quote(run.workflow_id, safe="")
    return f"{address}/namespaces/{namespace}/workflows/{workflow}/{run.run_id}"


_PARTICIPLES = {"pause": "paused", "resume": "resumed", "cancel": "cancelled"}


def _sentence(done: Controlled) -> str:
    """What holds from now on, in a sentence."""
    which = f"The {done.kind}"
    if done.ended_batch is not None:
        return f"{which} had no workflow any more: its batch and its jobs are closed."
    if done.stored:
        missing = (
            "No process drives it"
            if done.queue is None
            else f"No service polls task queue {done.queue}"
        )
        return (
            f"{missing}: that {which.lower()} is to be {_PARTICIPLES[done.action]} is stored, and "
            "heeded when one does."
        )
    if done.state is None:
        return f"{which} was told; it did not say how it stands now."
    still = ""
    if done.state in ("pausing", "cancelling") and done.jobs_running:
        still = f": {done.jobs_running:,} running, each to its next page"
    already = "" if done.changed else " already"
    return f"{which} is {done.state}{already}{still}."
