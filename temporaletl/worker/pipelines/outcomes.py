"""Outcomes of nodes: what the warehouse has of a node, as the workflow knows it."""

from pydantic import JsonValue

from temporaletl.warehouse.pipeline_nodes import Measure, NodeRecord
from temporaletl.worker.pipelines.definition import ERROR_HANDLE
from temporaletl.worker.pipelines.graph import NodeState
from temporaletl.worker.pipelines.messages import NodeError, NodeOutcome, Wait


def outcome_of(record: NodeRecord) -> NodeOutcome:
    """What the warehouse has of a node, as the workflow knows it."""
    wait = None if record.wait is None or record.is_settled else Wait.model_validate(record.wait)
    return NodeOutcome.model_validate(
        {
            "state": record.state,
            "handles": record.handles or (),
            "wait": wait,
            "bytes": record.result_bytes or 0,
            "items": record.result_items,
            "sha256": record.result_sha256,
            "error": record.error,
        }
    )


def value_of_failure(
    error: NodeError, default: JsonValue, *, catches: bool, goes_on: bool
) -> tuple[JsonValue, tuple[str | None, ...]]:
    """The result of a node that failed, for those behind it, and the outcomes it takes."""
    if catches:
        return error.model_dump(mode="json"), (ERROR_HANDLE,)
    return (default, (None,)) if goes_on else (None, ())


def outcome(
    state: NodeState,
    handles: tuple[str | None, ...],
    measure: Measure,
    error: NodeError | None = None,
) -> NodeOutcome:
    """What became of a node that is settled now."""
    return NodeOutcome(state=state, handles=handles, error=error, **measure._asdict())
