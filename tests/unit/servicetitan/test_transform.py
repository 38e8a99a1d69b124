"""Records into rows: exact amounts, times in UTC, and faults that name their field."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from temporaletl import ETLInput, RecordError, TransformContext
from temporaletl.strategies import resolve
from temporaletl.worker.loading.columns import layout_of
from temporaletl.worker.sources.servicetitan import transform
from temporaletl.worker.sources.servicetitan.extract import streams
from temporaletl.worker.sources.servicetitan.query import ServiceTitanQuery
from temporaletl.worker.sources.servicetitan.record import Record, bare_of, timestamp, undecodable
from temporaletl.worker.sources.servicetitan.rows import StCustomer, StEstimate, StInvoice, StJob

REGISTERED = (transform, streams)
JOB = ETLInput(batch_id="b", seq=0, job_id="j", source="servicetitan", stream="jobs", mode="full")
CONTEXT = TransformContext(job=JOB, query=ServiceTitanQuery(paging="export"))


def row_of(stream: str, payload: Any) -> Any:
    (row,) = resolve("servicetitan", stream).transform(payload, CONTEXT)
    return row


def test_each_stream_has_its_table() -> None:
    tables = {
        stream: [(row, row.table, row.key) for row in resolve("servicetitan", stream).rows]
        for stream in ("customers", "jobs", "invoices", "estimates")
    }
    assert tables == {
        "customers": [(StCustomer, "st_customers", ("st_id",))],
        "jobs": [(StJob, "st_jobs", ("st_id",))],
        "invoices": [(StInvoice, "st_invoices", ("st_id",))],
        "estimates": [(StEstimate, "st_estimates", ("st_id",))],
    }


@pytest.mark.parametrize("kind", [StCustomer, StJob, StInvoice, StEstimate])
def test_money_and_times_have_columns_of_their_types(kind: Any) -> None:
    types = {column.name: column.type for column in layout_of(kind).columns}
    assert types["st_id"] == "bigint"
    assert types["full_data"] == "jsonb"
    assert types["modified_on"] == types["created_on"] == "timestamptz"
    money = {"balance", "total", "sub_total", "subtotal", "tax", "sales_tax"} & set(types)
    assert money
    assert {types[name] for name in money} == {"numeric"}


@pytest.mark.parametrize("stream", ["customers", "jobs", "invoices", "estimates"])
def test_all_but_the_id_may_be_absent(stream: str) -> None:
    row = row_of(stream, {"id": 7})
    assert row.st_id == 7
    assert row.full_data == {"id": 7}
    with pytest.raises(RecordError, match=rf"not one of the {stream}: .*`id`"):
        row_of(stream, {"name": "x"})


def test_amounts_are_exact_as_numbers_and_as_texts() -> None:
    assert row_of("customers", b'{"id":1,"balance":-0.10}').balance == Decimal("-0.10")
    text = b'{"id":1,"total":"123456789012345.6789","salesTaxCode":{"id":1,"taxRate":0.0860}}'
    invoice = row_of("invoices", text)
    assert str(invoice.total) == "123456789012345.6789"
    assert str(invoice.tax_rate) == "0.0860"
    with pytest.raises(RecordError, match="total is no amount: NaN"):
        row_of("invoices", b'{"id":1,"total":"NaN"}')
    with pytest.raises(RecordError, match=r"\$\.total"):
        row_of("invoices", b'{"id":1,"total":"12,50"}')


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01T12:00:00Z", datetime(2024, 5, 1, 12, tzinfo=UTC)),
        ("2024-05-01T12:00:00.9999999Z", datetime(2024, 5, 1, 12, 0, 0, 999999, tzinfo=UTC)),
        ("2024-05-01T12:00:00", datetime(2024, 5, 1, 12, tzinfo=UTC)),
        ("2024-05-01T14:00:00+02:00", datetime(2024, 5, 1, 12, tzinfo=UTC)),
        ("2024-05-01", datetime(2024, 5, 1, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+02:00", None),
        (None, None),
    ],
)
def test_times_are_in_utc(text: str | None, expected: datetime | None) -> None:
    assert timestamp(text, "field") == expected


@pytest.mark.parametrize("text", ["", "soon", "2024-13-01T00:00:00Z", "9999-12-31T23:59:59-02:00"])
def test_what_is_no_time_names_its_field(text: str) -> None:
    with pytest.raises(RecordError, match="dueDate is not a time"):
        timestamp(text, "dueDate")


def test_names_are_found_in_texts_and_in_objects() -> None:
    assert row_of("customers", {"id": 1, "type": "Residential"}).type == "Residential"
    assert row_of("customers", {"id": 1, "type": {"id": 2, "name": "Commercial"}}).type == (
        "Commercial"
    )
    assert row_of("estimates", {"id": 1, "status": {"value": 1, "name": "Sold"}}).status == "Sold"
    assert row_of("estimates", {"id": 1, "status": None}).status is None


def test_what_has_no_column_is_in_the_full_data() -> None:
    record = {"id": 1, "items": [{"id": 2, "total": "9.9900"}], "new": {"deep": [1.5, None]}}
    assert row_of("invoices", record).full_data == record


def test_a_record_knows_its_payload_and_its_name() -> None:
    found = msgspec.json.encode({"id": 1, "jobNumber": "A-1", "x": 1})
    record = Record.read("jobs", msgspec.Raw(found))
    assert record.key == "A-1"
    assert record.raw == {"id": 1, "jobNumber": "A-1", "x": 1}
    assert row_of("jobs", record.raw) == row_of("jobs", record)


@pytest.mark.parametrize(
    ("payload", "key"),
    [
        (b'{"id":"x","jobNumber":"A-1"}', "A-1"),
        (b'{"id":"x"}', "x"),
        (b'{"id":[1]}', None),
        (b'"nothing"', None),
        (b'{"id":1,"name":"\xff"}', "1"),
    ],
)
def test_what_cannot_be_read_is_kept_under_what_it_has(payload: bytes, key: str | None) -> None:
    raw = msgspec.Raw(payload)
    reject = undecodable(raw, "why")
    assert (reject.stage, reject.reason, reject.key) == ("extract", "why", key)
    assert bytes(reject.payload) == payload
    assert bare_of(raw) is not None


@pytest.mark.parametrize(
    "payload", [b"[]", b'{"id":1.5}', b'{"id":1,"active":"yes"}', b'{"id":1,"name":"\xff"}', b"{"]
)
def test_no_fault_of_a_record_is_anything_but_a_record_error(payload: bytes) -> None:
    with pytest.raises(RecordError):
        row_of("customers", payload)


def test_half_a_surrogate_pair_becomes_the_character_that_stands_for_none() -> None:
    row = row_of("customers", b'{"id":1,"other":"\\ud83d","name":"a\\ud83d"}')
    assert row.name == "a\ufffd"
    assert row.full_data["other"] == "\ufffd"
