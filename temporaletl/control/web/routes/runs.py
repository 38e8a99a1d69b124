"""`/runs`: runs listed, shown, started, paused, resumed and cancelled."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Annotated
from urllib.parse import quote, urlencode

from fastapi import Path, Query, Response

from temporaletl.bound_connection import DEFAULT
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
from temporaletl.control.web.filters import one_line
from temporaletl.control.web.findings import (
    cause_of,
    connection_path,
    path_of_run,
    run_path,
    standing_of,
)
from temporaletl.control.web.forms import parse_date, parse_object
from temporaletl.control.web.starting import start
from temporaletl.control.web.visit import Form, InVisit, Visit, pages, renewal
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
#: States of jobs in the ledger, and what they are called on the page.
JOB_STATES = {
    "all": "all",
    "failed": "failed",
    "running": "running",
    "planned": "waiting",
    "completed": "completed",
    "cancelled": "cancelled",
}
_RUNS = 50
_JOBS = 20
_PLANNED_JOBS = 50
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
    given = {"source": source, "connection": connection, "mode": mode, "state": state}
    platform = visit.context.platform
    observe = partial(list_runs, platform, observed.value, chosen, limit=_RUNS + 1, after=key)
    listed = await visit.read(f"runs {given} {key}", observe)
    found = listed.value
    items = found[:_RUNS]
    following = None
    if len(found) > _RUNS:
        goes_on, started_at, name = RunKey.of(items[-1])
        following = encode_cursor(goes_on, started_at.isoformat(), name)
    return visit.page(
        "runs.html",
        runs=items,
        observed=observed,
        sight=listed if listed.fault else observed,
        given=given,
        modes=MODES,
        states=STATES,
        next_path=_with(given, after=following) if following else None,
        is_first=after is None,
        cause_of=cause_of,
        run_path=run_path,
        every=renewal(items) if after is None else 0,
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
    plan = await plan_backfill(visit.context.platform, request, limit=_PLANNED_JOBS)
    return visit.page("plan.html", plan=plan, form=form, request=request)


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


@dataclass(frozen=True, slots=True)
class _Seen:
    """A run or a job with what its page lists, observed together."""

    details: Details
    jobs: list[JobReport]
    pages: list[PageReport]
    #: None while it is not planned.
    log: RunLogTail | None
    #: The jobs that are listed: those of that state, or all.
    state: str
    #: Why what the ledger has of it cannot be read.
    fault: str | None = None


@router.get("/runs/{run:path}")
async def get_run(
    visit: InVisit, run: RunName, state: Chosen = "", after: After = None, page: After = None
) -> Response:
    """Show a run, its jobs, its pages and its throughput; or one job, by its id."""
    (job,) = decode_cursor(after, tuple[int]) or (None,)
    last = decode_cursor(page, tuple[int, int])
    observe = partial(_see, visit.context.platform, run, state or None, job, last)
    sight = await visit.dashboard.sights.see(f"run {run} {state} {job} {last}", observe)
    seen = sight.value
    found = seen.details.run
    if found is None:
        return visit.page("job.html", job=seen.details.job, details=seen.details, sight=sight)
    given = {"state": seen.state, "after": after or "", "page": page or ""}
    throughput, step = await _throughput(visit, found)
    next_job = seen.jobs[_JOBS - 1] if len(seen.jobs) > _JOBS else None
    next_page = seen.pages[_PAGES - 1] if len(seen.pages) > _PAGES else None
    return visit.page(
        "run.html",
        run=found,
        details=seen.details,
        sight=sight,
        cause=cause_of(found),
        standing=standing_of(found),
        jobs=seen.jobs[:_JOBS],
        pages=seen.pages[:_PAGES],
        next_job=_with({**given, "after": encode_cursor(next_job.seq or 0)}) if next_job else None,
        next_page=_with({**given, "page": encode_cursor(next_page.seq, next_page.page)})
        if next_page
        else None,
        given=given,
        job_states=JOB_STATES,
        throughput=throughput,
        step=step,
        log=seen.log,
        fault=seen.fault,
        ui_path=ui_path(visit.context.platform, found),
        connection_path=connection_path,
        run_path=run_path,
        path_of_run=path_of_run,
        every=renewal([found]) if _moves(found) else 0,
    )


def _moves(run: RunReport) -> bool:
    """Whether the page of a run changes: the end of its log comes a moment after its own."""
    return run.ended_at is None or datetime.now(UTC) - run.ended_at < _LOG_LAG


async def _see(
    platform: Platform,
    run: str,
    state: str | None,
    after_job: int | None,
    after_page: tuple[int, int] | None,
) -> _Seen:
    details = await run_details(platform, run)
    if details.run is None:
        return _Seen(details, [], [], None, "all")
    # What failed is looked for first.
    failed = details.run.jobs is not None and details.run.jobs.failed > 0
    shown = state or ("failed" if failed else "all")
    chosen = None if shown == "all" else shown
    try:
        jobs = await list_jobs(platform, run, limit=_JOBS + 1, after=after_job, state=chosen)
        pages = await list_pages(platform, run, limit=_PAGES + 1, after=after_page)
        log = await read_run_log(platform, run, limit=_LOG_LINES)
    except NotFoundError:  # it is not planned yet
        return _Seen(details, [], [], None, shown)
    except ETLError as error:
        return _Seen(details, [], [], None, shown, one_line(str(error)))
    return _Seen(details, jobs, pages, log, shown)


async def _throughput(visit: Visit, run: RunReport) -> tuple[Chart | None, timedelta]:
    """The chart of a run's rows by time, and the span of a bar."""
    if run.batch_id is None:
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
