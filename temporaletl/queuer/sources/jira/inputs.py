"""Jira's ranges of issues as jobs."""

from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from temporaletl import ETLInput, Plan, scan_inputs_method, transform_inputs_method
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.queuer.sources.jira.params import Backlog, JiraParams


@transform_inputs_method("jira")
def expand_backlog(plan: Plan, backlog: Backlog) -> Iterator[ETLInput]:
    """Make one job of each range."""
    for each in backlog.ranges:
        yield plan.job(
            "issues",
            plan.windows["issues"],
            order=each.order,
            from_ms=each.from_ms,
            to_ms=each.to_ms,
            updated_from_ms=each.updated_from_ms,
        )


@scan_inputs_method("jira", find_deleted=lambda _stream: JiraSettings.load().find_deleted)
def scan_inputs(plan: Plan, _backlog: Backlog, _stream: str) -> Mapping[str, JsonValue] | None:
    """None where a filter of the run's own leaves most issues out."""
    return {} if JiraParams.from_dict(plan.metadata.params).jql is None else None
