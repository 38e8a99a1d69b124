"""Migrations of the platform's own tables."""

from functools import cache
from importlib.resources import files
from itertools import takewhile
from typing import Any

import psycopg
from psycopg import errors, sql

from temporaletl.errors import WarehouseCredentialsError, WarehouseUnavailableError
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.sessions import only_row

# Any number will do, as long as all processes that migrate take the same.
_LOCK = 7_233_301
#: How a migration begins that takes long, and must not hold the locks of others meanwhile.
ALONE = b"-- Alone in its transaction"
# Services that load meanwhile lock the same tables in other orders: deadlocks are to be expected.
_REPETITIONS = 20


def migrate(warehouse: Warehouse) -> list[str]:
    """Apply the migrations that are missing, each in order, and return their names.

    Those that begin with `ALONE` have a transaction of their own, the others before and behind it
    share theirs. Safe to repeat and to run from many processes at once. Needs the CREATE privilege
    only while something is missing.

    Raises:
        CredentialsError: the user lacks CREATE; the message says on what.
    """
    made: list[str] = []
    while applied := _migrate_beside_services(warehouse):
        made += applied
    return made


def _migrate_beside_services(warehouse: Warehouse) -> list[str]:
    for _ in range(_REPETITIONS):
        try:
            return _migrate_next(warehouse)
        except WarehouseUnavailableError as error:
            if not isinstance(error.__cause__, errors.DeadlockDetected):
                raise
    return _migrate_next(warehouse)


def _migrate_next(warehouse: Warehouse) -> list[str]:
    """Apply what is missing in one transaction; return the names, none where nothing is."""
    # An index on a large table takes its time.
    with warehouse.connection(unlimited=True) as connection:
        schema = sql.Identifier(warehouse.schema)
        row = only_row(
            connection.execute(
                """
            SELECT n.oid IS NOT NULL,
                   coalesce(has_schema_privilege(n.oid, 'CREATE'), false),
                   has_database_privilege(current_database(), 'CREATE'),
                   current_database(), current_user
            FROM (SELECT 1) AS one LEFT JOIN pg_namespace n ON n.nspname = %s
            """,
                [warehouse.schema],
            )
        )
        exists, may_create, may_create_schema, database, user = row
        applied = _applied(connection) if exists else set()
        missing = [name for name in known_migrations() if name not in applied]
        if not missing:
            return []
        if not (may_create if exists else may_create_schema):
            on = f"SCHEMA {warehouse.schema}" if exists else f"DATABASE {database}"
            raise WarehouseCredentialsError(
                f"database user {user} lacks CREATE on {on}, where the warehouse's tables are "
                f"still to be created: run `etl migrate` as a user who has it, or GRANT CREATE ON "
                f"{on} TO {user}"
            )
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        if not exists:  # even IF NOT EXISTS needs the privilege to create one
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
        applied = _applied(connection)  # by another process, which held the lock
        missing = _together([name for name in missing if name not in applied])
        if missing:
            connection.execute(_statements(missing))
        return missing


def _together(missing: list[str]) -> list[str]:
    """The first of these that share a transaction."""
    if not missing or _read(missing[0]).startswith(ALONE):
        return missing[:1]
    return [*takewhile(lambda name: not _read(name).startswith(ALONE), missing)]


def create_schema(connection: psycopg.Connection[Any], name: str) -> None:
    """Create a schema with all that `migrate` would create in it, by any connection.

    For many warehouses of one process: the server's process knows its catalogue by then, which
    costs it most of a migration's time.

    Raises:
        psycopg.Error: as the statements do; nothing is left behind.
    """
    schema = sql.Identifier(name)
    with connection.transaction():
        connection.execute(
            sql.SQL("CREATE SCHEMA {}; SET LOCAL search_path TO {}").format(schema, schema)
        )
        connection.execute(_statements(known_migrations()))


def _statements(missing: list[str]) -> bytes:
    """What applies these migrations, as one message."""
    entries = sql.SQL(
        "CREATE TABLE IF NOT EXISTS etl_migrations "
        "(name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now()); "
        "INSERT INTO etl_migrations (name) VALUES {}"
    ).format(sql.SQL(", ").join(sql.SQL("({})").format(sql.Literal(name)) for name in missing))
    return b";\n".join([entries.as_bytes(None), *map(_read, missing)])


def _applied(connection: Connection) -> set[str]:
    if connection.execute("SELECT to_regclass('etl_migrations')").fetchone() == (None,):
        return set()
    return {str(name) for (name,) in connection.execute("SELECT name FROM etl_migrations")}


def known_migrations() -> list[str]:
    """The names of this version's migrations, in order."""
    folder = files("temporaletl.warehouse") / "migrations"
    return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))


@cache
def _read(name: str) -> bytes:
    return (files("temporaletl.warehouse") / "migrations" / name).read_bytes()


def missing_migrations(warehouse: Warehouse) -> list[str]:
    """The migrations of this version that the warehouse still lacks, in order."""
    with warehouse.connection() as connection:
        applied = _applied(connection)
    return [name for name in known_migrations() if name not in applied]


def has_ledger(warehouse: Warehouse) -> bool:
    """Whether the warehouse holds the platform's tables, of whatever version."""
    with warehouse.connection() as connection:
        return only_row(connection.execute("SELECT to_regclass('etl_batches')"))[0] is not None
