"""Windows of streams as jobs."""

from collections.abc import Iterator
from datetime import UTC, datetime

from temporaletl import ETLInput, Plan, Window, transform_inputs_method
from temporaletl.queuer.sources.trino.params import SOURCE, Backlog, Share

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@transform_inputs_method(SOURCE)
def expand(plan: Plan, backlog: Backlog) -> Iterator[ETLInput]:
    """One job for each slice, oldest first, and a deletion scan where a stream wants one."""
    for stream, share in backlog.shares.items():
        for window in slices(share):
            yield plan.job(stream, window)
        if stream in backlog.scans:
            yield plan.deletion_scan(stream)


def slices(share: Share) -> Iterator[Window]:
    """Cut a window; none of the slices overlap, and nothing lies between them."""
    start, end, length = share.window.start, share.window.end, share.slice_length
    begin = start or share.first
    if length is None or begin is None or end is None:
        yield share.window
        return
    bound = _EPOCH + (begin - _EPOCH) // length * length + length
    while bound < end:
        yield Window(start=start, end=bound)
        start, bound = bound, bound + length
    yield Window(start=start, end=end)
