import base64
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflow.v1 import WorkflowExecutionInfo

from temporaletl import Reject
from temporaletl.rows import TemporalWorkflow
from temporaletl.worker.sources.temporal.payload import undecodable
from temporaletl.worker.sources.temporal.transform import transform
from tests.unit.temporal_source.executions import (
    STARTED,
    as_record,
    json_payload,
    make_context,
    make_execution,
)


def row_of(execution: WorkflowExecutionInfo, **params: Any) -> TemporalWorkflow:
    (row,) = transform(as_record(execution), make_context(**params))
    assert isinstance(row, TemporalWorkflow), row
    return row


def reject_of(execution: WorkflowExecutionInfo) -> Reject:
    (reject,) = transform(as_record(execution), make_context())
    assert isinstance(reject, Reject), reject
    return reject


def test_an_execution_becomes_a_row() -> None:
    closed = datetime(2025, 3, 4, 6, 0, 0, 5, tzinfo=UTC)
    row = row_of(make_execution(closed=closed))
    assert (row.namespace, row.workflow_id, row.run_id) == ("shop", "order-1", "run-1")
    assert (row.workflow_type, row.task_queue, row.history_length) == ("OrderFlow", "orders", 11)
    assert (row.start_time, row.close_time) == (STARTED, closed)
    assert (row.start_time_unix, row.close_time_unix) == (STARTED.timestamp(), closed.timestamp())
    assert row.status == "COMPLETED"


def test_the_protobuf_bytes_become_the_same_row() -> None:
    execution = make_execution(memo={"a": json_payload("1")})
    (row,) = transform(execution.SerializeToString(), make_context())
    assert row == row_of(execution)


def test_a_running_execution_has_no_close_time() -> None:
    row = row_of(
        make_execution(
            status=WorkflowExecutionStatus.WORKFLOW_EXECUTION_STATUS_RUNNING, closed=None
        )
    )
    assert (row.status, row.close_time, row.close_time_unix) == ("RUNNING", None, None)


@pytest.mark.parametrize(
    "status",
    ["COMPLETED", "FAILED", "CANCELED", "TERMINATED", "CONTINUED_AS_NEW", "TIMED_OUT", "PAUSED"],
)
def test_the_status_is_temporals_own_name(status: str) -> None:
    value = WorkflowExecutionStatus.Value(f"WORKFLOW_EXECUTION_STATUS_{status}")
    assert row_of(make_execution(status=value)).status == status


@pytest.mark.parametrize("status", [0, 99])
def test_an_unknown_status_is_rejected(status: Any) -> None:
    assert "status is unknown" in reject_of(make_execution(status=status)).reason


def test_an_execution_without_a_start_time_is_rejected() -> None:
    execution = make_execution()
    execution.ClearField("start_time")
    assert reject_of(execution).reason == "the execution has no start time"


def test_memo_fields_are_decoded() -> None:
    row = row_of(
        make_execution(
            memo={
                "json": json_payload('{"ü": [1, 2.5, null, "x"], "big": 123456789012345678901}'),
                "null": Payload(metadata={"encoding": b"binary/null"}),
                "json null": json_payload("null"),
                "empty": Payload(),
                "bytes": Payload(metadata={"encoding": b"binary/plain"}, data=b"\x00\xff"),
                "proto json": Payload(
                    metadata={"encoding": b"json/protobuf", "messageType": b"m"}, data=b'{"a": 1}'
                ),
                "proto": Payload(
                    metadata={"encoding": b"binary/protobuf", "messageType": b"pkg.M"}, data=b"\x08"
                ),
            }
        )
    )
    assert row.memo == {
        "json": {"ü": [1, 2.5, None, "x"], "big": 123456789012345678901},
        "null": None,
        "json null": None,
        "empty": None,
        "bytes": {"encoding": "binary/plain", "data": "AP8="},
        "proto json": {"a": 1},
        "proto": {"encoding": "binary/protobuf", "data": "CA==", "message_type": "pkg.M"},
    }


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (json_payload("{broken"), "no valid JSON"),
        (json_payload("NaN"), "no valid JSON"),
        (json_payload('"\\ud800"'), "no valid JSON"),
        (json_payload("[" * 100_000), "no valid JSON"),
        (Payload(metadata={"encoding": b"json/plain"}, data=b"\xff"), "no valid JSON"),
        (Payload(metadata={"encoding": b"json/plain"}), "no valid JSON"),
        (
            Payload(metadata={"encoding": b"binary/encrypted"}, data=b"x"),
            "encoded as 'binary/encrypted', which needs a codec",
        ),
        (Payload(data=b"x"), "does not say how it is encoded"),
    ],
)
def test_a_memo_that_cannot_be_decoded_is_kept_as_it_is(payload: Payload, reason: str) -> None:
    execution = make_execution(memo={"good": json_payload("1"), "note": payload})
    assert row_of(execution).memo == {
        "good": 1,
        "note": {
            "encoding": payload.metadata["encoding"].decode(),
            "data": base64.b64encode(payload.data).decode(),
        },
    }
    (field,) = undecodable(as_record(execution)).items()
    assert field[0] == "memo field 'note'"
    assert reason in field[1]


def test_a_rejected_payload_can_be_transformed_again() -> None:
    execution = make_execution(memo={"note": json_payload("{broken")})
    kept = msgspec.json.decode(msgspec.json.encode(as_record(execution)))
    (row,) = transform(kept, make_context(keep_undecodable=True))
    assert row == row_of(execution)


def test_search_attributes_are_decoded_by_their_type() -> None:
    row = row_of(
        make_execution(
            search_attributes={
                "When": json_payload('"2025-01-02T03:04:05.123456789+02:00"', kind="Datetime"),
                "Whole": json_payload('"2025-01-02T03:04:05Z"', kind="Datetime"),
                "Tags": json_payload('["a", "b"]', kind="KeywordList"),
                "OneTag": json_payload('"a"', kind="KeywordList"),
                "Count": json_payload("7", kind="Int"),
                "Share": json_payload("0.5", kind="Double"),
                "Open": json_payload("true", kind="Bool"),
                "Team": json_payload('"red"', kind="Keyword"),
                "Untyped": json_payload('"kept"'),
                "Bare": Payload(data=b"[1]"),
                "Unset": Payload(metadata={"encoding": b"binary/null"}),
            }
        )
    )
    assert row.search_attributes == {
        "When": "2025-01-02T01:04:05.123456Z",
        "Whole": "2025-01-02T03:04:05Z",
        "Tags": ["a", "b"],
        "OneTag": ["a"],
        "Count": 7,
        "Share": 0.5,
        "Open": True,
        "Team": "red",
        "Untyped": "kept",
        "Bare": [1],
        "Unset": None,
    }


@pytest.mark.parametrize("text", ['"yesterday"', "5", '"2025-01-02T03:04:05"', "{broken", "NaN"])
def test_a_search_attribute_that_breaks_its_type_is_kept_as_it_is(text: str) -> None:
    execution = make_execution(
        search_attributes={
            "When": json_payload(text, kind="Datetime"),
            "Count": json_payload("7", kind="Int"),
        }
    )
    assert row_of(execution).search_attributes == {
        "When": {
            "encoding": "json/plain",
            "data": base64.b64encode(text.encode()).decode(),
            "type": "Datetime",
        },
        "Count": 7,
    }
    assert list(undecodable(as_record(execution))) == ["search attribute 'When'"]


def test_raw_holds_the_execution_as_json() -> None:
    execution = make_execution(memo={"a": json_payload("1")})
    row = row_of(execution)
    assert row.raw == as_record(execution)
    assert row.raw["historyLength"] == "11"


def test_raw_leaves_large_memo_data_to_the_memo_column() -> None:
    large = msgspec.json.encode("x" * 100_000).decode()
    row = row_of(make_execution(memo={"a": json_payload("1"), "large": json_payload(large)}))
    assert row.memo["large"] == "x" * 100_000
    assert len(msgspec.json.encode(row.raw)) < 2_000
    assert row.raw["memo"]["fields"]["large"]["omittedDataLength"] > 100_000
    assert row.raw["memo"]["fields"]["a"]["data"] == "MQ=="
