"""Results of pipelines' nodes: JSON values, compressed, in parts where they are lists of much.

A result of one part is any value; of several, each part is a list, and the result is all of them.
Where there are payload keys, the first one encrypts what is written; each row has its key's id.
"""

import hashlib
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec
from pydantic import JsonValue

from temporaletl.errors import NotFoundError, PermanentError
from temporaletl.temporal.payload_keys import PayloadKeys, Sealed
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.pipeline_nodes import (
    Measure,
)
from temporaletl.warehouse.sessions import only_row

#: The name under which the input of an execution is kept.
TRIGGER = ""
#: What is quickly compressed: results are read about once.
_LEVEL = 1
_MEGABYTE = 1_000_000


class OversizedResultError(PermanentError):
    """A result larger than PIPELINE_RESULT_MB allows."""


class Part(NamedTuple):
    """A part of a result as it was written."""

    value: JsonValue


class Encoded(NamedTuple):
    """A value, or a part of one, compressed; `size` is that of its JSON."""

    size: int
    items: int | None
    sha256: str
    body: bytes


def encode(value: JsonValue) -> Encoded:
    """A value as it is stored, but for its encryption.

    Raises:
        PermanentError: it is none of JSON.
    """
    try:
        text = msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise PermanentError(f"a result that is none of JSON: {error}") from None
    items = len(value) if isinstance(value, list) else None
    digest = hashlib.sha256(text).hexdigest()
    return Encoded(len(text), items, digest, zlib.compress(text, _LEVEL))


def write_result(
    connection: Connection, execution_id: str, node: str, parts: Iterable[JsonValue]
) -> Measure:
    """Write a result in place of one that a former attempt left; in the caller's transaction."""
    connection.execute(
        "DELETE FROM pipeline_results WHERE execution_id = %s AND node = %s", [execution_id, node]
    )
    size, items, digest, count = 0, 0, hashlib.sha256(), 0
    is_list = True
    for number, value in enumerate(parts):
        part = encode(value)
        write_part(connection, execution_id, node, number, part)
        size, count = size + part.size, number + 1
        items += part.items or 0
        is_list = is_list and part.items is not None
        digest.update(part.sha256.encode())
        whole = part.sha256
    return Measure(size, items if is_list else None, whole if count == 1 else digest.hexdigest())


def write_part(
    connection: Connection, execution_id: str, node: str, number: int, part: Encoded
) -> None:
    """Write one part of a result, or what was its place before."""
    body, key_id = sealed_body(connection.payload_keys, part.body)
    connection.execute(
        """
        INSERT INTO pipeline_results (execution_id, node, part, items, bytes, body, key_id)
        VALUES (%s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (execution_id, node, part)
        DO UPDATE SET items = excluded.items, bytes = excluded.bytes, body = excluded.body,
            key_id = excluded.key_id
        """,
        [execution_id, node, number, part.items, part.size, body, key_id],
    )


def read_result(
    warehouse: Warehouse, execution_id: str, node: str, *, most_megabytes: float | None = None
) -> JsonValue:
    """A result as a whole; None where there is none.

    Raises:
        OversizedResultError: it is larger than `most_megabytes`.
    """
    with warehouse.connection() as connection:
        if most_megabytes is not None:
            _check_size(connection, execution_id, node, most_megabytes)
        rows = connection.execute(
            "SELECT body, key_id FROM pipeline_results "
            "WHERE execution_id = %s AND node = %s ORDER BY part",
            [execution_id, node],
        ).fetchall()
    parts = [decode(warehouse.payload_keys, *row) for row in rows]
    if len(parts) <= 1:
        return parts[0] if parts else None
    return [item for part in parts if isinstance(part, list) for item in part]


def _check_size(connection: Connection, execution_id: str, node: str, most: float) -> None:
    found = connection.execute(
        "SELECT coalesce(sum(bytes), 0) FROM pipeline_results "
        "WHERE execution_id = %s AND node = %s",
        [execution_id, node],
    )
    size = int(only_row(found)[0])
    if size > most * _MEGABYTE:
        raise OversizedResultError(
            f"the result of {node or 'the input'} has {size:,} bytes, more than "
            f"PIPELINE_RESULT_MB = {most:g} allows to be read at once: load it, or map over it"
        )


def iterate_parts(connection: Connection, execution_id: str, node: str) -> Iterator[Any]:
    """The parts of a result, one in memory at a time; the first is the result where it is no list.

    Nothing where there is none. Items of lists are left as they stand (`msgspec.Raw`): they are
    written anew, or decoded one by one.
    """
    number = 0
    while True:
        row = connection.execute(
            "SELECT body, key_id FROM pipeline_results "
            "WHERE execution_id = %s AND node = %s AND part = %s",
            [execution_id, node, number],
        ).fetchone()
        if row is None:
            return
        text = _opened(connection.payload_keys, *row)
        yield msgspec.json.decode(text, type=list[msgspec.Raw] if text[:1] == b"[" else Any)
        number += 1


def read_row(connection: Connection, execution_id: str, node: str, number: int) -> Part | None:
    """One part of a result; None where there is none of that number."""
    row = connection.execute(
        "SELECT body, key_id FROM pipeline_results "
        "WHERE execution_id = %s AND node = %s AND part = %s",
        [execution_id, node, number],
    ).fetchone()
    return None if row is None else Part(decode(connection.payload_keys, *row))


def read_part(warehouse: Warehouse, execution_id: str, node: str, number: int) -> JsonValue:
    """One part of a result.

    Raises:
        NotFoundError: it has no such part: it was never written, or its time is over.
    """
    with warehouse.connection() as connection:
        row = read_row(connection, execution_id, node, number)
    if row is None:
        raise NotFoundError(
            f"part {number} of the result of {node!r} in execution {execution_id} is not there: "
            "results are kept for PIPELINE_RESULTS_KEPT_DAYS"
        )
    return row.value


def count_parts(warehouse: Warehouse, execution_id: str, node: str) -> int:
    """How many parts a result has."""
    with warehouse.connection() as connection:
        found = connection.execute(
            "SELECT count(*) FROM pipeline_results WHERE execution_id = %s AND node = %s",
            [execution_id, node],
        )
        return int(only_row(found)[0])


def split(
    items: Iterable[JsonValue], *, most_items: int, most_bytes: int | None = None
) -> Iterator[list[JsonValue]]:
    """A list in parts of a bounded number and size; one item that is larger has its own.

    Without `most_bytes`, all parts but the last have `most_items`.
    """
    part: list[JsonValue] = []
    size = 0
    for item in items:
        weight = 0 if most_bytes is None else len(msgspec.json.encode(item))
        full = most_bytes is not None and size + weight > most_bytes
        if part and (full or len(part) >= most_items):
            yield part
            part, size = [], 0
        part.append(item)
        size += weight
    if part:
        yield part


def sealed_body(keys: PayloadKeys, body: bytes) -> tuple[bytes, str | None]:
    """What `encode` gave as it is stored, and the id of the key that encrypts it, if any does."""
    sealed = keys.seal(body, "result")
    return (body, None) if sealed is None else (sealed.body, sealed.key_id)


def decode(keys: PayloadKeys, body: Any, key_id: Any) -> JsonValue:
    """The value of which `encode` and `sealed_body` gave what is stored.

    Raises:
        MissingPayloadKeyError, UndecryptablePayloadError: as `PayloadKeys.open`.
    """
    value: JsonValue = msgspec.json.decode(_opened(keys, body, key_id))
    return value


def _opened(keys: PayloadKeys, body: Any, key_id: Any) -> bytes:
    if key_id is not None:
        body = keys.open(Sealed(key_id, bytes(body)), "result")
    return zlib.decompress(body)


def copy_result(
    connection: Connection, execution_id: str, source: str, node: str, *, into: str | None = None
) -> Measure:
    """Write the result of `source` as that of `node`, in the caller's transaction.

    `into` is the execution of `node`, where it is another.
    """
    values = {
        "execution_id": execution_id,
        "source": source,
        "node": node,
        "into": into or execution_id,
    }
    connection.execute(
        "DELETE FROM pipeline_results WHERE execution_id = %(into)s AND node = %(node)s",
        values,
    )
    connection.execute(
        """
        INSERT INTO pipeline_results (execution_id, node, part, items, bytes, body, key_id)
        SELECT %(into)s, %(node)s, part, items, bytes, body, key_id FROM pipeline_results
        WHERE execution_id = %(execution_id)s AND node = %(source)s
        """,
        values,
    )
    row = only_row(
        connection.execute(
            """
            SELECT n.result_bytes, n.result_items, n.result_sha256, r.bytes, r.items
            FROM (SELECT 1) AS one
            LEFT JOIN pipeline_nodes n
                ON n.execution_id = %(execution_id)s AND n.node = %(source)s
            LEFT JOIN LATERAL (
                SELECT sum(bytes)::bigint AS bytes, sum(items)::bigint AS items
                FROM pipeline_results
                WHERE execution_id = %(into)s AND node = %(node)s) AS r ON true
            """,
            values,
        )
    )
    size, items, digest, written, written_items = row
    if digest is None:
        return Measure(written or 0, written_items, "")
    return Measure(size, items, digest)
