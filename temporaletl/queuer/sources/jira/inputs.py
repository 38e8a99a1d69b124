"""The jobs of source `jira`: one for each range of issues."""

from collections.abc import Iterator, Mapping

from pydantic import JsonValue

from temporaletl import ETLInput, Plan, scan_inputs_method, transform_inputs_method
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.queuer.sources.jira.params import Backlog, JiraParams


@transform_inputs_method("jira")
def expand_backlog(plan: Plan, backlog: Backlog) -> Iterator[ETLInput]:
    """Plan one job for each range of issues."""
    for issues in backlog.ranges:
        yield plan.job(
            "issues",
            plan.windows["issues"],
            order=issues.order,
            from_ms=issues.from_ms,
            to_ms=issues.to_ms,
            updated_from_ms=issues.updated_from_ms,
        )


@scan_inputs_method("jira", find_deleted=lambda _stream: JiraSettings.load().find_deleted)
def scan_inputs(plan: Plan, _backlog: Backlog, _stream: str) -> Mapping[str, JsonValue] | None:
    """The query of the deletion scan; None where a filter of the run leaves most issues out."""
    return {} if JiraParams.from_dict(plan.metadata.params).jql is None else None
