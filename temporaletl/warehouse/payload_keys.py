"""Payload keys that are in use: their ids and check values, never the keys.

Whoever encrypts enters the key that it does so with. It stays entered until it is retired, so that
a process that lacks it is refused before it meets something that it cannot decrypt.
"""

from datetime import datetime, timedelta

from psycopg import sql
from psycopg.rows import class_row

from temporaletl.errors import ConfigurationError, NotFoundError
from temporaletl.messages import Message
from temporaletl.temporal.payload_keys import PayloadKeys, Sealed
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.sessions import only_row

#: How exact `last_used_at` is.
_USED_WITHIN = timedelta(minutes=5)
#: Tables whose column `body` is encrypted with the key of `key_id`, and their keys.
_ENCRYPTED = {
    "pipeline_results": ("execution_id", "node", "part"),
    "pipeline_items": ("execution_id", "node", "item"),
}
_ROWS_AT_ONCE = 100


class KeyInUse(Message):
    """A payload key that encrypted something; `results` are the rows that it still does."""

    key_id: str
    check_value: str
    first_used_at: datetime
    last_used_at: datetime
    results: int = 0


def enter_keys(warehouse: Warehouse) -> None:
    """Enter the keys that this process encrypted with, and the one that it will.

    The one that it will is entered only where this process has every key that is in use. Safe to
    repeat. A warehouse of an earlier version has none in use.

    Raises:
        ConfigurationError: one is missing, or another key than that of its id; says which.
    """
    keys = warehouse.payload_keys
    with warehouse.connection() as connection:
        if only_row(connection.execute("SELECT to_regclass('etl_payload_keys')"))[0] is None:
            return
        # One may have encrypted for a moment only, and not be here any more.
        used = keys.unentered
        for key_id, check_value in sorted(used.items()):
            _enter(connection, key_id, check_value)
    keys.note_entered(frozenset(used))
    with warehouse.connection() as connection:
        for one in _entered(connection):
            _check(keys, one)
        first = keys.first
        known = None if first is None else keys.check_value(first)
        if first is None or known is None:
            return
        _enter(connection, first, known)
    keys.note_entered(frozenset({first}))


def _enter(connection: Connection, key_id: str, check_value: str) -> None:
    connection.execute(
        """
        INSERT INTO etl_payload_keys AS k (key_id, check_value) VALUES (%s, %s)
        ON CONFLICT (key_id) DO UPDATE SET last_used_at = clock_timestamp()
        WHERE k.last_used_at < clock_timestamp() - %s
        """,
        [key_id, check_value, _USED_WITHIN],
    )


def _entered(connection: Connection) -> list[KeyInUse]:
    return (
        connection.cursor(row_factory=class_row(KeyInUse))
        .execute(
            "SELECT key_id, check_value, first_used_at, last_used_at FROM etl_payload_keys "
            "ORDER BY first_used_at, key_id"
        )
        .fetchall()
    )


def _check(keys: PayloadKeys, entered: KeyInUse) -> None:
    known = keys.check_value(entered.key_id)
    if known is None:
        when = entered.last_used_at.isoformat(timespec="minutes")
        where = f"is not in {keys.place}" if keys.ids else f"{keys.place} is not set"
        raise ConfigurationError(
            f"payload key {entered.key_id!r} encrypted payloads and results, the last ones about "
            f"{when}, and {where}: add it, behind the key that is to encrypt from now on; or, "
            f"where it is needed no more, `etl key retire {entered.key_id}`"
        )
    if known != entered.check_value:
        raise ConfigurationError(
            f"payload key {entered.key_id!r} in {keys.place} is another key than the one that "
            "encrypted under this id: put that one there; a new key needs a new id"
        )


def list_keys(warehouse: Warehouse) -> list[KeyInUse]:
    """The keys in use, the oldest first, with how many rows of results they encrypt."""
    with warehouse.connection() as connection:
        counts = dict[str, int]()
        for table in _ENCRYPTED:
            query = sql.SQL(
                "SELECT key_id, count(*) FROM {} WHERE key_id IS NOT NULL GROUP BY key_id"
            ).format(sql.Identifier(table))
            for key_id, rows in connection.execute(query).fetchall():
                counts[str(key_id)] = counts.get(str(key_id), 0) + int(str(rows))
        return [
            one.model_copy(update={"results": counts.get(one.key_id, 0)})
            for one in _entered(connection)
        ]


def encrypt_anew(warehouse: Warehouse, key_id: str) -> int:
    """Encrypt the results that a key encrypts with the first one; return how many rows.

    Each some rows in a transaction of their own; safe to repeat, and beside what writes results.

    Raises:
        MissingPayloadKeyError, UndecryptablePayloadError: as `PayloadKeys.open`.
    """
    return sum(_encrypt_table(warehouse, key_id, table) for table in _ENCRYPTED)


def _encrypt_table(warehouse: Warehouse, key_id: str, table: str) -> int:
    names = _ENCRYPTED[table]
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    found = sql.SQL(
        "SELECT {}, body FROM {} WHERE key_id = %s LIMIT %s FOR UPDATE SKIP LOCKED"
    ).format(columns, sql.Identifier(table))
    written = sql.SQL("UPDATE {} SET body = %s, key_id = %s WHERE ({}) = ({})").format(
        sql.Identifier(table), columns, sql.SQL(", ").join([sql.Placeholder()] * len(names))
    )
    keys, changed = warehouse.payload_keys, 0
    while True:
        with warehouse.connection() as connection:
            rows = connection.execute(found, [key_id, _ROWS_AT_ONCE]).fetchall()
            for *place, body in rows:
                plain = keys.open(Sealed(key_id, bytes(body)), "result")  # type: ignore[call-overload]
                sealed = keys.seal(plain, "result")
                assert sealed is not None  # noqa: S101 - the caller has checked that there is one
                connection.execute(written, [sealed.body, sealed.key_id, *place])
        changed += len(rows)
        if not rows:
            return changed


def forget_key(connection: Connection, key_id: str) -> None:
    """Forget that a key was in use, in the caller's transaction.

    Raises:
        NotFoundError: it is not in use.
    """
    found = connection.execute("DELETE FROM etl_payload_keys WHERE key_id = %s", [key_id])
    if found.rowcount != 1:
        raise NotFoundError(f"no payload key {key_id!r} is in use (`etl key list`)")
