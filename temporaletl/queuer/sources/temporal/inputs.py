"""The jobs of source `temporal`: the running executions, and windows of close times."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from datetime import UTC, datetime, timedelta

from temporaletl import ETLInput, Plan, Window, transform_inputs_method
from temporaletl.external.temporal import closed_in, visibility
from temporaletl.queuer.sources.temporal.params import SOURCE, STREAM, Backlog
from temporaletl.telemetry.logs import get_logger

log = get_logger("temporal")

#: Counts the executions that closed in a window.
Count = Callable[[Window], Awaitable[int]]

#: What the parts of a window may count more than it did: executions close meanwhile, and a store
#: that is behind counts some of them late.
_MOST_GROWTH = 1.5
_SMALLEST = timedelta(seconds=1)
_FIRST_REACH = timedelta(hours=1)
_BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)  # before any Temporal


@transform_inputs_method(SOURCE)
async def expand(plan: Plan, backlog: Backlog | None) -> AsyncGenerator[ETLInput]:
    """Plan one job for a namespace's running executions, and one for each window of others."""
    if backlog is None:
        return
    store = visibility()
    for namespace in backlog.namespaces:
        if backlog.running:
            # Listed first, so that an execution that closes meanwhile is seen closed later.
            yield plan.job(STREAM, Window(), namespace=namespace, running=True)

        async def count(window: Window, namespace: str = namespace) -> int:
            return await store.count(namespace, closed_in(window))

        async for window in split(backlog.window, count, most=backlog.executions_per_job):
            yield plan.job(STREAM, window, namespace=namespace)


async def split(window: Window, count: Count, *, most: int) -> AsyncGenerator[Window]:
    """Cut a window, oldest part first, into parts of about `most` executions or fewer.

    The parts meet exactly and together are the window, however wrong the counts are; cuts lie
    on whole seconds, and a part of a second is not cut. Where parts count far more than the window
    does, the counts do not keep to their windows, and nothing more is cut.
    """
    whole = await count(window)
    counted, reliable = whole, True
    pending = [(window, whole)]
    while pending:
        part, number = pending.pop()
        middle = await _cut(part, count, most) if reliable and number > most else None
        if middle is None:
            yield part
            continue
        older = Window(start=part.start, end=middle)
        newer = Window(start=middle, end=part.end)
        numbers = await count(older), await count(newer)
        counted += sum(numbers) - number
        if counted > _MOST_GROWTH * whole:
            log.warning("counts_ignore_their_windows", window=whole, its_parts=counted)
            reliable = False
            yield part
            continue
        pending += [(newer, numbers[1]), (older, numbers[0])]


async def _cut(part: Window, count: Count, most: int) -> datetime | None:
    """The time at which to cut: in the middle, or behind the oldest if there is no start."""
    end = part.end or datetime.now(UTC)
    if part.start is None:
        reach = _FIRST_REACH
        while (cut := end - reach) > _BEGINNING:
            if await count(Window(end=cut)) <= most:
                return cut.replace(microsecond=0)
            reach *= 2
        return _BEGINNING if end > _BEGINNING else None
    middle = (part.start + (end - part.start) / 2).replace(microsecond=0)
    if end - part.start <= _SMALLEST or middle <= part.start:
        return None
    return middle
