"""`etl check`: what a source needs to run, tried one by one; nothing is written."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal

from psycopg.conninfo import conninfo_to_dict

from temporaletl.accounts import AccountView, account_views
from temporaletl.connection_entries import settings_of
from temporaletl.connection_providers import find_connection, provided
from temporaletl.connections import DEFAULT, bound, declaration_of
from temporaletl.control.operations.attendance import unattended_queuer, unattended_worker
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.preview import numbered_jobs, unwritten_batch
from temporaletl.control.operations.sources import find_source, known_planners, strategies_of
from temporaletl.control.operations.state import ahead_of_clock
from temporaletl.endpoint import environment
from temporaletl.errors import (
    ConfigurationError,
    CredentialsError,
    ETLError,
    SettingsError,
    WarehouseCredentialsError,
)
from temporaletl.extraction import PageRequest
from temporaletl.messages import Message, QueuerInput
from temporaletl.names import connection_option
from temporaletl.secrets import weakness_of
from temporaletl.settings import WarehouseSettings
from temporaletl.source_settings import source_variables
from temporaletl.strategies import Planner, budgets
from temporaletl.troubles import Troubles, observed
from temporaletl.warehouse.budget import blocked_sources
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.sessions import only_row
from temporaletl.warehouse.state import watermarks_ahead

_ANSWER_WITHIN = timedelta(seconds=30)
#: The window that a check reads: the last day.
_SPAN = timedelta(days=1)
_NAMED = 5
_QUIET = "answers; no record of the last day, and older ones are not looked for"

Verdict = Literal["ok", "wrong", "note"]
#: Takes what is said while something is waited for, from any thread.
type Notice = Callable[[str], None]


class Check(Message):
    """Result of one check. A `note` is worth knowing, and is no failure."""

    name: str
    verdict: Verdict
    detail: str
    #: Whether a setting or a credential is wrong, rather than that something does not answer.
    misconfigured: bool = False


class _Noted(str):
    """What a person should know of something that answers."""

    __slots__ = ()


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
    with provided(await platform.stored_connections(connection)):
        find_connection(source, connection)
        with bound(source, connection):
            return await _check(platform, source, connection, planner, report, notice)


async def _check(
    platform: Platform,
    source: str,
    connection: str,
    planner: Planner,
    report: Callable[[Check], None],
    notice: Notice,
) -> list[Check]:
    results: list[Check] = []

    def report_all(found: Sequence[Check]) -> None:
        for result in found:
            results.append(result)
            report(result)

    async def attempt(name: str, work: Callable[[], Awaitable[str]]) -> bool:
        result = await _attempt(name, work, notice)
        report_all([result])
        return result.verdict == "ok"

    if await attempt("settings", partial(_read_settings, source, planner)):
        report_all(_weak(_secrets_of(source)))
        if source in account_views:
            await attempt("account", partial(_read_account, source))
        for stream in planner.streams:
            await attempt(
                f"stream {stream}",
                partial(_read_stream, platform, source, connection, planner, stream),
            )
    if await attempt("warehouse", partial(_reach_warehouse, platform)):
        report_all(_weak(_password_of(platform.warehouse_settings)))
        report_all(await _check_ledger(platform, source, connection))
    if not platform.settings.enabled:
        off = "is off (TEMPORAL_ENABLED=false): the local engine executes runs"
        report_all([Check(name="Temporal", verdict="note", detail=off)])
    elif await attempt("Temporal", partial(_reach_temporal, platform)):
        missing = await _missing_services(platform, source)
        report_all([Check(name="services", verdict="note", detail=one) for one in missing])
    return results


async def _attempt(
    name: str, work: Callable[[], Awaitable[str]], notice: Notice = lambda _: None
) -> Check:
    troubles = Troubles(lambda trouble: notice(f"{name}: {trouble}"))
    try:
        with observed(troubles):
            async with asyncio.timeout(_ANSWER_WITHIN.total_seconds()):
                detail = await work()
                verdict: Verdict = "note" if isinstance(detail, _Noted) else "ok"
                return Check(name=name, verdict=verdict, detail=detail)
    except TimeoutError:
        fault = f"no answer within {_ANSWER_WITHIN.total_seconds():g} s"
        if troubles.now is not None:
            fault += f": {troubles.now}"
    except (ConfigurationError, CredentialsError) as error:
        return Check(name=name, verdict="wrong", detail=str(error), misconfigured=True)
    except ETLError as error:
        fault = str(error)
    except Exception as error:  # noqa: BLE001 - a source's fault must not hide the other checks
        fault = f"{type(error).__name__}: {error}"
    return Check(name=name, verdict="wrong", detail=fault)


def status_of(checks: Iterable[Check]) -> Literal["good", "failed", "misconfigured"]:
    """What all checks together say: a wrong setting weighs more than a server that is away."""
    wrong = [check for check in checks if check.verdict == "wrong"]
    if any(check.misconfigured for check in wrong):
        return "misconfigured"
    return "failed" if wrong else "good"


def settings_faults() -> dict[str, str | None]:
    """What the settings of each source in the environment lack, in one line; None: nothing.

    Nothing is connected to.

    Raises:
        StrategyImportError, DuplicateStrategyError: a source cannot be imported.
    """
    known = known_planners()
    return {source: _fault_of(source, known.get(source)) for source in known}


def _fault_of(source: str, planner: Planner) -> str | None:
    try:
        with bound(source, DEFAULT):
            _load_settings(source, planner)
    except SettingsError as error:
        if error.variables and all(not environment().get(name) for name in error.variables):
            return f"{', '.join(sorted(error.variables))} not set"
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
        checks = [await _attempt("settings", partial(_read_settings, source, planner))]
        if checks[0].verdict == "ok" and source in account_views:
            checks.append(await _attempt("account", partial(_read_account, source)))
        elif checks[0].verdict == "ok" and planner.settings is not None:
            untried = f"credentials not tried: `etl check {source}{connection_option(connection)}`"
            detail = f"{checks[0].detail}; {untried} does"
            checks = [checks[0].model_copy(update={"detail": detail})]
        if checks[0].verdict == "ok":
            checks += _weak(_secrets_of(source))
    return checks


async def _read_settings(source: str, planner: Planner) -> str:
    return await asyncio.to_thread(_load_settings, source, planner)


def _load_settings(source: str, planner: Planner) -> str:
    """Load all settings that a run begins with: a source may have them in several classes."""
    if planner.settings is not None:
        planner.settings()
    if source in budgets:
        budgets.get(source)()
    planner.lag()
    planner.scope()
    return "none needed" if planner.settings is None else "all there"


def _secrets_of(source: str) -> dict[str, str]:
    """The secrets of the bound connection, by the names of their settings."""
    known, declared = settings_of(source), declaration_of(source)
    return {
        name: value
        for name, value in source_variables(environment()).items()
        if known.get(name, declared is not None and declared.is_secret_name(name))
    }


def _password_of(settings: WarehouseSettings) -> dict[str, str]:
    password = conninfo_to_dict(settings.conninfo().get_secret_value()).get("password")
    name = "WPE_DB_PASSWORD" if settings.database_url is None else "the password in DATABASE_URL"
    return {name: str(password)} if password else {}


def _weak(secrets: Mapping[str, str]) -> list[Check]:
    """Note the secrets that redaction cannot hide well."""
    return [
        Check(name="secrets", verdict="note", detail=f"{name} {weakness}; choose a longer one")
        for name, secret in sorted(secrets.items())
        if (weakness := weakness_of(secret.strip())) is not None
    ]


async def _read_account(source: str) -> str:
    view = await asyncio.to_thread(account_views.get(source))
    return "the source does not report its account" if view is None else _described(view)


def _described(view: AccountView) -> str:
    parts = [view.account or "an account that the source does not name"]
    if view.permissions:
        parts.append(f"may {', '.join(sorted(view.permissions)[:_NAMED])}")
    if view.containers:
        parts.append(f"sees {len(view.containers):,} of what its items lie in")
    return "; ".join(parts)


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
    return answered if page.note is None else _Noted(f"{answered}; {page.note}")


async def _reach_warehouse(platform: Platform) -> str:
    return await asyncio.to_thread(_look_into_warehouse, platform.warehouse_settings)


def _look_into_warehouse(settings: WarehouseSettings) -> str:
    parts = conninfo_to_dict(settings.conninfo().get_secret_value())
    database = f"{parts.get('dbname', '')} at {parts.get('host', 'the local socket')}"
    warehouse = Warehouse(settings, max_connections=1)
    warehouse.check()
    with warehouse, warehouse.connection() as connection:
        row = only_row(
            connection.execute(
                """
            SELECT current_user, current_database(), n.oid IS NOT NULL,
                CASE WHEN n.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')
                    ELSE has_schema_privilege(n.oid, 'CREATE') END
            FROM (SELECT 1) AS one LEFT JOIN pg_namespace n ON n.nspname = %s
            """,
                [warehouse.schema],
            )
        )
    user, database, exists, may_create = row
    if not may_create:
        on = f"SCHEMA {warehouse.schema}" if exists else f"DATABASE {database}"
        raise WarehouseCredentialsError(
            f"database user {user} lacks CREATE on {on}: GRANT CREATE ON {on} TO {user}"
        )
    there = "is there" if exists else "will be created"
    return f"{database}, user {user}; schema {warehouse.schema} {there}"


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


async def _missing_services(platform: Platform, source: str) -> list[str]:
    client, settings = await platform.client(), platform.settings
    missing = (
        await unattended_queuer(client, settings.queuer_queue),
        await unattended_worker(client, settings.worker_queue, source),
    )
    return [one for one in missing if one is not None]
