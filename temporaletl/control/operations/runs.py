"""Runs: requests are checked, entered and handed to an engine; summaries are read."""

import asyncio
import contextlib
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial

from pydantic import JsonValue, ValidationError

from temporaletl import names
from temporaletl.bound_connection import DEFAULT
from temporaletl.connections.providers import provided
from temporaletl.control.operations.following import Handle, Run, TemporalRun
from temporaletl.control.operations.local_runs import LocalRun
from temporaletl.control.operations.platform import (
    PATIENCE,
    NoLedgerError,
    OldLedgerError,
    Platform,
    translated_errors,
)
from temporaletl.control.operations.sources import check_params, find_source
from temporaletl.control.operations.status import open_runs
from temporaletl.errors import (
    ConfigurationError,
    ConflictError,
    ETLError,
    TemporalUnavailableError,
    WarehouseUnavailableError,
)
from temporaletl.messages import BatchSummary, Mode, QueuerInput
from temporaletl.queuer import reconciliation
from temporaletl.queuer.planning import check_request, check_span
from temporaletl.queuer.reconciliation import namespace_of
from temporaletl.secrets import holds_secret
from temporaletl.telemetry.logs import get_logger
from temporaletl.temporal import sdk
from temporaletl.validation import faults_of
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.reports import BatchReport, find_batch, summary_of
from temporaletl.warehouse.runs import (
    Engine,
    RequestedRun,
    claim_run,
    enter_run,
    find_run,
    give_up,
)

log = get_logger("temporaletl.control.runs")


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
    if holds_secret(params):
        # They are kept in the ledger and in Temporal's history.
        raise ConfigurationError(
            "params: a secret that this process knows must not stand there: settings hold secrets"
        )
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


class RunGoesOnError(ConflictError):
    """A run of the same source and connection goes on; `workflow_id` is its workflow.

    `abandoned`: it is one of the local engine that no process drives at the moment.
    """

    def __init__(
        self, whose: str, workflow_id: str, state: str, *, abandoned: bool = False
    ) -> None:
        super().__init__(
            f"a run of {whose} goes on already ({state}): {workflow_id}; wait for its end, cancel "
            "it, or force another one"
        )
        self.workflow_id = workflow_id
        self.abandoned = abandoned


async def start_run(
    platform: Platform, request: QueuerInput, *, engine: Engine | None = None, by: str | None = None
) -> Run:
    """Start a run, checked as far as one can from here; whatever goes on already.

    Every call starts another run; two of one source do not load the same job at once. It is
    executed by `engine`; without one given by Temporal, or where that is off by the local engine.
    Where the platform has a local engine at hand, that executes it as well while Temporal does not
    answer. `by` is who requested it.

    Raises:
        ConfigurationError: the source, a stream, a mode or a parameter is wrong, or the span has
            not come yet.
        TemporalDisabledError: Temporal is off, and shall execute it.
        TemporalUnavailableError, CredentialsError: as `Platform.client`; nothing is started, also
            where Temporal took the request and its answer was lost.
    """
    return await _Start(platform, request, engine, by).run(only=False)


async def start_only_run(
    platform: Platform, request: QueuerInput, *, engine: Engine | None = None, by: str | None = None
) -> Run:
    """Start a run as `start_run` does, unless one of the source and connection goes on.

    Of two processes that start one at once, one succeeds, wherever this one has a warehouse.

    Raises:
        RunGoesOnError: one goes on, also where that cannot be known since Temporal does not answer.
        ETLError: as `start_run`.
    """
    return await _Start(platform, request, engine, by).run(only=True)


class _Start:
    """The start of a run: checked, entered, and then handed to an engine."""

    def __init__(
        self, platform: Platform, request: QueuerInput, engine: Engine | None, by: str | None
    ) -> None:
        self._platform = platform
        self._request = request
        self._chosen = engine
        self._by = by
        self._engine: Engine = engine or ("temporal" if platform.settings.enabled else "local")
        self._workflow_id = names.run_workflow_id(
            request.source, request.mode, datetime.now(UTC), request.connection
        )
        self._run_id = uuid.uuid4().hex

    async def run(self, *, only: bool) -> Run:
        await self._check()
        if self._engine == "local":
            warehouse = await self._platform.prepared_warehouse()
            await self._enter(warehouse, only=only)
            return self._local(warehouse)
        entered = await self._ledger()
        if entered is not None:
            await self._enter(entered, only=only)
        elif only:
            await _refuse_by_temporal(self._platform, self._request)
        try:
            return await self._start_in_temporal(entered)
        except TemporalUnavailableError as error:
            if entered is None:
                raise
            return await self._without_answer(entered, error)
        except ETLError as error:
            if entered is not None:
                await asyncio.to_thread(give_up, entered, self._workflow_id, str(error))
            raise

    async def _check(self) -> None:
        platform, request = self._platform, self._request
        planner = find_source(request.source, request.connection)
        if not planner.listed and request.mode != "replay" and request.retries is None:
            raise ConfigurationError(
                f"runs of source {request.source} are started by the platform alone: its rejects "
                "can be replayed, and its failed runs retried"
            )
        check_params(request)
        with provided(await platform.stored_connections(request.connection)):
            check_request(request)
        if request.mode == "backfill":
            check_span(request, await platform.now())

    async def _ledger(self) -> Warehouse | None:
        """The warehouse, where the run can be entered; elsewhere its queuer does that."""
        if not self._platform.has_warehouse:
            return None
        try:
            return await self._platform.current_warehouse()
        except (NoLedgerError, OldLedgerError, WarehouseUnavailableError):
            return None

    async def _enter(self, warehouse: Warehouse, *, only: bool) -> None:
        going_on: RequestedRun | None = None
        for _ in range(_LOOKS):
            going_on = await asyncio.to_thread(
                enter_run,
                warehouse,
                self._request,
                workflow_id=self._workflow_id,
                run_id=self._run_id,
                engine="local" if self._engine == "local" else None,
                by=self._by,
                only=only,
            )
            if going_on is None:
                return
            if not await end_if_lost(self._platform, warehouse, going_on):
                break
        assert going_on is not None  # noqa: S101 - there were looks
        batch = await asyncio.to_thread(find_batch, warehouse, going_on.workflow_id)
        raise RunGoesOnError(
            names.label(self._request.source, self._request.connection),
            going_on.workflow_id,
            _present_state(batch),
            abandoned=going_on.engine == "local" and not going_on.owned,
        )

    async def _start_in_temporal(self, entered: Warehouse | None) -> Run:
        platform, request, settings = self._platform, self._request, self._platform.settings
        client = await platform.answering_client()
        with translated_errors():
            handle: Handle = await client.start_workflow(
                names.QUEUER_FLOW,
                request,
                id=self._workflow_id,
                task_queue=settings.queuer_queue,
                result_type=BatchSummary,
                static_summary=f"{names.label(request.source, request.connection)} {request.mode}",
                rpc_timeout=PATIENCE,
            )
        if entered is not None:
            # Its queuer claims it as well, where this process dies before.
            with contextlib.suppress(sdk.RPCError):
                here = await namespace_of(client)
                await asyncio.to_thread(claim_run, entered, self._workflow_id, "temporal", here)
        return TemporalRun(
            client, handle, request, settings, books=partial(known_summary, platform)
        )

    async def _without_answer(self, entered: Warehouse, error: TemporalUnavailableError) -> Run:
        """The run where Temporal did not answer, and may have taken it all the same."""
        platform = self._platform
        if self._chosen is None and platform.engine is not None:
            log.warning("temporal_unavailable", workflow_id=self._workflow_id, reason=str(error))
            if await asyncio.to_thread(claim_run, entered, self._workflow_id, "local"):
                return self._local(entered)
        elif await asyncio.to_thread(give_up, entered, self._workflow_id, str(error)):
            raise TemporalUnavailableError(
                f"{error}; nothing is started (with --engine local this machine loads it, without "
                "Temporal)"
            ) from None
        run = await asyncio.to_thread(find_run, entered, self._workflow_id)
        if run is None or run.engine is None:
            raise TemporalUnavailableError(
                f"{error}; nothing is started: that took so long that another start of the source "
                "came first"
            ) from None
        # A queuer has it: the start was accepted, and only the answer lost.
        client = await platform.client()
        return TemporalRun(
            client,
            client.get_workflow_handle(self._workflow_id, result_type=BatchSummary),
            self._request,
            platform.settings,
            books=partial(known_summary, platform),
        )

    def _local(self, warehouse: Warehouse) -> Run:
        if self._platform.engine is not None:
            self._platform.engine.wake()
        return LocalRun(warehouse, self._request, self._workflow_id, self._run_id)


#: So often an open run is found to have ended, and another one in its place.
_LOOKS = 3


async def end_if_lost(platform: Platform, warehouse: Warehouse, run: RequestedRun) -> bool:
    """End a run whose workflow is lost, before a queuer does it; return whether this call did.

    Of one that no engine has claimed also where Temporal cannot be asked: a workflow that comes too
    late finds the run given up. False where it goes on, or where that cannot be known now.
    """
    if run.engine == "local":
        return False
    try:
        client = await platform.client()
        here = await namespace_of(client)
        return await reconciliation.end_if_lost(client, warehouse, here, run)
    except (ETLError, sdk.RPCError):
        return await reconciliation.end_if_never_started(warehouse, run)


def _present_state(batch: BatchReport | None) -> str:
    """The state of a run that goes on; its workflow outlives its batch by a moment."""
    if batch is None:
        return "waiting"
    return batch.state if batch.ended_at is None else "ending"


#: As many as go on at once.
_OPEN_RUNS = 200


async def _refuse_by_temporal(platform: Platform, request: QueuerInput) -> None:
    """Refuse a second run where no ledger can be seen from here: of two at once, both may start."""
    for run in (await open_runs(platform, limit=_OPEN_RUNS)).runs:
        same = (run.source, run.connection) == (request.source, request.connection)
        if same and run.ended_at is None and run.state != "lost":
            whose = names.label(request.source, request.connection)
            raise RunGoesOnError(whose, run.workflow_id, run.state)


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
