"""Items of a `map`: what is to be done with them, chunk by chunk, and what became of each.

An item is recorded once, together with a hash of what was done with it: of another hash, it is
another item, and is done anew. What is recorded of the same item first stands.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from psycopg.rows import class_row
from pydantic import JsonValue

from temporaletl.rows import storable_text
from temporaletl.secrets import cleaned
from temporaletl.warehouse.connection import Connection
from temporaletl.warehouse.pipeline_results import decode, read_row, sealed_body
from temporaletl.warehouse.sessions import only_row


class SettledItem(NamedTuple):
    """What became of an item: its result as `encode` gave it, or why there is none."""

    item: int
    input_sha256: str
    attempts: int
    size: int = 0
    body: bytes | None = None
    error: Mapping[str, JsonValue] | None = None

    @property
    def state(self) -> str:
        return "completed" if self.error is None else "failed"


class Chunk(NamedTuple):
    """Some items that follow each other, from the number `first` on, in one of `chunks`.

    `settled` has the state and the hash of those that are recorded, by number.
    """

    items: list[JsonValue]
    first: int
    chunks: int
    settled: dict[int, tuple[str, str]]


class ItemError(NamedTuple):
    """Why an item failed."""

    item: int
    type: str
    message: str


def read_chunk(connection: Connection, execution_id: str, node: str, chunk: int) -> Chunk | None:
    """A chunk of what a node waits for; None where the node does not wait any more."""
    waits = connection.execute(
        "SELECT 1 FROM pipeline_nodes WHERE execution_id = %s AND node = %s "
        "AND state = 'running' AND wait IS NOT NULL FOR SHARE",
        [execution_id, node],
    ).fetchone()
    part = read_row(connection, execution_id, node, chunk)
    if waits is None or part is None:
        return None
    sizes = chunk_sizes(connection, execution_id, node)
    items, first = part.value, sum(sizes[:chunk])
    assert isinstance(items, list)  # noqa: S101 - as run_map wrote it
    found: list[Any] = connection.execute(
        "SELECT item, state, input_sha256 FROM pipeline_items WHERE execution_id = %s "
        "AND node = %s AND item >= %s AND item < %s",
        [execution_id, node, first, first + len(items)],
    ).fetchall()
    settled = {item: (state, digest) for item, state, digest in found}
    return Chunk(items, first, len(sizes), settled)


def chunk_sizes(connection: Connection, execution_id: str, node: str) -> list[int]:
    """How many items each chunk has."""
    found: list[Any] = connection.execute(
        "SELECT items FROM pipeline_results WHERE execution_id = %s AND node = %s ORDER BY part",
        [execution_id, node],
    ).fetchall()
    return [int(row[0]) for row in found]


def record_items(
    connection: Connection, execution_id: str, node: str, items: Sequence[SettledItem]
) -> None:
    """Record what became of items, in the caller's transaction. Safe to repeat."""
    keys = connection.payload_keys
    sealed = [(None, None) if one.body is None else sealed_body(keys, one.body) for one in items]
    connection.execute(
        """
        INSERT INTO pipeline_items AS i
            (execution_id, node, item, input_sha256, state, attempts, bytes, body, key_id, error)
        SELECT %(execution_id)s, %(node)s, item, input_sha256, state, attempts, bytes, body,
               key_id, error::jsonb
        FROM unnest(%(items)s::integer[], %(hashes)s::text[], %(states)s::text[],
                    %(attempts)s::integer[], %(bytes)s::bigint[], %(bodies)s::bytea[],
                    %(key_ids)s::text[], %(errors)s::text[])
             AS settled(item, input_sha256, state, attempts, bytes, body, key_id, error)
        ON CONFLICT (execution_id, node, item) DO UPDATE
        SET input_sha256 = excluded.input_sha256, state = excluded.state,
            attempts = excluded.attempts, bytes = excluded.bytes, body = excluded.body,
            key_id = excluded.key_id, error = excluded.error, ended_at = excluded.ended_at
        WHERE i.input_sha256 <> excluded.input_sha256
        """,
        {
            "execution_id": execution_id,
            "node": node,
            "items": [one.item for one in items],
            "hashes": [one.input_sha256 for one in items],
            "states": [one.state for one in items],
            "attempts": [one.attempts for one in items],
            "bytes": [one.size for one in items],
            "bodies": [body for body, _ in sealed],
            "key_ids": [key_id for _, key_id in sealed],
            "errors": [
                None if one.error is None else json.dumps(cleaned(one.error, storable_text))
                for one in items
            ],
        },
    )


def count_failed(connection: Connection, execution_id: str, node: str, items: int) -> int:
    """How many of the first `items` items failed."""
    found = connection.execute(
        "SELECT count(*) FROM pipeline_items WHERE execution_id = %s AND node = %s "
        "AND item < %s AND state = 'failed'",
        [execution_id, node, items],
    )
    return int(only_row(found)[0])


def failed_items(
    connection: Connection, execution_id: str, node: str, items: int, *, most: int
) -> list[ItemError]:
    """Why the first of the first `items` items failed, at most `most` of them, in their order."""
    return (
        connection.cursor(row_factory=class_row(ItemError))
        .execute(
            """
            SELECT item, error ->> 'type' AS type, error ->> 'message' AS message
            FROM pipeline_items
            WHERE execution_id = %s AND node = %s AND item < %s AND state = 'failed'
            ORDER BY item LIMIT %s
            """,
            [execution_id, node, items, most],
        )
        .fetchall()
    )


def iterate_results(
    connection: Connection, execution_id: str, node: str, sizes: Sequence[int]
) -> Iterator[list[JsonValue]]:
    """The results of the items in their order, null where one failed; one chunk in memory."""
    first = 0
    for size in sizes:
        rows: list[Any] = connection.execute(
            "SELECT item, body, key_id FROM pipeline_items WHERE execution_id = %s AND node = %s "
            "AND item >= %s AND item < %s",
            [execution_id, node, first, first + size],
        ).fetchall()
        bodies = {item: (body, key_id) for item, body, key_id in rows}
        missing = [item for item in range(first, first + size) if item not in bodies]
        if missing:
            raise AssertionError(f"item {missing[0]} of node {node} was never settled")
        found = (bodies[item] for item in range(first, first + size))
        keys = connection.payload_keys
        yield [None if body is None else decode(keys, body, key_id) for body, key_id in found]
        first += size


def nodes_with_failed_items(connection: Connection, execution_id: str) -> frozenset[str]:
    """The nodes of an execution of which an item failed."""
    found = connection.execute(
        "SELECT DISTINCT node FROM pipeline_items WHERE execution_id = %s AND state = 'failed'",
        [execution_id],
    )
    return frozenset(str(row[0]) for row in found)


def copy_items(connection: Connection, source: str, target: str) -> None:
    """Take over the items that completed of nodes that run again, in the caller's transaction."""
    connection.execute(
        """
        INSERT INTO pipeline_items
            (execution_id, node, item, input_sha256, state, attempts, bytes, body, key_id, ended_at)
        SELECT %(target)s, node, item, input_sha256, state, attempts, bytes, body, key_id, ended_at
        FROM pipeline_items i
        WHERE execution_id = %(source)s AND state = 'completed' AND NOT EXISTS (
            SELECT FROM pipeline_nodes n WHERE n.execution_id = %(target)s AND n.node = i.node)
        ON CONFLICT DO NOTHING
        """,
        {"source": source, "target": target},
    )
