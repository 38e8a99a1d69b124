"""Charts: figures laid out as bars, for templates to draw."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise

from temporaletl.warehouse.figures import EventCount, PageCount

#: The size of the drawing, in its own units; the page scales it.
WIDTH, HEIGHT = 640, 160
#: Types with a colour of their own; the others share the last one.
_MOST_TYPES = 7
_OTHERS = "all others"
_GAP = 0.2
_WIDEST = 48


@dataclass(frozen=True, slots=True)
class Bar:
    """One rectangle; `kind` numbers its colour."""

    x: float
    y: float
    width: float
    height: float
    kind: int
    title: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Stacked bars, and the same numbers as a table: a row for each bar, a column for each kind."""

    bars: tuple[Bar, ...]
    kinds: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]
    highest: int
    first: str
    last: str

    @property
    def total(self) -> int:
        return sum(sum(numbers) for _, numbers in self.rows)


def stack(kinds: Sequence[str], rows: Sequence[tuple[str, tuple[int, ...]]]) -> Chart:
    """Lay rows of numbers out as bars beside each other, one colour for each kind."""
    highest = max((sum(numbers) for _, numbers in rows), default=0)
    each = WIDTH / max(1, len(rows))
    width = min(_WIDEST, each * (1 - _GAP))
    bars = []
    for place, (name, numbers) in enumerate(rows):
        below = float(HEIGHT)
        for kind, number in enumerate(numbers):
            if not number:
                continue
            # What is there is seen, however little it is.
            height = max(1.0, number / highest * HEIGHT)
            below -= height
            bars.append(
                Bar(
                    x=round(place * each + (each - width) / 2, 2),
                    y=round(max(0.0, below), 2),
                    width=round(width, 2),
                    height=round(height, 2),
                    kind=kind,
                    title=f"{name}: {number:,} {kinds[kind]}",
                )
            )
    return Chart(
        bars=tuple(bars),
        kinds=tuple(kinds),
        rows=tuple(rows),
        highest=highest,
        first=rows[0][0] if rows else "",
        last=rows[-1][0] if rows else "",
    )


def events_chart(counts: Sequence[EventCount], until: date, *, days: int) -> Chart:
    """Events of the last days by day and type: the commonest types, and all others in one."""
    totals: Counter[str] = Counter()
    by_day: dict[date, Counter[str]] = {}
    for one in counts:
        totals[one.event_type] += one.events
        by_day.setdefault(one.day, Counter())[one.event_type] += one.events
    kinds = sorted(totals, key=lambda name: (-totals[name], name))
    shown, others = kinds[:_MOST_TYPES], kinds[_MOST_TYPES:]
    rows = []
    for back in range(days - 1, -1, -1):
        day = until - timedelta(days=back)
        found = by_day.get(day, Counter())
        numbers = [found[name] for name in shown]
        if others:
            numbers.append(sum(found[name] for name in others))
        rows.append((f"{day:%Y-%m-%d}", tuple(numbers)))
    return stack([*shown, *([_OTHERS] if others else [])], rows)


def throughput_chart(counts: Sequence[PageCount], step: timedelta) -> Chart:
    """Rows of a run's pages by time and outcome; spans without a page are there, and empty."""
    kinds = ("inserted", "updated", "unchanged", "rejected")
    rows: list[tuple[str, tuple[int, ...]]] = []
    for before, one in pairwise([None, *counts]):
        assert one is not None  # noqa: S101 - only the first is none
        at = one.start if before is None else before.start + step
        while at < one.start:
            rows.append((_name_of(at), (0, 0, 0, 0)))
            at += step
        numbers = (one.inserted, one.updated, one.unchanged, one.rejected)
        rows.append((_name_of(one.start), numbers))
    return stack(kinds, rows)


def _name_of(at: datetime) -> str:
    return f"{at.astimezone(UTC):%m-%d %H:%M:%S} UTC"
