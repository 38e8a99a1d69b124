"""Migrations of the platform's own tables."""

from importlib.resources import files

from psycopg import sql

from temporaletl.errors import WarehouseCredentialsError
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.sessions import only_row

# Any number will do, as long as all processes that migrate take the same.
_LOCK = 7_233_301


def migrate(warehouse: Warehouse) -> list[str]:
    """Apply the migrations that are missing, each in order, and return their names.

    Safe to repeat and to run from many processes at once. Needs the CREATE privilege only while
    something is missing.

    Raises:
        CredentialsError: the user lacks CREATE; the message says on what.
    """
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
        missing = [name for name in _names() if name not in applied]
        if not missing:
            return []
        if not (may_create if exists else may_create_schema):
            on = f"SCHEMA {warehouse.schema}" if exists else f"DATABASE {database}"
            raise WarehouseCredentialsError(
                f"database user {user} lacks CREATE on {on}, where the warehouse's tables are "
                f"still to be created: GRANT CREATE ON {on} TO {user}"
            )
        connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
        if not exists:  # even IF NOT EXISTS needs the privilege to create one
            connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(schema))
        connection.execute(
            "CREATE TABLE IF NOT EXISTS etl_migrations "
            "(name text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        )
        done = []
        for name in missing:
            new = connection.execute(
                "INSERT INTO etl_migrations (name) VALUES (%s) ON CONFLICT DO NOTHING", [name]
            )
            if new.rowcount == 1:
                connection.execute(_read(name))
                done.append(name)
        return done


def _applied(connection: Connection) -> set[str]:
    if connection.execute("SELECT to_regclass('etl_migrations')").fetchone() == (None,):
        return set()
    return {str(name) for (name,) in connection.execute("SELECT name FROM etl_migrations")}


def _names() -> list[str]:
    folder = files("temporaletl.warehouse") / "migrations"
    return sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".sql"))


def _read(name: str) -> bytes:
    return (files("temporaletl.warehouse") / "migrations" / name).read_bytes()


def missing_migrations(warehouse: Warehouse) -> list[str]:
    """The migrations of this version that the warehouse still lacks, in order."""
    with warehouse.connection() as connection:
        applied = _applied(connection)
    return [name for name in _names() if name not in applied]


def has_ledger(warehouse: Warehouse) -> bool:
    """Whether the warehouse holds the platform's tables, of whatever version."""
    with warehouse.connection() as connection:
        return only_row(connection.execute("SELECT to_regclass('etl_batches')"))[0] is not None
