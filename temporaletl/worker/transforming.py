"""Transformation of records into rows, rejects and complete sets."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from temporaletl.errors import PermanentError, RecordError, RetryableError
from temporaletl.field_rules import FieldRules
from temporaletl.rows import CompleteSet, Event, Reject, Row, ScanItems
from temporaletl.strategies import Strategies
from temporaletl.transformation import TransformContext
from temporaletl.worker.loading.rejects import Reprocessed, stored_key
from temporaletl.worker.stored_rejects import Rejected

type Output = Row | Reject | CompleteSet | ScanItems


@dataclass(slots=True)
class Transformed:
    """The output of the records of one or more extracted pages."""

    rows: list[Row] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    complete_sets: list[CompleteSet] = field(default_factory=list)
    scanned: list[ScanItems] = field(default_factory=list)
    #: Records of which something was rejected.
    rejected_records: int = 0
    #: Results of reprocessed rejects, by id.
    reprocessed: dict[int, Reprocessed] = field(default_factory=dict)
    #: Where among the rows later pages begin.
    page_starts: list[int] = field(default_factory=list)
    _earlier: list[str] | None = None  # ids of earlier pages' events, in order

    def begin_page(self) -> None:
        """Begin a later page: its complete sets cover rows of earlier pages, too."""
        self.page_starts.append(len(self.rows))
        self._earlier = None

    def add_extracted(self, rejects: Sequence[Reject], context: TransformContext[Any]) -> None:
        """Add the rejects of an extracted page."""
        self.rejects += [_ruled(context.field_rules, reject) for reject in rejects]
        self.rejected_records += len(rejects)

    def add(self, output: Output) -> None:
        """Add one output of a record."""
        if isinstance(output, Reject):
            self.rejects.append(output)
        elif isinstance(output, CompleteSet):
            self.add_complete_set(output)
        elif isinstance(output, ScanItems):
            self.scanned.append(output)
        else:
            self.rows.append(output)

    def add_complete_set(self, events: CompleteSet) -> None:
        """Add a complete set; rows of earlier pages that it covers are dropped."""
        self.complete_sets.append(events)
        if not self.page_starts:
            return
        if self._earlier is None:
            earlier = self.rows[: self.page_starts[-1]]
            self._earlier = sorted(str(row.event_id) for row in earlier if isinstance(row, Event))
        first = bisect_left(self._earlier, events.prefix)
        if first < len(self._earlier) and events.covers(self._earlier[first]):
            self._drop(events)

    def _drop(self, events: CompleteSet) -> None:
        behind = self.page_starts[-1]
        dropped = [
            number
            for number, row in enumerate(self.rows[:behind])
            if isinstance(row, Event) and events.covers(str(row.event_id))
        ]
        for number in reversed(dropped):
            del self.rows[number]
        self.page_starts[:] = [start - bisect_left(dropped, start) for start in self.page_starts]
        self._earlier = None


def transform_record(
    strategies: Strategies, context: TransformContext[Any], record: Any, result: Transformed
) -> None:
    """Transform one record and add its rows, or one reject: never some rows and an exception."""
    reason: str | None = None
    outputs: list[Output] = []
    try:
        outputs = (
            [record]
            if isinstance(record, CompleteSet | ScanItems)
            else [*strategies.transform(record, context)]
        )
    except (PermanentError, RetryableError):
        raise
    except Exception as error:  # noqa: BLE001 - any fault rejects this record alone
        reason = str(error)
        if not isinstance(error, RecordError):
            reason = f"{type(error).__name__}: {reason}"
    if isinstance(record, Rejected):
        _add_reprocessed(record, outputs, reason, result)
    elif reason is not None:
        outputs = [reject_of(record, reason)]
    if rules := context.field_rules:
        outputs = [_ruled(rules, output) for output in outputs]
    rejected, rows = reason is not None, result.rows
    for output in outputs:
        if isinstance(output, Row):
            rows.append(output)
        else:
            rejected = rejected or isinstance(output, Reject)
            result.add(output)
    result.rejected_records += rejected


def _ruled[T: Output](rules: FieldRules, output: T) -> T:
    """What may be stored of an output: of a reject, not the record that it was."""
    if rules and isinstance(output, Row):
        return rules.apply(output)
    return replace(output, payload=None) if rules and isinstance(output, Reject) else output


def _add_reprocessed(
    record: Rejected, outputs: list[Output], reason: str | None, result: Transformed
) -> None:
    """Add the result of a stored reject; a reject that it yields again is that same reject."""
    again = [
        row
        for row in outputs
        if isinstance(row, Reject)
        and (None if row.key is None else stored_key(row.key)) == record.key
    ]
    for reject in again:
        outputs.remove(reject)
    result.reprocessed[record.reject_id] = Reprocessed(
        record.times, again[0].reason if again else reason
    )


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
