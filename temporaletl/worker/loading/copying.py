"""Binary COPY of packed rows, and binary arrays of keys."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, repeat

from psycopg import adapt, pq, sql
from psycopg.abc import Buffer

from temporaletl.bound_connection import DEFAULT
from temporaletl.warehouse.connection import Connection
from temporaletl.worker.loading.columns import (
    CONNECTION,
    DELETED,
    HASH,
    LINEAGE,
    PARTITION_KEY,
    STAMPS,
    Layout,
)
from temporaletl.worker.loading.encode import NULL, text, timestamptz

_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_TRAILER = b"\xff\xff"
# Heavier blocks are sent row by row: they are in memory once more until the server has them.
_LARGEST_MESSAGE = 8 << 20


@dataclass(frozen=True, slots=True)
class Stamp:
    """Values of the platform's columns in a page's rows; `now` is the transaction's time."""

    source: str
    version: str
    specific_version: str
    job_id: str
    workflow_id: str
    run_id: str
    extracted_at: datetime
    now: datetime
    #: When the job began, if it has written rows before this page.
    wrote_since: datetime | None = None
    connection: str = DEFAULT


def columns_of(layout: Layout) -> list[str]:
    """The columns in the order of COPY: those with one value in all rows, then the others."""
    constants = [PARTITION_KEY] if layout.partitioned else []
    constants += [layout.ours[name] for name in (CONNECTION, *STAMPS, *LINEAGE)]
    # What is loaded is there again.
    constants += [layout.ours[DELETED]] if layout.partitioned else []
    return [*constants, layout.ours[HASH], *layout.packed]


def head_of(layout: Layout, stamp: Stamp) -> bytes:
    """The bytes with which all rows of a page begin, up to the length of their hash."""
    ((extracted_at, now),) = timestamptz([stamp.extracted_at, stamp.now])
    texts = [stamp.source] if layout.partitioned else []
    texts += [stamp.connection, stamp.version, stamp.specific_version]
    texts += [stamp.job_id, stamp.workflow_id, stamp.run_id]
    count = len(columns_of(layout)).to_bytes(2)
    deleted = NULL if layout.partitioned else b""
    times = (extracted_at, now, now, deleted)
    return b"".join([count, *map(text, texts), *times, (8).to_bytes(4)])


def seed_of(layout: Layout, source: str, version: str, specific_version: str) -> bytes:
    """Seed of the rows' hashes: the stamps that a reader of the table sees.

    Without the connection: rows are compared with those of their own alone.
    """
    stamps = (
        [source, version, specific_version] if layout.partitioned else [version, specific_version]
    )
    return b"".join(map(text, stamps))


def copy_rows(
    connection: Connection,
    statement: sql.Composed,
    head: bytes,
    blocks: Iterable[tuple[Sequence[bytes], Sequence[bytes]]],
) -> None:
    """Copy blocks of hashes and data; the server inserts one while the next is packed."""
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(_HEADER)
        for hashes, data in blocks:
            rows = zip(repeat(head), hashes, data)
            if sum(map(len, data)) > _LARGEST_MESSAGE:
                for row in rows:
                    copy.write(b"".join(row))
            else:
                copy.write(b"".join(chain.from_iterable(rows)))
        copy.write(_TRAILER)


class PackedArray(bytes):
    """An array in binary format; the statement's cast says of what type."""

    __slots__ = ()


class PackedArrayDumper(adapt.Dumper):
    format = pq.Format.BINARY
    oid = 0

    def dump(self, obj: PackedArray) -> Buffer:
        return obj


_ELEMENT_OIDS = {
    "text": 25,
    "bigint": 20,
    "double precision": 701,
    "boolean": 16,
    "numeric": 1700,
    "timestamptz": 1184,
    "timestamp": 1114,
    "date": 1082,
}


def array(kind: str, pieces: Sequence[bytes]) -> PackedArray:
    """An array of elements that carry their lengths."""
    return PackedArray(b"".join(chain((_array_head(kind, len(pieces)),), pieces)))


def hash_array(hashes: Sequence[bytes]) -> PackedArray:
    """An array of hashes, which do not carry their lengths."""
    length = (8).to_bytes(4)
    return PackedArray(length.join(chain((_array_head("bigint", len(hashes)),), hashes)))


def _array_head(kind: str, count: int) -> bytes:
    # One dimension, no nulls, the elements' type, so many of them, the first is number 1.
    return b"".join(n.to_bytes(4) for n in (1, 0, _ELEMENT_OIDS[kind], count, 1))
