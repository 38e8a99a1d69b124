"""Runs from a program: a source is loaded into a warehouse by a call."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import copy_context
from datetime import datetime
from functools import partial
from typing import Any

from pydantic import JsonValue

from temporaletl.engine.batch import run_batch
from temporaletl.engine.limits import EngineLimits
from temporaletl.engine.listener import Listener
from temporaletl.messages import BatchSummary, Mode
from temporaletl.settings.environment import given_variables
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse


async def run_async(
    source: str,
    *,
    warehouse: str | None = None,
    settings: Mapping[str, str] | None = None,
    mode: Mode = "incremental",
    streams: Sequence[str] = (),
    date_start: datetime | None = None,
    date_end: datetime | None = None,
    connection: str = "default",
    params: Mapping[str, JsonValue] | None = None,
    accept_view: bool = False,
    limits: EngineLimits | None = None,
    listener: Listener | None = None,
    cancel: asyncio.Event | None = None,
) -> BatchSummary:
    """Load a source into a warehouse, in this process, and return the summary.

        summary = await run_async("jira", warehouse="postgresql://etl@db.example.com/warehouse")

    `warehouse` is its URL, by default that of DATABASE_URL or the WPE_DB settings. `settings` are
    variables by their names, which go before those of the environment and the `.env` file. Cancel,
    retries, and everything else is as with `temporaletl.engine.run_batch`.

    Raises: as `temporaletl.engine.run_batch`; jobs that failed are in the summary.
    """
    given = dict(settings or {})
    if warehouse is not None:
        given["DATABASE_URL"] = warehouse
    limits = limits or EngineLimits()
    with given_variables(given):
        connections = 2 * limits.jobs_at_once + 2
        with Warehouse(WarehouseSettings.load(), max_connections=connections) as opened:
            return await run_batch(
                opened,
                source,
                mode=mode,
                streams=streams,
                date_start=date_start,
                date_end=date_end,
                connection=connection,
                params=params,
                accept_view=accept_view,
                limits=limits,
                listener=listener,
                cancel=cancel,
            )


def run(
    source: str,
    *,
    warehouse: str | None = None,
    settings: Mapping[str, str] | None = None,
    mode: Mode = "incremental",
    streams: Sequence[str] = (),
    date_start: datetime | None = None,
    date_end: datetime | None = None,
    connection: str = "default",
    params: Mapping[str, JsonValue] | None = None,
    accept_view: bool = False,
    limits: EngineLimits | None = None,
    listener: Listener | None = None,
) -> BatchSummary:
    """Load a source into a warehouse, and return the summary; as `run_async`, for plain programs.

        summary = run("jira", warehouse="postgresql://etl@db.example.com/warehouse", mode="full")

    Works in a notebook, whose event loop runs already: it is held up until the run has ended, and
    interrupting the cell cancels the run at its next page.

    Raises: as `run_async`.
    """
    work = partial(
        run_async,
        source,
        warehouse=warehouse,
        settings=settings,
        mode=mode,
        streams=streams,
        date_start=date_start,
        date_end=date_end,
        connection=connection,
        params=params,
        accept_view=accept_view,
        limits=limits,
        listener=listener,
    )
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    return _run_beside_loop(work)


def _run_beside_loop(work: Callable[..., Coroutine[Any, Any, BatchSummary]]) -> BatchSummary:
    """Run in a thread, with a loop of its own."""
    ends: list[BatchSummary | BaseException] = []
    loops: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def cancellable() -> BatchSummary:
        cancel = asyncio.Event()
        loops.append((asyncio.get_running_loop(), cancel))
        return await work(cancel=cancel)

    def call() -> None:
        try:
            ends.append(asyncio.run(cancellable()))
        except BaseException as error:  # noqa: BLE001 - raised by the caller
            ends.append(error)

    thread = threading.Thread(target=copy_context().run, args=(call,), name="etl run", daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        for loop, cancel in loops:
            loop.call_soon_threadsafe(cancel.set)
        thread.join()
        raise
    [end] = ends
    if isinstance(end, BaseException):
        raise end
    return end
