"""Collections: named sets of connections, of whatever origin."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from psycopg import errors, sql
from psycopg.rows import dict_row

from temporaletl.bound_connection import DEFAULT
from temporaletl.errors import ConflictError, NotFoundError
from temporaletl.messages import Message
from temporaletl.names import label
from temporaletl.rows import storable_text
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.sessions import only_row


class Member(Message):
    """A connection of a source."""

    source: str
    connection: str = DEFAULT

    def __str__(self) -> str:
        return label(self.source, self.connection)


class Collection(Message):
    """A collection with its members, in order of source and connection."""

    collection_id: UUID
    name: str
    members: tuple[Member, ...]
    created_at: datetime
    updated_at: datetime
    version: int


_SELECT = sql.SQL(
    """
    SELECT c.collection_id, c.name, c.created_at, c.updated_at, c.version, coalesce(
        (SELECT jsonb_agg(jsonb_build_object('source', source, 'connection', connection)
                          ORDER BY source, connection)
         FROM collection_members AS m WHERE m.collection_id = c.collection_id), '[]') AS members
    FROM collections AS c {}
    """
)


def list_collections(warehouse: Warehouse) -> list[Collection]:
    """All collections, by name."""
    with warehouse.connection() as connection:
        rows = connection.cursor(row_factory=dict_row).execute(
            _SELECT.format(sql.SQL("ORDER BY c.name"))
        )
        return [Collection.model_validate(row) for row in rows]


def find_collection(warehouse: Warehouse, key: str | UUID) -> Collection:
    """The collection of that name or id.

    Raises:
        NotFoundError: there is none.
    """
    with warehouse.connection() as connection:
        return _find(connection, key)


def lock_collection(connection: Connection, key: str | UUID) -> Collection:
    """The same, until the caller's transaction ends changed by nobody else."""
    by = sql.Identifier(_column(key))
    query = sql.SQL("SELECT FROM collections WHERE {} = %s FOR UPDATE").format(by)
    connection.execute(query, [_storable(key)])
    return _find(connection, key)


def _column(key: str | UUID) -> str:
    return "collection_id" if isinstance(key, UUID) else "name"


def _find(connection: Connection, key: str | UUID) -> Collection:
    where = sql.SQL("WHERE c.{} = %s").format(sql.Identifier(_column(key)))
    row = (
        connection.cursor(row_factory=dict_row)
        .execute(_SELECT.format(where), [_storable(key)])
        .fetchone()
    )
    if row is None:
        raise NotFoundError(f"there is no collection '{_storable(key)}'")
    return Collection.model_validate(row)


def create_collection(connection: Connection, name: str, members: Sequence[Member]) -> Collection:
    """Create a collection in the caller's transaction. A member named twice counts once.

    Raises:
        ConflictError: there is one of that name.
    """
    try:
        with connection.transaction():
            row = only_row(
                connection.cursor(row_factory=dict_row).execute(
                    "INSERT INTO collections (name) VALUES (%s) RETURNING collection_id", [name]
                )
            )
    except errors.UniqueViolation:
        raise _taken(name) from None
    _put_members(connection, row["collection_id"], members)
    return _find(connection, row["collection_id"])


def replace_collection(
    connection: Connection, present: Collection, name: str, members: Sequence[Member]
) -> Collection:
    """Replace name and members of a locked collection, in the caller's transaction.

    Raises:
        ConflictError: another one has that name.
    """
    try:
        with connection.transaction():
            connection.execute(
                "UPDATE collections SET name = %s, version = version + 1, updated_at = now() "
                "WHERE collection_id = %s",
                [name, present.collection_id],
            )
    except errors.UniqueViolation:
        raise _taken(name) from None
    connection.execute(
        "DELETE FROM collection_members WHERE collection_id = %s", [present.collection_id]
    )
    _put_members(connection, present.collection_id, members)
    return _find(connection, present.collection_id)


def _taken(name: str) -> ConflictError:
    return ConflictError(f"there is a collection {name!r} already")


def _put_members(connection: Connection, collection_id: UUID, members: Sequence[Member]) -> None:
    connection.execute(
        """
        INSERT INTO collection_members (collection_id, source, connection)
        SELECT %s, * FROM unnest(%s::text[], %s::text[]) ON CONFLICT DO NOTHING
        """,
        [collection_id, [one.source for one in members], [one.connection for one in members]],
    )


def delete_collection(connection: Connection, present: Collection) -> None:
    """Delete a locked collection, in the caller's transaction; its members stay connections."""
    connection.execute("DELETE FROM collections WHERE collection_id = %s", [present.collection_id])


def _storable(key: str | UUID) -> str | UUID:
    return key if isinstance(key, UUID) else storable_text(key)
