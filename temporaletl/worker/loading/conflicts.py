"""Conflicts: rows of one job with one key and different content; the last one is kept."""

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from reprlib import Repr
from typing import Any

from temporaletl.rows import Row
from temporaletl.worker.loading.columns import Layout
from temporaletl.worker.loading.merge import Merge, Outcome
from temporaletl.worker.loading.packing import Packed

_NAMED_COLUMNS = 3
_short = Repr(maxstring=80, maxother=120, maxlong=40)


@dataclass(frozen=True, slots=True)
class Conflicts:
    """Number of conflicting rows of a page, and an example."""

    count: int
    at_once: int  # those that one extracted page held
    example: str | None


def conflicts_of(
    rows: Sequence[Row],
    page_starts: Sequence[int],
    packed: Sequence[tuple[Merge, Packed]],
    outcomes: Sequence[Outcome],
) -> Conflicts:
    """Find the conflicts of a page's rows; `page_starts` are where other extracted pages begin."""
    pairs = [(merge, pair) for merge, some in packed for pair in some.conflicts]
    rewritten = sum(outcome.rewritten for outcome in outcomes)
    if not pairs and not rewritten:
        return Conflicts(0, 0, None)
    at_once = pairs
    if page_starts:
        position = {id(row): number for number, row in enumerate(rows)} if pairs else {}
        at_once = [
            (merge, pair)
            for merge, pair in pairs
            if len({bisect(page_starts, position[id(row)]) for row in pair}) == 1
        ]
    if pairs:
        merge, (earlier, later) = (at_once or pairs)[0]
        example = _of_rows(merge.target.layout, earlier, later)
    else:
        example = next(
            _in_words(merge.target.layout, *outcome.rewritten_example)
            for (merge, _), outcome in zip(packed, outcomes, strict=True)
            if outcome.rewritten_example is not None
        )
    return Conflicts(len(pairs) + rewritten, len(at_once), example)


def _of_rows(layout: Layout, earlier: Row, later: Row) -> str:
    names = [field for part in layout.parts for field in part.fields]
    before, after = ({name: getattr(row, name) for name in names} for row in (earlier, later))
    return _in_words(layout, before, after)


def _in_words(layout: Layout, before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The key, and the first columns that differ."""
    key = ", ".join(f"{name} {_short.repr(after[name])}" for name in layout.own_key)
    differing = [
        f"{name} {_short.repr(value)} and {_short.repr(after[name])}"
        for name, value in before.items()
        if value != after[name]
    ]
    return f"{key} has {'; '.join(differing[:_NAMED_COLUMNS])}"
