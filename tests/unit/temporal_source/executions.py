"""Executions as a server would list them, without one."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.common.v1 import (
    Memo,
    Payload,
    SearchAttributes,
    WorkflowExecution,
    WorkflowType,
)
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo

from temporaletl import ETLInput, TransformContext
from temporaletl.worker.sources.temporal.query import TemporalQuery

STARTED = datetime(2025, 3, 4, 5, 6, 7, 123456, tzinfo=UTC)


def stamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def json_payload(text: str, *, kind: str | None = None) -> Payload:
    metadata = {"encoding": b"json/plain"}
    if kind is not None:
        metadata["type"] = kind.encode()
    return Payload(metadata=metadata, data=text.encode())


def make_execution(
    *,
    workflow_id: str = "order-1",
    run_id: str = "run-1",
    status: WorkflowExecutionStatus.ValueType = (
        WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_COMPLETED
    ),
    closed: datetime | None = STARTED,
    memo: Mapping[str, Payload] | None = None,
    search_attributes: Mapping[str, Payload] | None = None,
) -> WorkflowExecutionInfo:
    return WorkflowExecutionInfo(
        execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
        type=WorkflowType(name="OrderFlow"),
        start_time=stamp(STARTED),
        close_time=stamp(closed) if closed is not None else None,
        status=status,
        history_length=11,
        task_queue="orders",
        memo=Memo(fields=dict(memo or {})),
        search_attributes=SearchAttributes(indexed_fields=dict(search_attributes or {})),
    )


def as_record(execution: WorkflowExecutionInfo) -> dict[str, Any]:
    return MessageToDict(execution)


def make_job(**params: Any) -> ETLInput:
    return ETLInput(
        batch_id="batch",
        seq=0,
        job_id="job",
        source="temporal",
        stream="workflows",
        mode="incremental",
        params={"namespace": "shop", **params},
    )


def make_context(**params: Any) -> TransformContext[TemporalQuery]:
    job = make_job(**params)
    return TransformContext(job=job, query=TemporalQuery.from_dict(job.params))
