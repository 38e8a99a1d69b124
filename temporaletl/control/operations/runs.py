"""Runs: requests are checked and started; summaries are read."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from pydantic import JsonValue, ValidationError

from temporaletl import names
from temporaletl.connection_providers import provided
from temporaletl.connections import DEFAULT
from temporaletl.control.operations.following import Handle, Run
from temporaletl.control.operations.platform import Platform, translated_errors
from temporaletl.control.operations.sources import check_services, find_source
from temporaletl.control.operations.status import recent_runs
from temporaletl.errors import ConfigurationError, ConflictError, ETLError
from temporaletl.messages import BatchSummary, Mode, QueuerInput
from temporaletl.queuer.planning import check_request, check_span
from temporaletl.validation import faults_of
from temporaletl.warehouse.reports import summary_of


def run_request(
    source: str,
    *,
    connection: str = DEFAULT,
    mode: Mode | None = None,
    streams: Sequence[str] = (),
    date_start: datetime | None = None,
    date_end: datetime | None = None,
    params: dict[str, JsonValue] | None = None,
    max_in_flight: int = 50,
    accept_view: bool = False,
    notify: bool = True,
    rejects: Sequence[int] = (),
) -> QueuerInput:
    """Build the request for a run.

    Without a mode, dates mean a backfill, and none an incremental run. Streams named twice count
    once.

    Raises:
        ConfigurationError: an argument is wrong; names it.
    """
    dated = date_start is not None or date_end is not None
    try:
        return QueuerInput(
            source=source,
            connection=connection,
            mode=mode or ("backfill" if dated else "incremental"),
            streams=tuple(dict.fromkeys(streams)),
            date_start=date_start,
            date_end=date_end,
            params=params or {},
            max_in_flight=max_in_flight,
            accept_view=accept_view,
            notify=notify,
            rejects=tuple(rejects),
        )
    except ValidationError as error:
        raise ConfigurationError("; ".join(map(str, faults_of(error)))) from None


async def start_run(platform: Platform, request: QueuerInput) -> Run:
    """Start a QueuerFlow, checked as far as one can from here.

    Every call starts another run; two of one source do not load the same job at once.

    Raises:
        ConfigurationError: the source, a stream, a mode or a parameter is wrong, or the span has
            not come yet.
        TemporalUnavailableError, CredentialsError: as `Platform.client`.
    """
    find_source(request.source)
    check_services(request.source)
    with provided(await platform.stored_connections(request.connection)):
        check_request(request)
    if request.mode == "backfill":
        check_span(request, await platform.now())
    client = await platform.client()
    settings = platform.settings
    with translated_errors():
        handle: Handle = await client.start_workflow(
            names.QUEUER_FLOW,
            request,
            id=names.run_workflow_id(
                request.source, request.mode, datetime.now(UTC), request.connection
            ),
            task_queue=settings.queuer_queue,
            result_type=BatchSummary,
            static_summary=f"{names.label(request.source, request.connection)} {request.mode}",
        )
    return Run(client, handle, request, settings, books=partial(known_summary, platform))


class RunGoesOnError(ConflictError):
    """A run of the same source and connection goes on; `workflow_id` is its workflow."""

    def __init__(self, whose: str, workflow_id: str, state: str) -> None:
        super().__init__(
            f"a run of {whose} goes on already ({state}): {workflow_id}; wait for its end, cancel "
            "it, or force another one"
        )
        self.workflow_id = workflow_id


#: One start at a time, in this process: the second of two at once sees the first one.
_starting = asyncio.Lock()
_OPEN_RUNS = 200


async def start_only_run(platform: Platform, request: QueuerInput) -> Run:
    """Start a run as `start_run` does, unless one of the source and connection goes on.

    Of two processes that start one at once, both may succeed: their jobs do not run twice.

    Raises:
        RunGoesOnError: one goes on.
        ETLError: as `start_run`, and as `recent_runs`.
    """
    async with _starting:
        found = await recent_runs(platform, limit=_OPEN_RUNS)
        for run in found.runs:
            same = (run.source, run.connection) == (request.source, request.connection)
            if same and run.ended_at is None and run.state != "lost":
                whose = names.label(request.source, request.connection)
                raise RunGoesOnError(whose, run.workflow_id, run.state)
        return await start_run(platform, request)


async def known_summary(platform: Platform, run: Run) -> BatchSummary | None:
    """The summary of a run that has ended, from the ledger; also of one that failed as a whole.

    None where this process cannot reach it, or it has none.
    """
    warehouse = await platform.warehouse_if_any()
    if warehouse is None:
        return None
    try:
        return await asyncio.to_thread(summary_of, warehouse, run.workflow_id, run.run_id)
    except ETLError:
        return None
