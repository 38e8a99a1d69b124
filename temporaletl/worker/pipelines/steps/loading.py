"""Steps that are runs of sources: load, source."""

from collections.abc import Iterator

from pydantic import JsonValue

from temporaletl.errors import PermanentError
from temporaletl.messages import BatchSummary, QueuerInput
from temporaletl.warehouse.connection import Connection
from temporaletl.warehouse.pipeline_results import split
from temporaletl.worker.pipelines.messages import CloseRequest, Wait
from temporaletl.worker.pipelines.nodes.loading import LoadData, SourceData
from temporaletl.worker.pipelines.steps.context import NodeContext, Produced, Waiting
from temporaletl.worker.pipelines.steps.lists import listed

#: Of a part of the rows, which is a page of the run.
_MOST_ROWS = 5_000
_MOST_BYTES = 4_000_000


class RunFailedError(PermanentError):
    """The run that a node waited for did not complete."""


async def run_load(context: NodeContext[LoadData]) -> Waiting:
    """Write the rows down, and have them loaded by a run of the source `pipeline`."""
    data = context.data
    items = await listed(context, "rows", data.rows)

    def parts(connection: Connection) -> Iterator[list[JsonValue]]:
        return split(items(connection), most_items=_MOST_ROWS, most_bytes=_MOST_BYTES)

    run = QueuerInput(
        source="pipeline",
        mode="full",
        params={
            "execution": context.execution.execution_id,
            "node": context.node,
            "table": data.table,
            "key": list(data.key),
            "columns": dict(data.columns),
            **({} if data.max_rejected is None else {"max_rejected": data.max_rejected}),
        },
        notify=False,
    )
    return Waiting(Wait(run=run), parts=parts)


async def close_load(_context: NodeContext[LoadData], end: CloseRequest) -> Produced:
    """Tell how many rows were loaded, and by which run."""
    run = _completed(end)
    loaded: dict[str, JsonValue] = {**run.rows.model_dump(), "run": run.batch_id}
    return Produced(loaded, details=loaded)


async def run_source(context: NodeContext[SourceData]) -> Waiting:
    """Have a source run, as `etl run` does."""
    data = context.data
    params = {} if data.params is None else await context.fill(data.params)
    if not isinstance(params, dict):
        raise PermanentError(f"params is an object, not {params!r}")
    run = QueuerInput(
        source=data.source,
        connection=data.connection,
        mode=data.mode,
        streams=data.streams,
        params=params,
    )
    return Waiting(Wait(run=run))


async def close_source(_context: NodeContext[SourceData], end: CloseRequest) -> Produced:
    """Give the run's summary."""
    run = _completed(end)
    return Produced(run.model_dump(mode="json"), details={"run": run.batch_id})


def _completed(end: CloseRequest) -> BatchSummary:
    run = end.run
    if run is None:
        raise RunFailedError("its run has left no summary")
    if run.state != "completed":
        why = run.error or next((f"{one.job}: {one.error}" for one in run.failures), None)
        raise RunFailedError(
            f"run {run.batch_id} {'was ' * (run.state == 'cancelled')}{run.state}"
            + (f": {why}" if why else "")
        )
    return run
