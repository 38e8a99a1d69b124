"""Division of a window into those of its jobs, by counts of what each part holds."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from temporaletl.external.threads import gather_all
from temporaletl.messages import Window

#: Bounds lie on whole ones, so that no source's precision matters.
MINUTE = timedelta(minutes=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Into so many parts a stretch is divided at once, at most: a power of two, so that bounds stay the
#: same where another count divides it further. All are counted together, which is one wait for a
#: source.
_PARTS = 8
#: A window of which nothing is known but its ends is divided into so many, at least and at most.
_CELLS = (8, 64)


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of what a source has in a window, by the time that orders it.

    `exact` is whether a count of nothing means that there is nothing.
    """

    count: Callable[[Window], Awaitable[int]]
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of time whose bounds are whole minutes, and how much was counted in it."""

    start: datetime
    end: datetime
    held: int


@dataclass(frozen=True, slots=True)
class Part:
    """One of the windows of a division, and about how much it holds."""

    window: Window
    held: int


async def divide(
    counts: Counts,
    whole: Window,
    *,
    size: Callable[[int], int],
    ends: Callable[[], Awaitable[tuple[datetime, datetime]]],
) -> tuple[Window, ...]:
    """Divide a window into consecutive ones of at most about `size(count of all)` items.

    The outer bounds stay as they are, open ones open; none where an exact count finds nothing.
    `ends` are the times between which bounds may lie, requested beside the count; what is outside
    of them is in the first and the last window, and counts there. Windows that still hold too many
    lie within one minute.

    Raises: as counting does, and `ends`.
    """
    count, bounds = await gather_all((counts.count(whole), ends()))
    if count == 0 and counts.exact:
        return ()
    most = size(count)
    if count <= most:
        return (whole,)
    cells = _cells(between(*bounds, count), whole, 2 * -(-count // most))
    inner = [Window(start=start, end=end) for start, end in pairwise(cells)]
    inner[0] = Window(start=whole.start, end=inner[0].end)
    # The last one holds what the others do not, as in `divide_counted`.
    held = await gather_all(map(counts.count, inner[:-1]))
    held += (max(0, count - sum(held)),)
    stretches = [Stretch(*each, n) for each, n in zip(pairwise(cells), held, strict=True)]
    parts = await divide_counted(counts, whole, stretches, most=most)
    return tuple(part.window for part in parts)


def _cells(stretch: Stretch, whole: Window, parts: int) -> Sequence[datetime]:
    """The bounds of about so many equally long parts of a stretch, at least two.

    They are powers of two of minutes long, from 1970 on: so many issues more or less change none.
    """
    least, most = _CELLS
    parts = max(least, min(most, parts))
    low, high = (stretch.start - EPOCH) // MINUTE, (stretch.end - EPOCH) // MINUTE - 1
    length = 1
    while high // length - low // length >= parts:
        length *= 2
    bounds = [_time(n * length) for n in range(low // length, high // length + 2)]
    return [whole.start or bounds[0], *bounds[1:-1], whole.end or bounds[-1]]


def between(earliest: datetime, latest: datetime, held: int) -> Stretch:
    """Return the stretch from the minute of the one time to the end of that of the other."""
    low = (earliest - EPOCH) // MINUTE
    return Stretch(_time(low), _time(max(-((EPOCH - latest) // MINUTE), low + 1)), held)


async def divide_counted(
    counts: Counts,
    whole: Window,
    stretches: Sequence[Stretch],
    *,
    most: int,
    most_undivided: int | None = None,
) -> tuple[Part, ...]:
    """Divide a window of which stretches are counted, in their order; see `divide`.

    Between them there is nothing. A stretch of more than `most_undivided`, by default `most`, is
    counted in parts. What lies before the first one or behind the last one counts there.

    Raises: as counting does.
    """
    undivided = most if most_undivided is None else most_undivided
    low = stretches[0].start

    async def divided(stretch: Stretch) -> list[Stretch]:
        if stretch.held <= undivided or stretch.end - stretch.start <= MINUTE:
            return [stretch]
        bounds = _bounds(stretch, most)

        def window_of(start: datetime, end: datetime) -> Window:
            return Window(start=whole.start if start == low else start, end=end)

        # The last part holds what the others do not: also what is newer than the highest bound.
        held = await gather_all(counts.count(window_of(*each)) for each in pairwise(bounds[:-1]))
        held += (max(0, stretch.held - sum(held)),)
        parts = [Stretch(*ends, n) for ends, n in zip(pairwise(bounds), held, strict=True)]
        return [each for found in await gather_all(map(divided, parts)) for each in found]

    starts: list[datetime] = []
    totals: list[int] = []
    for found in await gather_all(map(divided, stretches)):
        for stretch in found:
            if starts and (stretch.held == 0 or totals[-1] + stretch.held <= most):
                totals[-1] += stretch.held
            else:
                starts.append(stretch.start)
                totals.append(stretch.held)
    cuts = [whole.start, *starts[1:], whole.end]
    windows = (Window(start=start, end=end) for start, end in pairwise(cuts))
    return tuple(map(Part, windows, totals))


def _time(minute: int) -> datetime:
    return EPOCH + minute * MINUTE


def _bounds(stretch: Stretch, most: int) -> Sequence[datetime]:
    """The bounds of a stretch's parts: halves of halves, as many as bring each to its size."""
    bounds = [(time - EPOCH) // MINUTE for time in (stretch.start, stretch.end)]
    parts = 1
    while parts < _PARTS and 2 * parts * most < 3 * stretch.held:
        parts *= 2
        middles = [start + (end - start) // 2 for start, end in pairwise(bounds)]
        bounds = sorted({*bounds, *middles})
    return [_time(minute) for minute in bounds]
