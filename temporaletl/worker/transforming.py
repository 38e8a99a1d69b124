"""What records become: rows, rejects, and what they say of all that there is."""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Any

from temporaletl.errors import PermanentError, RecordError, RetryableError
from temporaletl.rows import Event, Reject, Row, ScanItems, Whole
from temporaletl.strategies import Strategies
from temporaletl.transformation import TransformContext
from temporaletl.worker.loading.rejects import Settled, stored_key
from temporaletl.worker.stored_rejects import Rejected

type Made = Row | Reject | Whole | ScanItems


@dataclass(slots=True)
class Transformed:
    """What records became."""

    rows: list[Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    wholes: list[Whole] = field(default_factory=list)
    scanned: list[ScanItems] = field(default_factory=list)
    #: Records of which something was rejected.
    rejected_records: int = 0
    #: What became of rejects that were tried again, by id.
    replayed: dict[int, Settled] = field(default_factory=dict)
    #: Where among the rows later pages begin.
    page_starts: list[int] = field(default_factory=list)
    _earlier: list[str] | None = None  # ids of earlier pages' events, in order

    def begin_page(self) -> None:
        """Take what follows for a later page's: its wholes speak of what came before, too."""
        self.page_starts.append(len(self.rows))
        self._earlier = None

    def add_whole(self, whole: Whole) -> None:
        """Note it; of earlier pages' events it covers those that the source had no more."""
        self.wholes.append(whole)
        if not self.page_starts:
            return
        if self._earlier is None:
            earlier = self.rows[: self.page_starts[-1]]
            self._earlier = sorted(str(row.event_id) for row in earlier if isinstance(row, Event))
        first = bisect_left(self._earlier, whole.prefix)
        if first < len(self._earlier) and whole.covers(self._earlier[first]):
            self._drop(whole)

    def _drop(self, whole: Whole) -> None:
        behind = self.page_starts[-1]
        dropped = [
            number
            for number, row in enumerate(self.rows[:behind])
            if isinstance(row, Event) and whole.covers(str(row.event_id))
        ]
        for number in reversed(dropped):
            del self.rows[number]
        self.page_starts[:] = [start - bisect_left(dropped, start) for start in self.page_starts]
        self._earlier = None


def transform_record(
    strategies: Strategies, context: TransformContext[Any], record: Any, made: Transformed
) -> None:
    """Add the record's rows, or one reject: never some rows and an exception."""
    reason: str | None = None
    found: list[Made] = []
    try:
        found = (
            [record]
            if isinstance(record, Whole | ScanItems)
            else [*strategies.transform(record, context)]
        )
    except (PermanentError, RetryableError):
        raise
    except Exception as error:  # noqa: BLE001 - any fault rejects this record alone
        reason = str(error)
        if not isinstance(error, RecordError):
            reason = f"{type(error).__name__}: {reason}"
    if isinstance(record, Rejected):
        _settle(record, found, reason, made)
    elif reason is not None:
        found = [reject_of(record, reason)]
    made.rejected_records += reason is not None or any(isinstance(r, Reject) for r in found)
    for row in found:
        if isinstance(row, Reject):
            made.rejects.append(row)
        elif isinstance(row, Whole):
            made.add_whole(row)
        elif isinstance(row, ScanItems):
            made.scanned.append(row)
        else:
            made.rows.append(row)


def _settle(record: Rejected, found: list[Made], reason: str | None, made: Transformed) -> None:
    """Note what became of a reject; one that its own record yields again is that reject."""
    again = [
        row
        for row in found
        if isinstance(row, Reject)
        and (None if row.key is None else stored_key(row.key)) == record.key
    ]
    for reject in again:
        found.remove(reject)
    made.replayed[record.reject_id] = Settled(record.times, again[0].reason if again else reason)


def reject_of(record: Any, reason: str) -> Reject:
    """Keep a record that cannot be transformed.

    A record's attribute `raw`, where it has one, is the payload; its `key` names it. Where `raw`
    cannot be decoded, the payload is what the record has as `as_it_came`.
    """
    key = getattr(record, "key", None)
    try:
        payload = getattr(record, "raw", record)
    except RecordError:
        payload = getattr(record, "as_it_came", None)
    return Reject(
        stage="transform",
        reason=reason,
        key=key if isinstance(key, str) else None,
        payload=payload,
    )
