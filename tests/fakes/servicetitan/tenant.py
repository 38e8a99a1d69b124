"""The data of one tenant, and the changes that people make to it while it is served."""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import xxhash

from tests.fakes.servicetitan.bodies import MAKERS, STREAMS, Draw, Json
from tests.fakes.servicetitan.timestamps import SECOND, now, text

Order = Literal["id", "created", "modified", "feed"]

_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(slots=True, eq=False)
class Row:
    """One record; times are ticks. Its body is generated on first use."""

    id: int
    created: int
    modified: int
    active: bool = True
    #: Its position in the feed: its time of modification, or later if it was stored late.
    feed: int = 0
    #: Gone from the lists; the feed shows it as inactive.
    deleted: bool = False
    #: Its index in the generated series; -1 for a record that only exists as `fields`.
    number: int = -1
    fields: Json = field(default_factory=dict)
    body: bytes | None = None

    def __post_init__(self) -> None:
        self.feed = self.feed or self.modified


class Collection:
    """The records of one stream."""

    def __init__(self, stream: str, rows: Iterable[Row], seed: int = 0) -> None:
        self.stream = stream
        self.seed = seed
        self.rows = {row.id: row for row in rows}
        self._sorted: dict[tuple[Order, int], list[Row]] = {}

    def changed(self) -> None:
        """Invalidate cached sort orders."""
        self._sorted.clear()

    def sorted(self, order: Order, *, salt: int = 0) -> list[Row]:
        """All records in an order that only one field decides; `salt` mixes the ties."""
        if (order, salt) not in self._sorted:
            rows = self.rows.values()
            if order == "id":
                ordered = sorted(rows, key=lambda row: row.id)
            elif order == "feed":
                ordered = sorted(rows, key=lambda row: (row.feed, row.id))
            else:
                ordered = sorted(rows, key=lambda row: (getattr(row, order), _mix(row.id, salt)))
            if len(self._sorted) > len(STREAMS):
                self._sorted.clear()
            self._sorted[order, salt] = ordered
        return self._sorted[order, salt]

    def record(self, row: Row) -> Json:
        """The complete record as JSON members."""
        made: Json = {}
        if row.number >= 0:
            draw = Draw(self.seed, self.stream, row.number)
            made = MAKERS[self.stream](draw, row.number, row.created)
        return {
            "id": row.id,
            **made,
            "createdOn": text(row.created),
            "modifiedOn": text(row.modified),
            "active": row.active and not row.deleted,
            **row.fields,
        }

    def render(self, row: Row) -> bytes:
        if row.body is None:
            row.body = _encode(self.record(row))
        return row.body


class Tenant:
    """One tenant. Safe to change while it is being served."""

    def __init__(
        self,
        collections: Iterable[Collection],
        *,
        number: int = 1234567,
        withheld_seconds: float = 300,
        clock: Callable[[], int] = now,
    ) -> None:
        self.number = number
        self.collections = {each.stream: each for each in collections}
        for stream in STREAMS:
            self.collections.setdefault(stream, Collection(stream, ()))
        #: How long the feed keeps the latest changes back.
        self.withheld_seconds = withheld_seconds
        self.clock = clock
        self.lock = threading.RLock()

    @property
    def withheld(self) -> int:
        return int(self.withheld_seconds * SECOND)

    def add(self, stream: str, *, at: int | None = None, **fields: Any) -> Row:
        """Add a record; with `at` in the past it is one that was stored late."""
        with self.lock:
            collection = self.collections[stream]
            present = self.clock()
            at = present if at is None else at
            row = Row(
                max(collection.rows, default=0) + 1,
                at,
                at,
                feed=self._place(at, present),
                fields=fields,
            )
            collection.rows[row.id] = row
            collection.changed()
            return row

    def change(self, stream: str, row: Row, *, at: int | None = None, **fields: Any) -> None:
        """Change fields of a record; without any, somebody only saved it again."""
        with self.lock:
            present = self.clock()
            row.modified = present if at is None else at
            row.feed = self._place(row.modified, present)
            row.fields = {**row.fields, **fields}
            row.body = None
            self.collections[stream].changed()

    def deactivate(self, stream: str, row: Row, *, at: int | None = None) -> None:
        with self.lock:
            row.active = False
            self.change(stream, row, at=at)

    def delete(self, stream: str, row: Row) -> None:
        """Remove a record from the lists."""
        with self.lock:
            row.deleted = True
            self.change(stream, row)

    def _place(self, at: int, present: int) -> int:
        # Clients have passed the position of a record that is stored later than rows are withheld.
        return at if at >= present - self.withheld else present

    def shape_ties(self, rate: float, seed: int = 0) -> None:
        """Give a share of the records of every stream one time of modification."""
        with self.lock:
            for collection in self.collections.values():
                newest = max((row.modified for row in collection.rows.values()), default=0)
                for row in collection.rows.values():
                    if Draw(seed, "ties", collection.stream, row.id).below(10**6) < rate * 10**6:
                        row.modified = row.feed = newest
                        row.body = None
                collection.changed()


def _mix(id_: int, salt: int) -> int:
    # The service promises no order of ties, and has one that is neither the ids' nor its reverse.
    return xxhash.xxh3_64_intdigest(id_.to_bytes(8), salt)
