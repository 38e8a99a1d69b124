"""The transform of an execution, as protobuf's JSON, into a row of `temporal_workflows`."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import MessageToDict
from temporalio.api.workflow.v1 import WorkflowExecutionInfo

from temporaletl import RecordError, Reject, TransformContext, transform_method
from temporaletl.rows import TemporalWorkflow
from temporaletl.worker.sources.temporal.payload import memo_of, search_attributes_of
from temporaletl.worker.sources.temporal.query import TemporalQuery

_STATUS_PREFIX = "WORKFLOW_EXECUTION_STATUS_"
#: base64 characters above which `raw` leaves a memo's data out: the column `memo` has it.
_MOST_RAW_DATA = 32 * 1024


@transform_method("temporal", rows=(TemporalWorkflow,))
def transform(
    record: Mapping[str, Any] | bytes | TemporalWorkflow, context: TransformContext[TemporalQuery]
) -> Iterator[TemporalWorkflow | Reject]:
    """One row, or one reject that holds the execution as JSON.

    The record may also be the execution's protobuf bytes, or a row that is one already: that of
    an execution that Temporal does not have any more.
    """
    if isinstance(record, TemporalWorkflow):
        yield record
        return
    if isinstance(record, bytes):
        record = MessageToDict(WorkflowExecutionInfo.FromString(record))
    execution = record.get("execution", {})
    workflow_id, run_id = execution.get("workflowId", ""), execution.get("runId", "")
    try:
        yield _row(record, workflow_id, run_id, context)
    except RecordError as error:
        yield Reject(
            stage="transform", reason=str(error), key=f"{workflow_id}/{run_id}", payload=record
        )


def _row(
    record: Mapping[str, Any],
    workflow_id: str,
    run_id: str,
    context: TransformContext[TemporalQuery],
) -> TemporalWorkflow:
    if not workflow_id or not run_id:
        raise RecordError("the execution has no workflow id or no run id")
    start = _time(record, "startTime")
    if start is None:
        raise RecordError("the execution has no start time")
    close = _time(record, "closeTime")
    return TemporalWorkflow(
        namespace=context.query.namespace,
        workflow_id=workflow_id,
        run_id=run_id,
        workflow_type=record.get("type", {}).get("name", ""),
        task_queue=record.get("taskQueue", ""),
        start_time=start,
        close_time=close,
        start_time_unix=start.timestamp(),
        close_time_unix=close.timestamp() if close is not None else None,
        status=_status(record.get("status")),
        history_length=int(record.get("historyLength", 0)),
        search_attributes=search_attributes_of(record),
        memo=memo_of(record),
        raw=_raw(record, record.get("memo", {}).get("fields", {})),
    )


def _time(record: Mapping[str, Any], name: str) -> datetime | None:
    text = record.get(name)
    if text is None:
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise RecordError(f"{name} is not a time: {text!r}") from None


def _status(value: object) -> str:
    """`WORKFLOW_EXECUTION_STATUS_TIMED_OUT` as `TIMED_OUT`."""
    if not isinstance(value, str) or not value.startswith(_STATUS_PREFIX):
        raise RecordError(f"the execution's status is unknown: {value!r}")
    return value.removeprefix(_STATUS_PREFIX)


def _raw(record: Mapping[str, Any], memo: Mapping[str, Any]) -> Mapping[str, Any]:
    if all(len(payload.get("data", "")) <= _MOST_RAW_DATA for payload in memo.values()):
        return record
    fields = {
        name: payload
        if len(data := payload.get("data", "")) <= _MOST_RAW_DATA
        else {"metadata": payload.get("metadata", {}), "omittedDataLength": len(data)}
        for name, payload in memo.items()
    }
    return {**record, "memo": {"fields": fields}}
