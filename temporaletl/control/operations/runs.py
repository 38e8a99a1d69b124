"""Runs: requests are checked and started; summaries are read."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from pydantic import JsonValue

from temporaletl import names
from temporaletl.connection_providers import provided
from temporaletl.connections import DEFAULT
from temporaletl.control.operations.following import Handle, Run
from temporaletl.control.operations.platform import Platform, translated_errors
from temporaletl.control.operations.sources import find_source
from temporaletl.errors import ConfigurationError, ETLError
from temporaletl.messages import BatchSummary, Mode, QueuerInput
from temporaletl.queuer.planning import check_request
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
) -> QueuerInput:
    """Build the request for a run.

    Without a mode, dates mean a backfill, and none an incremental run. Streams named twice count
    once.
    """
    dated = date_start is not None or date_end is not None
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
    )


async def start_run(platform: Platform, request: QueuerInput) -> Run:
    """Start a QueuerFlow, checked as far as one can from here.

    Every call starts another run; two of one source do not load the same job at once.

    Raises:
        ConfigurationError: the source, a stream, a mode or a parameter is wrong, or the span has
            not come yet.
        TemporalUnavailableError, CredentialsError: as `Platform.client`.
    """
    find_source(request.source)
    with provided(await platform.stored_connections(request.connection)):
        check_request(request)
    await _check_dates(platform, request)
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


async def _check_dates(platform: Platform, request: QueuerInput) -> None:
    """Refuse a span that has not come yet: its end would be taken for loaded."""
    if request.date_start is None and request.date_end is None:
        return
    now = await platform.now()
    for end, timestamp in (("start", request.date_start), ("end", request.date_end)):
        if timestamp is not None and timestamp > now:
            hint = "; without it, all up to now is loaded" if end == "end" else ""
            raise ConfigurationError(
                f"the span's {end} {timestamp.isoformat()} has not come yet: by the warehouse's "
                f"clock it is {now.isoformat(timespec='seconds')}{hint}"
            )


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
