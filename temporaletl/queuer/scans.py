"""Planning of deletion scans, for the streams that have one in this run."""

from collections.abc import Collection, Iterator
from typing import Any

from temporaletl.deletions import accepts_deletions, scan_planners, scans_for_deletions
from temporaletl.errors import ConfigurationError
from temporaletl.messages import ETLInput, QueuerInput
from temporaletl.query import ACCEPT_DELETIONS
from temporaletl.strategies import Plan


def check_acceptance(request: QueuerInput) -> bool:
    """Whether the request accepts all deletions that its scans find.

    Raises:
        ConfigurationError: its parameter is unclear, or its source has no deletion scans.
    """
    if ACCEPT_DELETIONS in request.params and request.source not in scan_planners:
        raise ConfigurationError(
            f"the parameter {ACCEPT_DELETIONS} is not for source {request.source!r}, which has no "
            "deletion scans"
        )
    return accepts_deletions(request.params)


def scan_jobs(plan: Plan, backlog: Any, scanned: Collection[str] = ()) -> Iterator[ETLInput]:
    """Yield the deletion scans of a batch, at most one for each stream. May block.

    `scanned` are the streams of which one was finished within the last day.
    """
    if plan.metadata.source not in scan_planners:
        return
    planner = scan_planners.get(plan.metadata.source)
    for stream, window in plan.windows.items():
        is_empty = window.start is not None and window.start == window.end
        if is_empty or not scans_for_deletions(
            planner.find_deleted(stream), plan.metadata.mode, scanned=stream in scanned
        ):
            continue
        params = planner.inputs(plan, backlog, stream)
        if params is not None:
            yield plan.deletion_scan(stream, **params)
