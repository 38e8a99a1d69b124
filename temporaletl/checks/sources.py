"""What a source needs, tried one by one in the process that asks: commands and services share it.

Nothing is written. The connection must be bound.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta

from psycopg.conninfo import conninfo_to_dict

from temporaletl.accounts import AccountView, read_view
from temporaletl.checks.messages import Check, Verdict
from temporaletl.connections.declarations import declaration_of
from temporaletl.connections.entries import settings_of
from temporaletl.connections.source_settings import source_variables
from temporaletl.errors import (
    ConfigurationError,
    CredentialsError,
    ETLError,
    WarehouseCredentialsError,
)
from temporaletl.secrets import weakness_of
from temporaletl.setting_catalogue import unknown_variables
from temporaletl.settings.environment import environment
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.strategies import Planner, budgets
from temporaletl.troubles import Troubles, observed
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import missing_migrations
from temporaletl.warehouse.sessions import only_row

ANSWER_WITHIN = timedelta(seconds=30)
_NAMED = 5

#: Takes what is said while something is waited for, from any thread.
type Notice = Callable[[str], None]


class Noted(str):
    """What a person should know of something that answers."""

    __slots__ = ()


async def attempt(
    name: str,
    work: Callable[[], Awaitable[str]],
    notice: Notice = lambda _: None,
) -> Check:
    """Do one check's work, and return what it found; whatever it raises is its result."""
    troubles = Troubles(lambda trouble: notice(f"{name}: {trouble}"))
    try:
        with observed(troubles):
            async with asyncio.timeout(ANSWER_WITHIN.total_seconds()):
                detail = await work()
                verdict: Verdict = "note" if isinstance(detail, Noted) else "ok"
                return Check(name=name, verdict=verdict, detail=detail)
    except TimeoutError:
        fault = f"no answer within {ANSWER_WITHIN.total_seconds():g} s"
        if troubles.now is not None:
            fault += f": {troubles.now}"
    except (ConfigurationError, CredentialsError) as error:
        return Check(name=name, verdict="wrong", detail=str(error), misconfigured=True)
    except ETLError as error:
        fault = str(error)
    except Exception as error:  # noqa: BLE001 - a source's fault must not hide the other checks
        fault = f"{type(error).__name__}: {error}"
    return Check(name=name, verdict="wrong", detail=fault)


async def read_settings(source: str, planner: Planner) -> str:
    """Load the settings as `load_settings` does, in a thread."""
    return await asyncio.to_thread(load_settings, source, planner)


def load_settings(source: str, planner: Planner) -> str:
    """Load all settings that a run begins with: a source may have them in several classes.

    Raises:
        ETLError: one is missing or wrong; it is named.
    """
    if planner.settings is not None:
        planner.settings()
    if source in budgets:
        budgets.get(source)()
    planner.lag()
    planner.scope()
    return "none needed" if planner.settings is None else "all there"


async def read_account(source: str) -> str:
    """Whom the source takes us for, in words; raises what the source's account view does."""
    view = await asyncio.to_thread(read_view, source)
    return "the source does not report its account" if view is None else _described(view)


def _described(view: AccountView) -> str:
    parts = [view.account or "an account that the source does not name"]
    if view.permissions:
        parts.append(f"has {', '.join(sorted(view.permissions)[:_NAMED])}")
    if view.containers:
        count = len(view.containers)
        what = "project, tenant or table" if count == 1 else "projects, tenants or tables"
        parts.append(f"sees {count:,} {what}")
    return "; ".join(parts)


async def reach_warehouse(settings: WarehouseSettings) -> str:
    """What database it is, and whether it may be used, in words.

    Raises:
        ConfigurationError, CredentialsError, WarehouseUnavailableError: as `Warehouse.check`.
        WarehouseCredentialsError: the schema cannot be created, or tables in it.
    """
    return await asyncio.to_thread(_look_into, settings)


def _look_into(settings: WarehouseSettings) -> str:
    warehouse = Warehouse(settings, max_connections=1)
    warehouse.check()
    with warehouse:
        return describe_warehouse(warehouse)


def describe_warehouse(warehouse: Warehouse) -> str:
    """What database an open warehouse is, in words. Blocks; raises as `reach_warehouse`."""
    with warehouse.connection() as connection:
        host = connection.info.host
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
    if not may_create and missing_migrations(warehouse):
        on = f"SCHEMA {warehouse.schema}" if exists else f"DATABASE {database}"
        raise WarehouseCredentialsError(
            f"database user {user} lacks CREATE on {on}: run `etl migrate` as a user who has it, "
            f"or GRANT CREATE ON {on} TO {user}"
        )
    at = "a local socket" if host.startswith("/") else host
    there = "is there" if exists else "will be created"
    alone = "" if may_create else "; this user creates no tables, `etl migrate` by another one does"
    return f"{database} at {at}, user {user}; schema {warehouse.schema} {there}{alone}"


def secrets_of(source: str) -> dict[str, str]:
    """The secrets of the bound connection, by the names of their settings."""
    known, declared = settings_of(source), declaration_of(source)
    return {
        name: value
        for name, value in source_variables(environment()).items()
        if known.get(name, declared is not None and declared.is_secret_name(name))
    }


def password_of(settings: WarehouseSettings) -> dict[str, str]:
    """The warehouse's password, by where it is set; empty where there is none."""
    password = conninfo_to_dict(settings.conninfo().get_secret_value()).get("password")
    name = "WPE_DB_PASSWORD" if settings.database_url is None else "the password in DATABASE_URL"
    return {name: str(password)} if password else {}


def weak(secrets: Mapping[str, str]) -> list[Check]:
    """Note the secrets that redaction cannot hide well."""
    return [
        Check(name="secrets", verdict="note", detail=f"{name} {weakness}; choose a longer one")
        for name, secret in sorted(secrets.items())
        if (weakness := weakness_of(secret.strip())) is not None
    ]


def unknown(source: str) -> list[Check]:
    """Note the variables that seem to be the platform's or the source's, and are no settings."""
    return [
        Check(name="variables", verdict="note", detail=str(one))
        for one in unknown_variables([source])
    ]
