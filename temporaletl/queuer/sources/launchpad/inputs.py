"""The jobs of source `launchpad`: one for each stream and slice of members, or target."""

from collections.abc import Iterator, Mapping
from itertools import chain

from pydantic import JsonValue

from temporaletl import ETLInput, Plan, scan_inputs_method, transform_inputs_method
from temporaletl.external.launchpad.settings import LaunchpadSettings
from temporaletl.queuer.sources.launchpad.params import Backlog, LaunchpadParams


@transform_inputs_method("launchpad")
def expand_backlog(plan: Plan, backlog: Backlog) -> Iterator[ETLInput]:
    """Plan one job for each stream and slice of members, or target.

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


@scan_inputs_method("launchpad", find_deleted=lambda _stream: LaunchpadSettings.load().find_deleted)
def scan_inputs(plan: Plan, backlog: Backlog, _stream: str) -> Mapping[str, JsonValue] | None:
    """The query of the deletion scan; None where the run's parameters name other subjects."""
    params = LaunchpadParams.from_dict(plan.metadata.params)
    if params.members is not None or params.targets is not None:
        return None
    return {"members": [*chain.from_iterable(backlog.slices)], "targets": [*backlog.targets]}
