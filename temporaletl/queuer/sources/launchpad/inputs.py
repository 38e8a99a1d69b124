"""Launchpad's slices as jobs."""

from collections.abc import Iterator
from itertools import chain

from temporaletl import ETLInput, Plan, transform_inputs_method
from temporaletl.queuer.sources.launchpad.params import Backlog


@transform_inputs_method("launchpad")
def expand_backlog(plan: Plan, backlog: Backlog) -> Iterator[ETLInput]:
    """One job for each stream and slice of members or target, and a deletion scan.

    Two jobs may meet the same bug; both make the same rows of it.
    """
    for stream, window in plan.windows.items():
        if window.start is not None and window.start == window.end:
            # Without an upper bound, an empty window would be all that came after it.
            continue
        for members in backlog.slices:
            yield plan.job(stream, window, members=list(members), targets=[])
        for target in backlog.targets:
            yield plan.job(stream, window, members=[], targets=[target])
        if backlog.scan:
            yield plan.deletion_scan(
                stream,
                members=[*chain.from_iterable(backlog.slices)],
                targets=[*backlog.targets],
            )
