"""The backlog of source `temporal`: which executions of which namespaces."""

from dataclasses import dataclass
from datetime import timedelta

from pydantic import Field

from temporaletl import Plan, Query, Window, params_method
from temporaletl.external.temporal_settings import SourceTemporalSettings, source_settings

SOURCE = "temporal"
STREAM = "workflows"


class BacklogParams(Query):
    """Parameters of a run: see `temporaletl.worker.sources.temporal.query.TemporalQuery`."""

    namespaces: tuple[str, ...] = ()
    executions_per_job: int = Field(default=50_000, ge=1)
    keep_undecodable: bool = False


@dataclass(frozen=True, slots=True)
class Backlog:
    """The namespaces, the span of close times in each, and whether to list running ones."""

    namespaces: tuple[str, ...]
    window: Window
    running: bool
    executions_per_job: int


# Visibility is written asynchronously, without a promise when: most executions show within the
# lag, and those that closed within the last hour are listed again by the next batch.
@params_method(
    SOURCE,
    streams=(STREAM,),
    overlap=timedelta(hours=1),
    lag=lambda: timedelta(seconds=SourceTemporalSettings.load().lag_seconds),
    settings=source_settings,
    params=BacklogParams,
    filters=("namespaces",),
    scope=lambda: {"SOURCE_TEMPORAL_NAMESPACES": [*sorted(source_settings()[0].namespaces)]},
)
def describe(plan: Plan) -> Backlog | None:
    """Describe the executions to list. A backfill leaves out the running ones, of no window.

    Raises:
        ConfigurationError: a parameter is unknown or wrong; it is named.
    """
    params = BacklogParams.from_dict(plan.metadata.params)
    if STREAM not in plan.windows:
        return None
    settings, _ = source_settings()
    return Backlog(
        namespaces=params.namespaces or settings.namespaces,
        window=plan.windows[STREAM],
        running=plan.metadata.mode != "backfill",
        executions_per_job=params.executions_per_job,
    )
