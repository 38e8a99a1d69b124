"""A page's rows of one class in binary COPY format, each with its key and its hash.

The hash is xxh3, 64 bits, over the packed data columns, seeded with that of the stamped ones
(`source_kind_id`, `version`, `specific_version`): over what a reader of the table sees, not over
the lineage. Equal hashes mean equal rows.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, compress, islice, pairwise, repeat
from operator import attrgetter, eq
from reprlib import Repr
from typing import Any

from msgspec.structs import astuple
from xxhash import xxh3_64_digest, xxh3_64_intdigest

from temporaletl.rows import Reject, Row
from temporaletl.worker.loading.columns import Layout, Part

# Enough to make the loops over a block cheap, little enough that the server, which inserts one
# block while the next is packed, seldom waits.
ROWS_PER_BLOCK = 400
# Blocks of heavier rows have fewer of them.
_BYTES_PER_BLOCK = 8 << 20
#: jsonb ends at 256 MiB, a message to the server at 1 GiB; a row is in memory several times.
LARGEST_ROW = 128 << 20

_TOO_LARGE = f"a row holds at most {LARGEST_ROW:,} bytes"
_short = Repr(maxstring=80, maxother=120, maxlong=40)


class Packed:
    """Packed rows of one class, ordered by key, one row for each key; packed on demand.

    The lists grow in step while `blocks` is iterated; after `finish` they are complete.
    """

    def __init__(
        self, layout: Layout, rows: Sequence[Row], seed: bytes, older: Sequence[str] = ()
    ) -> None:
        self.layout = layout
        #: Ids of the page's events that are not loaded, as their time was detached.
        self.older = older
        self.rows: list[Row] = []
        #: A list for each column of the key.
        self.keys: tuple[list[bytes], ...] = tuple([] for _ in layout.own_key)
        self.hashes: list[bytes] = []
        self.data: list[bytes] = []
        self.rejects: list[Reject] = []
        #: Rows that a later row of the page with the same key replaces.
        self.superseded = 0
        #: Of these, the ones that differ, each with the one that replaces it.
        self.conflicts: list[tuple[Row, Row]] = []
        self._rows_per_block = ROWS_PER_BLOCK
        self._seed = xxh3_64_intdigest(seed)
        self._packers = [(part.pack, part.positions(layout.row)) for part in layout.parts]
        ordered, repeats = self._in_order(rows)
        self._pending: Iterator[Row] = iter(ordered)
        if repeats:
            self.finish()
            self._keep_last()

    def _in_order(self, rows: Sequence[Row]) -> tuple[Sequence[Row], bool]:
        key = attrgetter(*self.layout.own_key)
        try:
            return _sorted(rows, key)
        except TypeError:
            good = [row for row in rows if self._key_fault(row) is None]
            for row in rows:
                if (fault := self._key_fault(row)) is not None:
                    self.rejects.append(rejected(self.layout, row, fault))
            return _sorted(good, key)

    def _key_fault(self, row: Row) -> str | None:
        for part in self.layout.parts[: len(self.layout.own_key)]:
            values = [getattr(row, field) for field in part.fields]
            try:
                part.pack(*([value] for value in values))
            except Exception as error:  # noqa: BLE001 - values of any kind may raise anything
                return _explain(part, values, error)
        return None

    def _keep_last(self) -> None:
        keys = list(zip(*self.keys, strict=True))
        keep = [key != following for key, following in pairwise(keys)]
        self.conflicts = [
            (self.rows[n], self.rows[n + 1])
            for n, last in enumerate(keep)
            if not last and self.hashes[n] != self.hashes[n + 1]
        ]
        keep += [True] * bool(keys)
        self.superseded = keep.count(False)
        self.rows[:] = compress(self.rows, keep)
        for pieces in (*self.keys, self.hashes, self.data):
            pieces[:] = compress(pieces, keep)

    def blocks(self, size: int = ROWS_PER_BLOCK) -> Iterator[slice]:
        """Slices of the lists, one after the other, each packed when it is reached."""
        at = 0
        while True:
            while len(self.rows) < at + size and self._pack_block():
                pass
            end = min(at + size, len(self.rows))
            if end == at:
                return
            yield slice(at, end)
            at = end

    def finish(self) -> None:
        """Pack what is not packed yet."""
        while self._pack_block():
            pass

    def _pack_block(self) -> bool:
        rows = list(islice(self._pending, self._rows_per_block))
        if not rows:
            return False
        try:
            self._append(rows)
        except Exception:  # noqa: BLE001 - values of any kind may raise anything
            for row in rows:
                fault = self._fault(row)
                if fault is None:
                    self._append([row])
                else:
                    self.rejects.append(rejected(self.layout, row, fault))
        return True

    def _append(self, rows: list[Row]) -> None:
        columns = list(zip(*map(astuple, rows), strict=True))
        packed = [pack(*[columns[n] for n in positions]) for pack, positions in self._packers]
        data = list(map(b"".join, zip(*chain.from_iterable(packed), strict=True)))
        weight = sum(map(len, data))
        if weight > LARGEST_ROW and max(map(len, data)) > LARGEST_ROW:
            raise ValueError(_TOO_LARGE)
        self._rows_per_block = ROWS_PER_BLOCK
        if weight > _BYTES_PER_BLOCK:
            self._rows_per_block = max(1, len(rows) * _BYTES_PER_BLOCK // weight)
        # Nothing can fail from here on, so that the lists stay in step.
        for keys, pieces in zip(self.keys, packed, strict=False):
            keys.extend(map(b"".join, zip(*pieces, strict=True)))
        self.rows += rows
        self.hashes += map(xxh3_64_digest, data, repeat(self._seed))
        self.data += data

    def _fault(self, row: Row) -> str | None:
        weight = 0
        for part in self.layout.parts:
            values = [getattr(row, field) for field in part.fields]
            try:
                pieces = part.pack(*([value] for value in values))
            except Exception as error:  # noqa: BLE001 - values of any kind may raise anything
                return _explain(part, values, error)
            weight += sum(len(piece) for (piece,) in pieces)
        if weight > LARGEST_ROW:
            return f"{_TOO_LARGE}: it has {weight:,}"
        return None


def _sorted(rows: Sequence[Row], key: Callable[[Row], Any]) -> tuple[Sequence[Row], bool]:
    """The rows by key, of equal ones the last still last, and whether there are equal ones."""
    ordered = sorted(rows, key=key)
    keys = list(map(key, ordered))
    return ordered, any(map(eq, keys, islice(keys, 1, None)))


def _explain(part: Part, values: Sequence[Any], error: Exception) -> str:
    shown = ", ".join(map(_short.repr, values))
    why = str(error) or type(error).__name__
    return f"column {part.columns[0]}: {shown} is not {part.wanted} ({why})"


def rejected(layout: Layout, row: Row, reason: str) -> Reject:
    """The row as a reject of the load stage."""
    key = "/".join(str(getattr(row, field)) for field in layout.own_key)
    return Reject(stage="load", reason=reason, key=key, payload=row)
