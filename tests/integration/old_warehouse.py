"""A warehouse as it was before there were connections: the schema of migration 0008."""

from collections.abc import Iterable

import pytest
from psycopg import sql

from temporaletl.rows import Identity, Row
from temporaletl.warehouse import migration
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate
from temporaletl.worker.loading.columns import HASH, layout_of

CONNECTIONS = "0011_connections.sql"
_FIRST_LATER = "0009"


def migrate_to_0008(warehouse: Warehouse, patch: pytest.MonkeyPatch) -> None:
    """Make the platform's own tables as they were."""
    migrate_before(_FIRST_LATER, warehouse, patch)


def migrate_before(first: str, warehouse: Warehouse, patch: pytest.MonkeyPatch) -> None:
    """Make them as they were before the migration whose name begins so."""
    names = [name for name in migration.known_migrations() if name < first]
    with patch.context() as patched:
        patched.setattr(migration, "known_migrations", lambda: names)
        migrate(warehouse)


def later_migrations() -> list[str]:
    """What brings them to the present version."""
    return [name for name in migration.known_migrations() if name >= _FIRST_LATER]


def create_old_table(warehouse: Warehouse, row: type[Row], sources: Iterable[str] = ()) -> None:
    """Create a row class's table, and its partitions, as the loader did then."""
    layout = layout_of(row)
    root = sql.Identifier(layout.table)
    columns = sql.SQL(", ").join(
        sql.SQL("{} {}{}").format(
            sql.Identifier(column.name),
            sql.SQL(column.type),
            sql.SQL(' COLLATE "C"' if column.name in layout.key and column.type == "text" else ""),
        )
        for column in layout.columns
        if column.name != layout.connection
    )
    with warehouse.connection() as connection:
        connection.execute(
            sql.SQL("CREATE TABLE {} ({}, PRIMARY KEY ({}) INCLUDE ({})){}").format(
                root,
                columns,
                sql.SQL(", ").join(map(sql.Identifier, old_key(row))),
                sql.Identifier(layout.ours[HASH]),
                sql.SQL(" PARTITION BY LIST (source_kind_id)" if layout.partitioned else ""),
            )
        )
        for source in sources:
            partition = sql.Identifier(f"{source}_{layout.table}")
            connection.execute(
                sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(partition, root)
            )
            connection.execute(
                sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES IN ({})").format(
                    root, partition, sql.Literal(source)
                )
            )


def old_key(row: type[Row]) -> tuple[str, ...]:
    layout = layout_of(row)
    return tuple(name for name in layout.key if name != layout.connection)


def take_connections_out(warehouse: Warehouse, rows: Iterable[type[Row]]) -> None:
    """Make a warehouse of today, which holds `default` alone, one of then: rows stay in place."""
    with warehouse.connection() as connection:
        classes: list[type[Row]] = [*rows, Identity]
        for row in {each.table: each for each in classes}.values():
            layout = layout_of(row)
            # Its key goes with the column.
            connection.execute(
                sql.SQL(
                    "ALTER TABLE {table} DROP COLUMN {connection} CASCADE, {free}, "
                    "ADD PRIMARY KEY ({key}) INCLUDE ({hash})"
                ).format(
                    table=sql.Identifier(layout.table),
                    connection=sql.Identifier(layout.connection),
                    key=sql.SQL(", ").join(map(sql.Identifier, old_key(row))),
                    hash=sql.Identifier(layout.ours[HASH]),
                    free=sql.SQL(", ").join(
                        sql.SQL("ALTER COLUMN {} DROP NOT NULL").format(sql.Identifier(name))
                        for name in layout.required
                        if name not in layout.key
                        # Of those of people a migration says so.
                        and not (row is Identity and name in ("loaded_at", "updated_at"))
                    ),
                )
            )
        connection.execute(
            """
            ALTER TABLE etl_jobs DROP COLUMN connection;
            ALTER TABLE etl_rejects DROP COLUMN connection,
                ADD CONSTRAINT etl_rejects_source_stream_reject_hash_key
                    UNIQUE (source, stream, reject_hash);
            CREATE INDEX etl_rejects_replay
                ON etl_rejects (source, stream, extracted_at, reject_id);
            CREATE INDEX etl_rejects_unread ON etl_rejects (source, stream, last_seen, reject_id)
                WHERE stage = 'extract';
            """
        )
        # What later ones made stays, and does not depend on it.
        connection.execute("DELETE FROM etl_migrations WHERE name = %s", [CONNECTIONS])
