"""Merge (upsert) of packed rows into their table, keys first.

The keys and hashes of a page are looked up in the key's index. Rows that are new are copied
straight into the table, changed ones go through a temporary table and an UPDATE, and unchanged
ones are not modified: they cost neither a write nor WAL.

While pages bring only new keys the lookup is skipped, and the page is copied under a savepoint; a
unique violation brings the lookup back.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from typing import Any, ClassVar

from psycopg import errors

from temporaletl.errors import WarehouseUnavailableError
from temporaletl.rows import Reject
from temporaletl.warehouse.connection import Connection
from temporaletl.worker.loading.copying import (
    PackedArray,
    PackedArrayDumper,
    Stamp,
    array,
    copy_rows,
    hash_array,
    head_of,
)
from temporaletl.worker.loading.dividing import BEGIN_ENTERING, END_ENTERING
from temporaletl.worker.loading.encode import timestamptz
from temporaletl.worker.loading.packing import ROWS_PER_BLOCK, Packed, rejected
from temporaletl.worker.loading.schema import Target
from temporaletl.worker.loading.statements import Statements, statements_for

#: Faults that say the table is no longer what it was when it was prepared.
SHAPE_FAULTS = (
    errors.UndefinedTable,
    errors.UndefinedColumn,
    errors.DatatypeMismatch,
    errors.InvalidBinaryRepresentation,
    errors.GeneratedAlways,
)
# Faults of single rows that only the server finds: a number in json beyond numeric, a key too
# long for the index, a constraint that somebody added.
_ROW_FAULTS = (
    errors.DataError,
    errors.IntegrityError,
    errors.ProgramLimitExceeded,
    errors.StatementTooComplex,
)
# Each further attempt has waited for another loader that inserted one of our keys meanwhile.
_MOST_INSERTS = 50
# The server looks these up in about the time that the next ones take to be packed.
_ROWS_PER_LOOKUP = 1_200


@dataclass(slots=True)
class Outcome:
    """Rows of one table by the outcome of their merge."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    #: Of the updated ones, those whose stored time was ahead of the warehouse's clock.
    repaired: int = 0
    #: Rows that the job has written before, as something else.
    rewritten: int = 0
    #: One of them: its columns as they were stored, and as they come.
    rewritten_example: tuple[dict[str, Any], dict[str, Any]] | None = None
    rejects: list[Reject] = field(default_factory=list)


class InsertFastPath:
    """Adaptive fast path: COPY without a key lookup while recent pages held only new keys.

    After each conflict, twice as many pages of new keys are needed before it is taken again.
    """

    # Pages of new keys before the lookup is skipped again, at most.
    _MOST_REQUIRED: ClassVar[int] = 32

    def __init__(self, *, empty: bool) -> None:
        self.active = empty
        self._required = 1
        self._new_pages = 0

    def record_lookup(self, *, found: bool) -> None:
        """Count a page that was looked up; `found` says that some of its keys existed."""
        self._new_pages = 0 if found else self._new_pages + 1
        self.active = self._new_pages >= self._required

    def record_conflict(self) -> None:
        """Leave the fast path: a page that was copied without a lookup held an existing key."""
        self.active = False
        self._new_pages = 0
        self._required = min(2 * self._required, self._MOST_REQUIRED)


class Merge:
    """Merge (upsert) of pages into one table; keeps no row of them."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._statements = statements_for(target)
        self._fast_path = InsertFastPath(empty=target.empty)

    def run(
        self, connection: Connection, packed: Packed, stamp: Stamp, *, contested: bool
    ) -> Outcome:
        """Merge the rows in the caller's transaction, which must be READ COMMITTED.

        `contested` says that another running job may hold an older extraction of these rows.
        Rows found unchanged are then marked as seen by this page, so that the older extraction
        cannot overwrite them; otherwise they are not modified.
        """
        rows = _Rows(connection, self.target, self._statements, packed, stamp)
        if not (self._fast_path.active and self._copied(rows)):
            found = rows.merge(contested=contested)
            if packed.rows:
                self._fast_path.record_lookup(found=found)
        rows.outcome.unchanged += packed.superseded
        rows.outcome.rejects += packed.rejects
        return rows.outcome

    def _copied(self, rows: "_Rows") -> bool:
        try:
            rows.copy()
        except errors.UniqueViolation:
            self._fast_path.record_conflict()
            return False
        except SHAPE_FAULTS:
            raise
        except _ROW_FAULTS:
            return False
        return True


class _Rows:
    """Merge of one page's rows into one table."""

    def __init__(
        self,
        connection: Connection,
        target: Target,
        statements: Statements,
        packed: Packed,
        stamp: Stamp,
    ) -> None:
        self.outcome = Outcome()
        self._connection = connection
        self._target = target
        self._statements = statements
        self._packed = packed
        self._stamp = stamp
        self._head = head_of(target.layout, stamp)
        connection.adapters.register_dumper(PackedArray, PackedArrayDumper)

    def copy(self) -> None:
        """Copy all rows without a lookup; on any error none is kept.

        Raises:
            UniqueViolation: a key exists.
        """
        packed = self._packed
        blocks = ((packed.hashes[block], packed.data[block]) for block in packed.blocks())
        with self._connection.transaction(), self._entering_keys():
            copy_rows(self._connection, self._statements.copy, self._head, blocks)
            self._enter_keys(range(len(packed.rows)))
        self.outcome.inserted = len(packed.rows)

    def merge(self, *, contested: bool) -> bool:
        """Look up, insert, update; return whether any key existed."""
        outcome = self.outcome
        new, changed, rejects = self._insert_new(contested=contested)
        total = len(self._packed.rows)
        outcome.inserted = len(new) - len(rejects)
        outcome.rejects += rejects
        if changed:
            self._connection.execute(self._statements.create_changed)
            write = partial(self._update, total=len(changed))
            rejects += (refused := self._write_or_halve(changed, write))
            outcome.rejects += refused
        outcome.unchanged = total - outcome.inserted - outcome.updated - len(rejects)
        if contested and outcome.unchanged:
            self._confirm()
        return len(new) < total

    def _lookup(self, *, contested: bool) -> tuple[list[int], list[int]]:
        """Find the positions that are new and those that are changed.

        The server looks up one part of the keys while the next is packed.
        """
        lookups = []
        with self._connection.pipeline():
            for part in self._packed.blocks(_ROWS_PER_LOOKUP):
                values = self._lookup_values(part)
                if contested:
                    # From here on the stored rows stay as the lookup finds them.
                    self._connection.execute(self._statements.lock, values, prepare=False)
                found = self._connection.execute(self._statements.lookup, values)
                lookups.append((part.start, found))
            answers: Any = [(start, found.fetchone()) for start, found in lookups]
        new, changed = [], []
        for start, (new_here, changed_here) in answers:
            new += [start + position for position in new_here or ()]
            changed += [start + position for position in changed_here or ()]
        return new, changed

    def _confirm(self) -> None:
        stamp = self._stamp
        lineage = {
            "job_id": stamp.job_id,
            "workflow_id": stamp.workflow_id,
            "run_id": stamp.run_id,
            "extracted_at": stamp.extracted_at,
        }
        with self._connection.pipeline():
            for part in self._packed.blocks(_ROWS_PER_LOOKUP):
                values = {**self._lookup_values(part), **lineage}
                self._connection.execute(self._statements.confirm, values, prepare=False)

    def _lookup_values(self, part: slice) -> dict[str, Any]:
        """The parameters of a lookup."""
        packed = self._packed
        return self._values([keys[part] for keys in packed.keys], packed.hashes[part])

    def _values(
        self, keys: Sequence[Sequence[bytes]], hashes: Sequence[bytes], *more: PackedArray
    ) -> dict[str, Any]:
        layout = self._target.layout
        arrays = [
            array(layout.type_of(name), pieces)
            for name, pieces in zip(layout.own_key, keys, strict=True)
        ]
        arrays += [hash_array(hashes), *more]
        return {
            "source": self._stamp.source,
            "connection": self._stamp.connection,
            **{f"a{n}": one for n, one in enumerate(arrays)},
        }

    def _insert_new(self, *, contested: bool) -> tuple[Sequence[int], Sequence[int], list[Reject]]:
        before: Sequence[int] | None = None
        for _ in range(_MOST_INSERTS):
            new, changed = self._lookup(contested=contested)
            if not new:
                return new, changed, []
            # The same keys are still new, so that it was another index that refused them.
            foreign = new == before
            try:
                with self._connection.transaction():
                    rejects = self._write_or_halve(new, self._insert, unique=foreign)
            except errors.UniqueViolation:
                # Another loader has inserted one of them since the lookup.
                before = new
                continue
            return new, changed, rejects
        raise WarehouseUnavailableError(
            f"table {self._target.name}: other loaders keep inserting the same keys"
        )

    def _write_or_halve(
        self,
        positions: Sequence[int],
        write: Callable[[Sequence[int]], None],
        *,
        unique: bool = True,
    ) -> list[Reject]:
        """Write the rows; where the server refuses some, halve until only those are left out."""
        try:
            with self._connection.transaction():
                write(positions)
        except SHAPE_FAULTS:
            raise
        except _ROW_FAULTS as error:
            if isinstance(error, errors.UniqueViolation) and not unique:
                raise
            if len(positions) == 1:
                reason = f"the warehouse refused the row: {_message_of(error)}"
                row = self._packed.rows[positions[0]]
                return [rejected(self._target.layout, row, reason)]
            middle = len(positions) // 2
            halves = positions[:middle], positions[middle:]
            return [
                reject
                for half in halves
                for reject in self._write_or_halve(half, write, unique=unique)
            ]
        return []

    def _insert(self, positions: Sequence[int]) -> None:
        with self._entering_keys():
            copy_rows(self._connection, self._statements.copy, self._head, self._blocks(positions))
            self._enter_keys(positions)

    @contextmanager
    def _entering_keys(self) -> Iterator[None]:
        """Let what is written enter its keys itself; on an error the caller's savepoint ends it."""
        if self._statements.enter_keys is None:
            yield
            return
        self._connection.execute(BEGIN_ENTERING)
        yield
        self._connection.execute(END_ENTERING)

    def _enter_keys(self, positions: Sequence[int]) -> None:
        if self._statements.enter_keys is None:
            return
        packed = self._packed
        columns: list[Sequence[Any]] = [*packed.keys, packed.hashes, packed.rows]
        *keys, hashes, rows = ([column[p] for p in positions] for column in columns)
        (times,) = timestamptz(list(map(attrgetter("event_time_utc"), rows)))
        values = self._values(keys, hashes, array("timestamptz", times))
        self._connection.execute(self._statements.enter_keys, values)

    def _update(self, positions: Sequence[int], *, total: int) -> None:
        statements, connection = self._statements, self._connection
        if len(positions) < total:
            # The part before this one may still be there.
            connection.execute(statements.clear_changed)
        copy_rows(connection, statements.copy_changed, self._head, self._blocks(positions))
        self._count_rewritten()
        with self._entering_keys():
            updated = connection.execute(statements.update, prepare=False).rowcount
            if updated < len(positions):
                # The others are older than what is stored, or what is stored has no honest time.
                repaired = connection.execute(statements.update_ahead, prepare=False).rowcount
                self.outcome.repaired += repaired
                updated += repaired
        self.outcome.updated += updated

    def _count_rewritten(self) -> None:
        stamp, outcome, layout = self._stamp, self.outcome, self._target.layout
        if stamp.wrote_since is None:
            return
        values = {"job_id": stamp.job_id, "since": stamp.wrote_since}
        found = self._connection.execute(self._statements.rewritten, values, prepare=False)
        ((count,),) = found.fetchall()
        outcome.rewritten += int(str(count))
        if not count or outcome.rewritten_example is not None:
            return
        example: Any = self._connection.execute(
            self._statements.rewritten_example, values, prepare=False
        ).fetchone()
        stored, coming = ({name: row[name] for name in layout.packed} for row in example)
        outcome.rewritten_example = stored, coming

    def _blocks(self, positions: Sequence[int]) -> Iterator[tuple[list[bytes], list[bytes]]]:
        hashes, data = self._packed.hashes, self._packed.data
        for first in range(0, len(positions), ROWS_PER_BLOCK):
            some = positions[first : first + ROWS_PER_BLOCK]
            yield [hashes[p] for p in some], [data[p] for p in some]


def _message_of(error: Exception) -> str:
    diagnosis = error.diag if isinstance(error, errors.Error) else None
    if diagnosis is None:
        return str(error)
    parts = [diagnosis.message_primary, diagnosis.message_detail]
    if isinstance(error, errors.ProgramLimitExceeded) and "index row" in str(parts[0]):
        parts.append("a key may have about 2,600 bytes")
    return "; ".join(part for part in parts if part)
