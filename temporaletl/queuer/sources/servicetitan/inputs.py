"""The jobs of source `servicetitan`: one for each stream."""

from collections.abc import Iterator

from temporaletl import ETLInput, Plan, transform_inputs_method
from temporaletl.external.servicetitan.settings import SOURCE
from temporaletl.queuer.sources.servicetitan.params import Backlog


@transform_inputs_method(SOURCE)
def expand_backlog(plan: Plan, backlog: Backlog) -> Iterator[ETLInput]:
    """Plan one job for each stream's share."""
    for share in backlog.shares:
        yield plan.job(
            share.stream, share.window, paging=share.paging, continue_from=share.continue_from
        )
