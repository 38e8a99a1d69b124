"""Passes over the pages of a list: the rows they find, and whether a pass missed none."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
import xxhash

from temporaletl import RecordError, Reject
from temporaletl.worker.sources.servicetitan.extract.client import ServiceTitanClient
from temporaletl.worker.sources.servicetitan.record import Record, bare_of, timestamp


@dataclass(frozen=True, slots=True)
class Row:
    """One record of a list; one that is `unreadable` is known by its position alone."""

    id: int | str
    time: datetime | None
    #: Tells one version of the record from another.
    content: int
    read: Record[Any] | Reject
    unreadable: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """The rows of a page, however it was read; `counts` are the totals of its answers."""

    rows: Sequence[Row]
    counts: Collection[int | None]
    has_more: bool


class Pass:
    """One pass over all pages of a run."""

    def __init__(self, *, from_its_start: bool) -> None:
        self._from_its_start = from_its_start
        self._ids: set[int | str] = set()
        self._counts: set[int | None] = set()
        self.found_new = not from_its_start
        #: Pages in a row that held nothing which this pass had not met.
        self.stale = 0

    def add(self, read: Read, *, new: int) -> None:
        met = len(self._ids)
        self._ids.update(row.id for row in read.rows)
        self._counts.update(read.counts)
        self.found_new |= new > 0
        self.stale = 0 if len(self._ids) > met else self.stale + 1

    @property
    def is_empty(self) -> bool:
        return not self._ids

    @property
    def from_its_start(self) -> bool:
        """Whether all of the pass was seen here, and none of it before the cursor it began at."""
        return self._from_its_start

    @property
    def shortfall(self) -> int:
        """How many rows the list counts that the pass did not find; 0 where that cannot be told.

        Rows that come and go while it runs change the count: of a pass that then finds nothing
        new, none is missing.
        """
        counts = [count for count in self._counts if count is not None]
        if not counts or (len(self._counts) > 1 and not self.found_new):
            return 0
        return max(0, max(counts) - len(self._ids))

    @property
    def is_complete(self) -> bool:
        """Whether the pass cannot have missed a row; without counts, whether it found none new."""
        count = next(iter(self._counts)) if len(self._counts) == 1 else None
        if count is None:
            return self._counts == {None} and not self.found_new
        return self._from_its_start and len(self._ids) >= count


def row_of(client: ServiceTitanClient, found: msgspec.Raw) -> Row:
    """Decode a record of a list as a row; one that cannot be decoded is a row with a reject."""
    read = client.record(found)
    content = xxhash.xxh3_64_intdigest(bytes(found))
    if isinstance(read, Record):
        id_, text = read.body.id, read.body.modified_on
    else:
        bare = bare_of(found)
        id_ = bare.id if isinstance(bare.id, int | str) else f"content {content}"
        text = bare.modified_on if isinstance(bare.modified_on, str) else None
    try:
        time = timestamp(text, "modifiedOn")
    except RecordError:
        time = None
    return Row(id_, time, content, read)
