"""The query of a job of source `temporal`: executions of one namespace."""

from pydantic import Field

from temporaletl import Query, query_type


@query_type("temporal")
class TemporalQuery(Query):
    """Executions of one namespace: those that closed in the job's window, or the running ones.

    `namespaces` and `executions_per_job` (about how many a window may hold) were for the
    planning. `keep_undecodable` is what is always done: schedules may still have it.
    """

    VERSION = "2"
    SPECIFIC_VERSION = "2.0"

    namespace: str
    running: bool = False
    namespaces: tuple[str, ...] = ()
    executions_per_job: int = Field(default=50_000, ge=1)
    keep_undecodable: bool = False
