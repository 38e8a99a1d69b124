"""Salesforce's slices as jobs."""

from collections.abc import Iterator

from temporaletl import ETLInput, Plan, transform_inputs_method
from temporaletl.queuer.sources.salesforce.params import SOURCE, Slice


@transform_inputs_method(SOURCE)
def expand_backlog(plan: Plan, backlog: tuple[Slice, ...]) -> Iterator[ETLInput]:
    """Make one job of each slice; how it is read, its own number of rows decides later."""
    for each in backlog:
        yield plan.job(
            each.stream,
            each.window,
            object=each.object,
            stamp=each.stamp,
            deleted=each.deleted,
            bounded=each.bounded,
        )
