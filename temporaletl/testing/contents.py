"""The contents of a warehouse: a source's rows by table and key, rejects, everything as text."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads

from temporaletl.bound_connection import DEFAULT, bound
from temporaletl.rows import Row
from temporaletl.strategies import planners, resolve
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading.columns import layout_of

#: One row's columns without the lineage.
Content = Mapping[str, Any]


def tables_of(source: str) -> dict[str, type[Row]]:
    """The row classes that the streams of a source load, by table."""
    with bound(source, DEFAULT):
        streams = planners.get(source).streams
    return {row.table: row for stream in streams for row in resolve(source, stream).rows}


def key_of(row: type[Row], content: Mapping[str, Any]) -> str:
    """The row's key without the source: an event's id, else the key columns joined by "/"."""
    return "/".join(str(content[name]) for name in row.key if name != "source_kind_id")


@dataclass(frozen=True)
class Stored:
    """One stored row: its content, and its lineage."""

    content: Content
    #: Versions and lineage under the usual column names, also where the table has others.
    lineage: Content


def read_rows(
    warehouse: Warehouse, source: str, connection: str = DEFAULT
) -> dict[str, dict[str, Stored]]:
    """Every row of a connection in the source's tables, by table and key."""
    found: dict[str, dict[str, Stored]] = {}
    for table, kind in tables_of(source).items():
        layout = layout_of(kind)
        ours = layout.ours
        names = set(ours.values())
        found[table] = {
            key_of(kind, row): Stored(
                {name: value for name, value in row.items() if name not in names},
                {usual: row[name] for usual, name in ours.items()},
            )
            for row in _select(warehouse, "*", table)
            if row[layout.connection] == connection
        }
    return found


def read_content(
    warehouse: Warehouse, source: str, connection: str = DEFAULT
) -> dict[str, dict[str, Content]]:
    """The content of a connection's rows by table and key, without lineage."""
    return {
        table: {key: row.content for key, row in rows.items()}
        for table, rows in read_rows(warehouse, source, connection).items()
    }


def read_locations(
    warehouse: Warehouse, source: str, connection: str = DEFAULT
) -> dict[str, set[tuple[str, str, str]]]:
    """The physical locations of a connection's row versions; any write to a row changes them."""
    columns = "*, tableoid::text AS at_part, ctid::text AS at_location, xmin::text AS at_writer"
    return {
        table: {
            (row["at_part"], row["at_location"], row["at_writer"])
            for row in _select(warehouse, columns, table)
            if row[layout_of(kind).connection] == connection
        }
        for table, kind in tables_of(source).items()
    }


def read_rejects(warehouse: Warehouse) -> list[dict[str, Any]]:
    return _select(warehouse, "*", "etl_rejects")


def read_loaded_streams(warehouse: Warehouse) -> set[str]:
    """The streams all of whose jobs completed in the latest batch."""
    with warehouse.connection() as connection:
        found = connection.execute(
            """
            SELECT stream FROM etl_jobs WHERE batch_id = (
                SELECT batch_id FROM etl_batches ORDER BY created_at DESC LIMIT 1)
            GROUP BY stream HAVING bool_and(windowless OR state = 'completed')
            """
        ).fetchall()
    return {str(stream) for (stream,) in found}


def read_as_text(warehouse: Warehouse) -> str:
    """Everything that the warehouse holds, data and ledger, as text."""
    with warehouse.connection() as connection:
        tables = connection.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s", [warehouse.schema]
        ).fetchall()
    rows: Sequence[Any] = [
        row for (table,) in tables for row in _select(warehouse, "t::text", f"{table}")
    ]
    return "\n".join(str(row) for row in rows)


def _select(warehouse: Warehouse, columns: str, table: str) -> list[dict[str, Any]]:
    statement = sql.SQL("SELECT {} FROM {} AS t").format(
        sql.SQL(columns),
        sql.Identifier(table),
    )
    with warehouse.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        set_json_loads(_loads, cursor)
        return cursor.execute(statement).fetchall()


@lru_cache(maxsize=10_000)  # the checks of a source load the same, again and again
def _loads(text: str | bytes) -> Any:
    return json.loads(text, parse_int=_number)


def _number(digits: str) -> int | str:
    """Parse an integer; one with more digits than Python converts stays text."""
    return int(digits) if len(digits) < sys.int_info.default_max_str_digits else digits
