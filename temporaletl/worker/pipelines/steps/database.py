"""Step database: one statement that reads, or rows that are written, on a named connection."""

import asyncio
import base64
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from typing import Any

import msgspec
import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from temporaletl.errors import PermanentError, SourceUnavailableError
from temporaletl.secrets import cleaned, redacted
from temporaletl.warehouse.pipeline_results import split
from temporaletl.worker.pipelines.databases import Database, find_database
from temporaletl.worker.pipelines.nodes.loading import DatabaseData
from temporaletl.worker.pipelines.steps.context import PART_BYTES, PART_ITEMS, NodeContext, Produced

_MEGABYTE = 1_000_000
_LOCK_MILLISECONDS = 30_000
#: Roles that read files, or run programs, also where nothing may be written.
_TOO_MIGHTY = ("pg_read_server_files", "pg_write_server_files", "pg_execute_server_program")
#: Classes of SQLSTATE that may be others the next time: connection, resources, intervention,
#: rollback, lock, system.
_PASSING = ("08", "53", "57", "40", "55", "58")
_CANCELLED = "57014"
_BY_NAME = "parameters go by name, as in %(name)s; a % that is no parameter is written %%"
#: What psycopg says of a statement that gives none.
_NO_ROWS = ("didn't produce a result", "cannot be used with this method", "EMPTY_QUERY")
#: As many as a table of PostgreSQL has at most.
_MOST_COLUMNS = 1_600
#: Keys of the inserts that were made: in the target, so that it commits with them.
_WRITES = "CREATE TABLE pipeline_writes (key text PRIMARY KEY, at timestamptz DEFAULT now())"

type _Session = psycopg.Connection[tuple[Any, ...]]


async def run_database(context: NodeContext[DatabaseData]) -> Produced:
    """Give the rows of a query, or how many rows were written."""
    data = context.data
    database = await asyncio.to_thread(find_database, data.connection)
    within = min(database.statement_timeout, timedelta(seconds=data.timeout_seconds))
    if data.operation == "query":
        params = await context.fill(data.params)
        most = context.services.settings.list_megabytes * _MEGABYTE
        parts = await asyncio.to_thread(_query, database, data, params, within, most)
        return Produced(parts=parts, details={"rows": sum(map(len, parts))})
    if not database.writable:
        raise PermanentError(f"database {database.name} may be read alone")
    rows = await context.value(data.rows or "")
    key = context.idempotency_key
    count = await asyncio.to_thread(_write, database, data, checked_rows(rows), within, key)
    return Produced({"rows": count}, details={"rows": count})


@contextmanager
def _session(database: Database, within: timedelta, *, read_only: bool) -> Iterator[_Session]:
    """A transaction of its own, bounded in time.

    Raises:
        SourceUnavailableError: the database does not answer, or may do it the next time.
        PermanentError: it refused.
    """
    try:
        with psycopg.connect(database.conninfo(), connect_timeout=10) as session:
            session.read_only = read_only
            session.prepare_threshold = None
            milliseconds = max(1, round(within / timedelta(milliseconds=1)))
            for name, value in (
                ("statement_timeout", milliseconds),
                ("lock_timeout", _LOCK_MILLISECONDS),
                ("idle_in_transaction_session_timeout", _LOCK_MILLISECONDS),
                ("timezone", "UTC"),
            ):
                session.execute(
                    sql.SQL("SET LOCAL {} TO {}").format(sql.Identifier(name), sql.Literal(value))
                )
            yield session
    except psycopg.Error as error:
        raise _translated(error, database, within) from None


def _translated(
    error: psycopg.Error, database: Database, within: timedelta
) -> PermanentError | SourceUnavailableError:
    state = error.sqlstate or ""
    message = " ".join((error.diag.message_primary or str(error)).split())
    told = f"database {database.name}: {message}"
    if state == _CANCELLED:
        return PermanentError(
            f"{told}: it may take {within.total_seconds():g} s; statement_timeout_seconds in "
            "PIPELINE_DATABASES, and the node's timeout_seconds, allow more"
        )
    if "allowed as placeholders" in message or "incomplete placeholder" in message:
        return PermanentError(f"{told}; a % that is no parameter is written %% where there are any")
    if any(one in message for one in _NO_ROWS):
        return PermanentError(f"database {database.name}: query takes a statement that gives rows")
    broken = isinstance(error, psycopg.OperationalError) and not state
    if broken or state.startswith(_PASSING):
        return SourceUnavailableError(told)
    return PermanentError(told)


# Reading


def _query(
    database: Database,
    data: DatabaseData,
    params: Mapping[str, JsonValue],
    within: timedelta,
    most_bytes: float,
) -> list[list[JsonValue]]:
    with _session(database, within, read_only=True) as session:
        _check_role(session, database)
        values = {name: _parameter(value) for name, value in params.items()} or None
        cursor = session.cursor()
        rows: list[JsonValue] = []
        names: list[str] = []
        size = 0
        # Streamed by the extended protocol, which takes one statement alone.
        for number, row in enumerate(_streamed(cursor, data, values, database), 1):
            names = names or _names_of(cursor, database)
            found = {name: _as_json(value) for name, value in zip(names, row, strict=True)}
            size += len(msgspec.json.encode(found))
            if number > data.max_rows:
                raise PermanentError(f"{database.name}: more rows than max_rows = {data.max_rows}")
            if size > most_bytes:
                msg = f"{database.name}: its rows are more than PIPELINE_LIST_MB allows"
                raise PermanentError(msg)
            rows.append(found)
    parts = split(rows, most_items=PART_ITEMS, most_bytes=PART_BYTES)
    return [_without_secrets(part) for part in parts]


def _streamed(
    cursor: psycopg.Cursor[tuple[Any, ...]],
    data: DatabaseData,
    values: dict[str, Any] | None,
    database: Database,
) -> Iterator[tuple[Any, ...]]:
    try:
        yield from cursor.stream((data.query or "").encode(), values)
    except TypeError as error:  # its parameters have no names
        raise PermanentError(f"database {database.name}: {error}: {_BY_NAME}") from None


def _without_secrets(part: list[JsonValue]) -> list[JsonValue]:
    """A part without the secrets that its statement may have got as parameters."""
    text = msgspec.json.encode(part).decode()
    found: list[JsonValue] = part if redacted(text) == text else cleaned(part)
    return found


def _check_role(session: _Session, database: Database) -> None:
    """Check that the role can read no files: a transaction that only reads lets it."""
    roles = session.execute(
        "SELECT rolname FROM pg_roles WHERE rolname = ANY (%s) "
        "AND pg_has_role(current_user, oid, 'MEMBER')",
        [[*_TOO_MIGHTY]],
    ).fetchall()
    if roles:
        listed = ", ".join(role for (role,) in roles)
        raise PermanentError(
            f"database {database.name}: queries run by no superuser, and by no member of {listed}: "
            "give it a role that can read what it needs"
        )


def _names_of(cursor: psycopg.Cursor[Any], database: Database) -> list[str]:
    names = [column.name for column in cursor.description or ()]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        listed = ", ".join(twice)
        raise PermanentError(f"{database.name}: two columns are called {listed}: name one with AS")
    return names


def _parameter(value: JsonValue) -> Any:
    """A value as PostgreSQL gets it: a list is an array, an object is jsonb."""
    if isinstance(value, dict):
        return Jsonb(value)
    if isinstance(value, list):
        mixed = any(isinstance(one, float) for one in value)
        return [
            float(one)
            if mixed and isinstance(one, int) and not isinstance(one, bool)
            else _parameter(one)
            for one in value
        ]
    return value


def _as_json(value: Any) -> JsonValue:  # noqa: PLR0911 - one for each kind
    """A value of a column: decimals, times and all else that JSON has not are exact texts."""
    match value:
        case float() if not math.isfinite(value):
            return str(value)
        case None | bool() | int() | str() | float():
            return value
        case datetime() | date() | time():
            return value.isoformat()
        case bytes() | memoryview():
            return base64.b64encode(value).decode()
        case list() | tuple():
            return [_as_json(one) for one in value]
        case dict():
            return {str(name): _as_json(one) for name, one in value.items()}
    return str(value)


# Writing


def checked_rows(rows: JsonValue) -> list[dict[str, JsonValue]]:
    """The rows that an expression gives: objects with columns.

    Raises:
        PermanentError: it gives others.
    """
    rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list):
        raise PermanentError("rows is no list of objects")
    checked: list[dict[str, JsonValue]] = []
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or not row:
            raise PermanentError(f"rows[{number}] is no object with columns")
        if len(row) > _MOST_COLUMNS:
            msg = (
                f"rows[{number}] has {len(row):,} columns: no table has more than {_MOST_COLUMNS:,}"
            )
            raise PermanentError(msg)
        checked.append(row)
    return checked


def _write(
    database: Database,
    data: DatabaseData,
    rows: list[dict[str, JsonValue]],
    within: timedelta,
    key: str,
) -> int:
    """Write all rows, or none, in one transaction; safe to repeat."""
    by_columns: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for number, row in enumerate(rows):
        missing = [name for name in data.key if row.get(name) is None]
        if missing:
            raise PermanentError(f"rows[{number}] lacks {', '.join(missing)} of the key")
        values = {name: _parameter(value) for name, value in row.items()}
        by_columns.setdefault(tuple(row), []).append(values)
    with _session(database, within, read_only=False) as session:
        if data.operation == "insert" and not data.key and not _is_first(session, key):
            return len(rows)
        for columns, written in by_columns.items():
            statement = _statement(data, columns)
            numbered = [{f"c{i}": row[name] for i, name in enumerate(columns)} for row in written]
            session.cursor().executemany(statement, numbered)
    return len(rows)


def _is_first(session: _Session, key: str) -> bool:
    """Note an insert that no key makes safe to repeat; False where it was made before."""
    found = session.execute("SELECT to_regclass('pipeline_writes')").fetchone()
    if found is None or found[0] is None:
        try:
            with session.transaction():
                session.execute(_WRITES)
        except psycopg.errors.InsufficientPrivilege:
            raise PermanentError(
                f"an insert without key needs a table that keeps it from being repeated: {_WRITES}"
            ) from None
        except (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable):
            pass  # another one has just created it
    noted = session.execute(
        "INSERT INTO pipeline_writes (key) VALUES (%s) ON CONFLICT DO NOTHING", [key]
    )
    return noted.rowcount == 1


def _statement(data: DatabaseData, columns: Sequence[str]) -> sql.Composed:
    table = sql.Identifier(data.table or "")
    fields = {name: sql.Placeholder(f"c{i}") for i, name in enumerate(columns)}
    others = [name for name in columns if name not in data.key]
    key = sql.SQL(", ").join(map(sql.Identifier, data.key))
    if data.operation == "update":
        if not others:
            raise PermanentError("update needs columns besides those of the key")
        return sql.SQL("UPDATE {} SET {} WHERE {}").format(
            table,
            sql.SQL(", ").join(_equal(name, fields[name]) for name in others),
            sql.SQL(" AND ").join(_equal(name, fields[name]) for name in data.key),
        )
    insert = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
        table,
        sql.SQL(", ").join(map(_column, columns)),
        sql.SQL(", ").join(fields.values()),
    )
    if not data.key:
        return sql.Composed([insert])
    excluded = (sql.SQL("{0} = excluded.{0}").format(_column(name)) for name in others)
    if data.operation == "upsert" and others:
        done: sql.Composable = sql.SQL("DO UPDATE SET {}").format(sql.SQL(", ").join(excluded))
    else:
        done = sql.SQL("DO NOTHING")
    return sql.SQL("{} ON CONFLICT ({}) {}").format(insert, key, done)


def _equal(name: str, value: sql.Placeholder) -> sql.Composed:
    return sql.SQL("{} = {}").format(_column(name), value)


def _column(name: str) -> sql.Identifier:
    """The name of a column in a statement that has parameters, where % is written twice."""
    return sql.Identifier(name.replace("%", "%%"))
