"""From an execution as protobuf's JSON to a row of `temporal_workflows`."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import MessageToDict
from temporalio.api.workflow.v1 import WorkflowExecutionInfo

from temporaletl import RecordError, Reject, TransformContext, transform_method
from temporaletl.rows import TemporalWorkflow
from worker.sources.temporal.payload import decode_memo, decode_search_attribute

_STATUS_PREFIX = "WORKFLOW_EXECUTION_STATUS_"
#: base64 characters above which `raw` leaves a memo's data out: the column `memo` has it.
_MOST_RAW_DATA = 32 * 1024


@transform_method("temporal", rows=(TemporalWorkflow,))
def transform(
    record: Mapping[str, Any] | bytes, context: TransformContext
) -> Iterator[TemporalWorkflow | Reject]:
    """One row, or one reject that holds the execution as JSON.

    The record may also be the execution's protobuf bytes.
    """
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
    record: Mapping[str, Any], workflow_id: str, run_id: str, context: TransformContext
) -> TemporalWorkflow:
    if not workflow_id or not run_id:
        raise RecordError("the execution has no workflow id or no run id")
    start = _time(record, "startTime")
    if start is None:
        raise RecordError("the execution has no start time")
    close = _time(record, "closeTime")
    memo = record.get("memo", {}).get("fields", {})
    attributes = record.get("searchAttributes", {}).get("indexedFields", {})
    lenient = context.query.keep_undecodable
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
        search_attributes={
            name: decode_search_attribute(name, payload) for name, payload in attributes.items()
        },
        memo={name: decode_memo(name, payload, lenient=lenient) for name, payload in memo.items()},
        raw=_raw(record, memo),
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
    """`WORKFLOW_EXECUTION_STATUS_TIMED_OUT` as `TimedOut`."""
    if not isinstance(value, str) or not value.startswith(_STATUS_PREFIX):
        raise RecordError(f"the execution's status is unknown: {value!r}")
    return value.removeprefix(_STATUS_PREFIX).title().replace("_", "")


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
