"""`/runs`: the runs that go on and those that ended, their jobs and their pages."""

from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from temporaletl.control.api.access import Caller, Operator, Reader
from temporaletl.control.api.answers import shared
from temporaletl.control.api.context import Context, InContext
from temporaletl.control.api.flags import Flag
from temporaletl.control.api.idempotency import IdempotencyKey, once
from temporaletl.control.api.paging import (
    After,
    Limit,
    PageOf,
    decode_cursor,
    encode_cursor,
    page,
)
from temporaletl.control.api.paths import RunName
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.api.routes.sync import Started, SyncRequest, start
from temporaletl.control.api.times import Timestamp
from temporaletl.control.operations.details import Details, run_details
from temporaletl.control.operations.history import (
    RunFilter,
    list_jobs,
    list_pages,
    list_runs,
    read_run_log,
)
from temporaletl.control.operations.reports import RunKey, RunReport
from temporaletl.control.operations.results import run_result
from temporaletl.control.operations.retries import retry_request
from temporaletl.control.operations.runs import run_request
from temporaletl.messages import BatchSummary, Mode
from temporaletl.warehouse.reports import JobReport, PageReport
from temporaletl.warehouse.run_log import MOST_LINES, RunLogTail
from temporaletl.warehouse.runs import Engine

router = APIRouter(prefix="/runs", tags=["runs"], responses=RESPONSES)


class RetryOptions(BaseModel):
    """How what failed is run again."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"notify": False}]})

    notify: Flag = Field(default=True, description="notify whom the settings name of its end")


class RunPage(PageOf[RunReport]):
    """Runs, those that go on first; as they were at `as_of`."""

    as_of: AwareDatetime
    #: Hindrances of sources, and which of ledger and Temporal cannot be reached.
    remarks: list[str] = Field(default=[])


class ObservedDetails(Details):
    """Details of a run, as they were at `as_of`."""

    as_of: AwareDatetime
    remarks: tuple[str, ...] = ()


class RunRequest(SyncRequest):
    """What to load, and how: as the options of `etl run`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "source": "jira",
                    "mode": "backfill",
                    "date_start": "2026-01-01T00:00:00Z",
                    "date_end": "2026-02-01T00:00:00Z",
                }
            ]
        },
    )

    mode: Mode | None = Field(None, description="none: backfill with dates, else incremental")
    date_start: Timestamp | None = None
    date_end: Timestamp | None = Field(None, description="exclusive")
    notify: Flag = Field(default=True, description="notify whom the settings name of its end")
    engine: Engine | None = Field(
        None, description="what executes it; none: Temporal's services, where Temporal is not off"
    )
    max_in_flight: int = Field(50, ge=1, le=1_000, description="jobs at once")
    accept_view: Flag = Field(
        default=False,
        description="what the account sees now is all there is, though it saw more before",
    )


class RunResult(BaseModel):
    """The result of a run that has ended."""

    summary: BatchSummary
    misconfigured: bool = Field(description="a setting, an argument or credentials are wrong")


@router.get("", summary="List runs", operation_id="list_runs", response_model=RunPage)
async def get_runs(
    request: Request,
    response: Response,
    context: InContext,
    _: Reader,
    limit: Limit = 50,
    after: After = None,
    source: str | None = None,
    connection: str | None = None,
    mode: Mode | None = None,
    state: Annotated[str | None, Query(max_length=40, examples=["failed"])] = None,
) -> Response:
    """List the runs that go on, then those that ended, the latest first in both."""
    chosen = RunFilter(source=source, connection=connection, mode=mode, state=state)
    find = partial(_list_runs, context, request, response, chosen, limit=limit, after=after)
    return await shared(context, request, response, find)


async def _list_runs(
    context: Context,
    request: Request,
    response: Response,
    chosen: RunFilter,
    *,
    limit: int,
    after: str | None,
) -> RunPage:
    key = decode_cursor(after, RunKey)
    observed = await context.live.open_runs()
    found = await list_runs(
        context.platform,
        observed.value,
        chosen,
        limit=limit + 1,
        after=key,
    )
    items, following = page(request, response, found, limit=limit, cursor_of=_cursor_of)
    return RunPage(
        items=items, next=following, as_of=observed.as_of, remarks=observed.value.remarks
    )


def _cursor_of(run: RunReport) -> str:
    goes_on, started_at, name = RunKey.of(run)
    return encode_cursor(goes_on, started_at.isoformat(), name)


@router.post(
    "",
    summary="Start a run",
    operation_id="start_run",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Started,
)
async def post_run(
    request: Request,
    context: InContext,
    caller: Operator,
    wanted: RunRequest,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run of any mode, as `etl run` does."""
    asked = run_request(**wanted.model_dump(exclude={"force", "engine"}))

    async def starting() -> Started:
        action, engine = f"sync.{asked.mode}", wanted.engine
        return await start(context, caller, asked, action, force=wanted.force, engine=engine)

    return await once(
        context, caller, request, idempotency_key, starting, status=HTTPStatus.ACCEPTED
    )


@router.get("/{run:name}/result", summary="Show a run's result", operation_id="get_result")
async def get_result(context: InContext, _: Reader, run: RunName) -> RunResult:
    """Show the summary of a run that has ended; 409 while it goes on."""
    ended = await run_result(context.platform, run)
    return RunResult(summary=ended.summary, misconfigured=ended.misconfigured)


@router.get(
    "/{run:name}", summary="Show a run", operation_id="get_run", response_model=ObservedDetails
)
async def get_run(
    request: Request, response: Response, context: InContext, _: Reader, run: RunName
) -> Response:
    """Show a run, the jobs of it that have not completed, and its hindrances."""

    async def find() -> ObservedDetails:
        observed = await context.observations.latest(
            f"run {run}", partial(run_details, context.platform, run)
        )
        return ObservedDetails(**dict(observed.value), as_of=observed.as_of)

    return await shared(context, request, response, find)


@router.get(
    "/{run:name}/jobs",
    summary="List a run's jobs",
    operation_id="list_jobs",
    response_model=PageOf[JobReport],
)
async def get_jobs(
    request: Request,
    response: Response,
    context: InContext,
    _: Reader,
    run: RunName,
    limit: Limit = 50,
    after: After = None,
    state: Annotated[str | None, Query(max_length=40, examples=["failed"])] = None,
) -> Response:
    """List the jobs of a run in the order in which they were planned."""
    key = decode_cursor(after, tuple[int])

    async def find() -> PageOf[JobReport]:
        found = await list_jobs(
            context.platform, run, limit=limit + 1, after=key[0] if key else None, state=state
        )
        items, following = page(
            request, response, found, limit=limit, cursor_of=lambda job: encode_cursor(job.seq or 0)
        )
        return PageOf[JobReport](items=items, next=following)

    return await shared(context, request, response, find)


@router.get(
    "/{run:name}/pages",
    summary="List a run's pages",
    operation_id="list_pages",
    response_model=PageOf[PageReport],
)
async def get_pages(
    request: Request,
    response: Response,
    context: InContext,
    _: Reader,
    run: RunName,
    limit: Limit = 50,
    after: After = None,
) -> Response:
    """List the pages that a run committed: each is one transaction, with its rows' outcomes."""
    key = decode_cursor(after, tuple[int, int])

    async def find() -> PageOf[PageReport]:
        found = await list_pages(context.platform, run, limit=limit + 1, after=key)
        items, following = page(
            request,
            response,
            found,
            limit=limit,
            cursor_of=lambda one: encode_cursor(one.seq, one.page),
        )
        return PageOf[PageReport](items=items, next=following)

    return await shared(context, request, response, find)


@router.get("/{run:name}/log", summary="Show the end of a run's log", operation_id="get_run_log")
async def get_log(
    context: InContext,
    _: Reader,
    run: RunName,
    limit: Annotated[int, Query(ge=1, le=MOST_LINES, description="lines, the last ones")] = 100,
) -> RunLogTail:
    """Show the last lines that the services logged of a run, the oldest of them first."""
    return await read_run_log(context.platform, run, limit=limit)


@router.post(
    "/{run:name}/retry",
    summary="Retry what failed in a run",
    operation_id="retry_run",
    status_code=HTTPStatus.ACCEPTED,
    response_model=Started,
)
async def post_retry(
    request: Request,
    context: InContext,
    caller: Operator,
    run: RunName,
    wanted: RetryOptions | None = None,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Start a run of the jobs that failed in this one, in their windows, and of nothing else."""
    act = partial(_retry, context, caller, run, wanted or RetryOptions())
    return await once(context, caller, request, idempotency_key, act, status=HTTPStatus.ACCEPTED)


async def _retry(context: Context, caller: Caller, run: str, wanted: RetryOptions) -> Started:
    asked = await retry_request(context.platform, run, notify=wanted.notify)
    return await start(context, caller, asked, "run.retry")
