"""Jira's ranges of issues as jobs."""

from collections.abc import Iterator

from temporaletl import ETLInput, Plan, transform_inputs_method
from temporaletl.queuer.sources.jira.params import Backlog


@transform_inputs_method("jira")
def expand_backlog(plan: Plan, backlog: Backlog) -> Iterator[ETLInput]:
    """Make one job of each range, and one of the deletion scan."""
    for each in backlog.ranges:
        yield plan.job(
            "issues",
            plan.windows["issues"],
            order=each.order,
            from_ms=each.from_ms,
            to_ms=each.to_ms,
            updated_from_ms=each.updated_from_ms,
        )
    if backlog.scan:
        yield plan.deletion_scan("issues")
