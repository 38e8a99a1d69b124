"""The jobs of source `salesforce`: one for each slice of an object."""

from collections.abc import Iterator

from temporaletl import ETLInput, Plan, transform_inputs_method
from temporaletl.queuer.sources.salesforce.params import SOURCE, Slice


@transform_inputs_method(SOURCE)
def expand_backlog(plan: Plan, backlog: tuple[Slice, ...]) -> Iterator[ETLInput]:
    """Make one job of each slice; how it is read, the number of its rows decides."""
    for part in backlog:
        yield plan.job(
            part.stream,
            part.window,
            object=part.object,
            stamp=part.stamp,
            deleted=part.deleted,
            bounded=part.bounded,
            counted=part.counted,
        )
