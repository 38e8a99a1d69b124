"""`etl check`: what a source needs to run, tried one by one; nothing is written."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal

from temporaletl.accounts import account_views
from temporaletl.bound_connection import DEFAULT, bound
from temporaletl.checks.messages import Check
from temporaletl.checks.sources import (
    Noted,
    Notice,
    attempt,
    load_settings,
    password_of,
    reach_warehouse,
    read_account,
    read_settings,
    secrets_of,
    unknown,
    weak,
)
from temporaletl.connections.providers import find_connection, provided, read_entries
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.preview import numbered_jobs, unwritten_batch
from temporaletl.control.operations.service_checks import ask_services
from temporaletl.control.operations.sources import find_source, known_planners, strategies_of
from temporaletl.control.operations.state import ahead_of_clock
from temporaletl.errors import ConfigurationError, ETLError, SettingsError
from temporaletl.extraction import PageRequest
from temporaletl.messages import QueuerInput
from temporaletl.names import connection_option, label
from temporaletl.settings.environment import environment
from temporaletl.strategies import Planner
from temporaletl.warehouse.budget import blocked_sources
from temporaletl.warehouse.state import watermarks_ahead

#: The window that a check reads: the last day.
_SPAN = timedelta(days=1)
_QUIET = "answers; no record of the last day, and older ones are not looked for"


async def check_source(
    platform: Platform,
    source: str,
    report: Callable[[Check], None] = lambda _: None,
    *,
    connection: str = DEFAULT,
    notice: Notice = lambda _: None,
) -> list[Check]:
    """Run all checks; `report` gets each result at once, `notice` what is tried again before.

    Raises:
        UnknownSourceError: no such source; names the known ones.
        ConfigurationError: the source has no such connection, or its file is wrong.
    """
    planner = find_source(source)
    checks = _Checks(report, notice)
    with provided(await platform.stored_connections(connection)):
        find_connection(source, connection)
        with bound(source, connection):
            await _check_reading(checks, platform, source, connection, planner)
            await _check_warehouse(checks, platform, source, connection)
            await _check_temporal(checks, platform, source, connection)
    return checks.results


async def check_reading(
    platform: Platform,
    source: str,
    report: Callable[[Check], None] = lambda _: None,
    *,
    connection: str = DEFAULT,
    notice: Notice = lambda _: None,
) -> list[Check]:
    """Run the checks of the source alone: its settings, its account, its streams.

    Raises: as `check_source`.
    """
    planner = find_source(source)
    find_connection(source, connection)
    checks = _Checks(report, notice)
    with bound(source, connection):
        await _check_reading(checks, platform, source, connection, planner)
    return checks.results


@dataclass(slots=True)
class _Checks:
    """The results so far; each is reported at once."""

    report: Callable[[Check], None]
    notice: Notice
    results: list[Check] = field(default_factory=list)

    def add(self, found: Iterable[Check]) -> None:
        for result in found:
            self.results.append(result)
            self.report(result)

    async def attempt(self, name: str, work: Callable[[], Awaitable[str]]) -> bool:
        result = await attempt(name, work, self.notice)
        self.add([result])
        return result.verdict == "ok"


async def _check_reading(
    checks: _Checks, platform: Platform, source: str, connection: str, planner: Planner
) -> None:
    good = await checks.attempt("settings", partial(read_settings, source, planner))
    checks.add(unknown(source))
    if not good:
        return
    checks.add(weak(secrets_of(source)))
    if source in account_views:
        await checks.attempt("account", partial(read_account, source))
    for stream in planner.streams:
        await checks.attempt(
            f"stream {stream}",
            partial(_read_stream, platform, source, connection, planner, stream),
        )


async def _check_warehouse(
    checks: _Checks, platform: Platform, source: str, connection: str
) -> None:
    settings = platform.warehouse_settings
    if await checks.attempt("warehouse", partial(reach_warehouse, settings)):
        checks.add(weak(password_of(settings)))
        checks.add(await _check_ledger(platform, source, connection))


async def _check_temporal(
    checks: _Checks, platform: Platform, source: str, connection: str
) -> None:
    if not platform.settings.enabled:
        off = "is off (TEMPORAL_ENABLED=false): the local engine executes runs"
        checks.add([Check(name="Temporal", verdict="note", detail=off)])
    elif await checks.attempt("Temporal", partial(_reach_temporal, platform)):
        for one in await ask_services(platform, source, connection):
            # Services often have the same environment, and so the same to note.
            if one.verdict != "note" or one.detail not in {each.detail for each in checks.results}:
                checks.add([one])


def status_of(checks: Iterable[Check]) -> Literal["good", "failed", "misconfigured"]:
    """What all checks together say: a wrong setting weighs more than a server that is away."""
    wrong = [check for check in checks if check.verdict == "wrong"]
    if any(check.misconfigured for check in wrong):
        return "misconfigured"
    return "failed" if wrong else "good"


def settings_faults() -> dict[str, str | None]:
    """What the settings of each source lack, in one line; None: nothing.

    By source, of the environment, and by `source@connection` of the file. Nothing is connected to.

    Raises:
        StrategyImportError, DuplicateStrategyError: a source cannot be imported.
        ConfigurationError: the connections file as a whole cannot be read.
    """
    known = known_planners()
    faults = {source: _fault_of(source, DEFAULT, known.get(source)) for source in known}
    for name, entry in read_entries():
        if isinstance(entry, ConfigurationError):
            faults[name] = str(entry)
        else:
            planner = known.get(entry.source)
            faults[label(entry.source, name)] = _fault_of(entry.source, name, planner)
    return faults


def _fault_of(source: str, connection: str, planner: Planner) -> str | None:
    try:
        with bound(source, connection):
            load_settings(source, planner)
    except SettingsError as error:
        absent = error.variables and all(not environment().get(one) for one in error.variables)
        if absent and connection == DEFAULT:
            return f"{', '.join(sorted(error.variables or ()))} not set"
        return str(error)
    except ETLError as error:
        return str(error)
    return None


async def check_settings(source: str, connection: str) -> list[Check]:
    """Check a connection's settings, and the account that the source reports for them.

    Raises: as `check_source`.
    """
    planner = find_source(source)
    find_connection(source, connection)
    with bound(source, connection):
        checks = [await attempt("settings", partial(read_settings, source, planner))]
        if checks[0].verdict == "ok" and source in account_views:
            checks.append(await attempt("account", partial(read_account, source)))
        elif checks[0].verdict == "ok" and planner.settings is not None:
            untried = f"credentials not tried: `etl check {source}{connection_option(connection)}`"
            detail = f"{checks[0].detail}; {untried} does"
            checks = [checks[0].model_copy(update={"detail": detail})]
        if checks[0].verdict == "ok":
            checks += weak(secrets_of(source))
    return checks


async def _read_stream(
    platform: Platform, source: str, connection: str, planner: Planner, stream: str
) -> str:
    """Plan a day of the stream and read the first page of its first job."""
    end = datetime.now(UTC) - planner.lag()
    request = QueuerInput(
        source=source,
        connection=connection,
        mode="backfill",
        streams=(stream,),
        date_start=end - _SPAN,
        date_end=end,
    )
    strategies = strategies_of(source, stream)
    batch = unwritten_batch(request, [stream], platform.settings)
    async with contextlib.aclosing(numbered_jobs(batch)) as jobs:
        job = await anext(jobs, None)
    if job is None:
        return _QUIET
    query = strategies.query.from_dict(job.params)
    pages = strategies.extract(PageRequest(job=job, query=query))
    async with contextlib.aclosing(pages):
        page = await anext(pages, None)
    if page is not None and page.rejects and not page.records:
        rejects = f"{len(page.rejects):,} records of the last day cannot be read"
        return f"answers; {rejects}: {page.rejects[0].reason}"
    if page is None or not page.records:
        return _QUIET
    records = f"{len(page.records):,} record{'s' * (len(page.records) != 1)}"
    answered = f"answers; {records} on the first page of the last day"
    return answered if page.note is None else Noted(f"{answered}; {page.note}")


async def _check_ledger(platform: Platform, source: str, connection: str) -> list[Check]:
    """Check for cool-downs of the source, and for watermarks ahead of the clock."""
    warehouse = await platform.warehouse_if_any()
    if warehouse is None:
        # Its tables are not there yet: it knows nothing.
        return []
    blocked = await asyncio.to_thread(blocked_sources, warehouse, source)
    ahead = await asyncio.to_thread(watermarks_ahead, warehouse, source)
    return [
        Check(name="closed", verdict="wrong", detail=str(one))
        for one in blocked
        if one.connection == connection
    ] + [
        Check(name="watermark", verdict="note", detail=ahead_of_clock(state))
        for state in ahead
        if state.connection == connection
    ]


async def _reach_temporal(platform: Platform) -> str:
    client = await platform.client()
    return f"{client.service_client.config.target_host}, namespace {client.namespace}"
