"""Answers of ServiceTitan that are not what it promises: of one record, and of all."""

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from temporaletl import RecordError, SourceProtocolError
from temporaletl.worker.loading.encode import jsonb
from temporaletl.worker.sources.servicetitan.record import Record
from tests.fakes.servicetitan import generate
from tests.integration.job_reading import Read, Serve, corrupt, in_place_of, pages_of, read
from tests.integration.servicetitan_reading import STREAMS, is_whole, jobs_of, served

__all__ = ["served"]

WAYS = pytest.mark.parametrize("paging", ["export", "list"])


@WAYS
@pytest.mark.parametrize(
    "body",
    [b"{}", b'{"data": null, "hasMore": false}', b'{"data": []}', b'{"error": "no"}', b"[]"],
)
async def test_a_page_that_lacks_what_it_must_have_is_an_error(
    served: Serve, paging: str, body: bytes
) -> None:
    server = served(generate(5), SERVICETITAN_PAGING=paging)
    corrupt(server, in_place_of("customers", body))
    with pytest.raises(SourceProtocolError, match="customers"):
        await read(jobs_of(streams=["customers"]))


@WAYS
@pytest.mark.parametrize("body", [b"{}", b"", b"<html><title>Log in</title>", b'{"data": [{"a'])
async def test_an_answer_that_is_none_once_is_asked_for_again(
    served: Serve, paging: str, body: bytes
) -> None:
    tenant = generate(30)
    server = served(tenant, SERVICETITAN_PAGING=paging)
    tenant.withheld_seconds = 0
    for ending in ("/connect/token", "customers", "jobs"):
        corrupt(server, in_place_of(ending, body, times=1))
    found = await read(jobs_of())
    assert is_whole(found, tenant)


@WAYS
@pytest.mark.parametrize(
    "poison", [b"NaN", b"[" * 100_000 + b"]" * 100_000, b'"\xff"', b"1e999999"]
)
async def test_a_record_that_cannot_be_decoded_is_one_reject_with_its_text(
    served: Serve, paging: str, poison: bytes
) -> None:
    tenant = generate(30)
    tenant.withheld_seconds = 0
    rows = tenant.collections["customers"].rows
    row = list(rows.values())[7]
    row.body = tenant.collections["customers"].render(row)[:-1] + b',"poison":' + poison + b"}"
    served(tenant, SERVICETITAN_PAGING=paging)
    found = Read()
    rejected: list[bytes] = []
    for job in jobs_of(streams=["customers"]):
        async with pages_of(job) as pages:
            async for page in pages:
                rejected += [bytes(reject.payload) for reject in page.rejects]
                good = []
                for record in page.records:
                    try:
                        _ = record.raw
                        good.append(record)
                    except RecordError:
                        rejected.append(bytes(record.fetched))
                found.add(job, replace(page, records=good))
    assert found.rows["customers"].keys() == rows.keys() - {row.id}
    assert set(rejected) == {row.body}


@pytest.mark.parametrize(
    "number",
    ["33.333333333333333333", "9" * 30, "9" * 5_000, "1e999", "0.1000", "-0.0", "1e-400"],
)
def test_full_data_keeps_every_digit(number: str) -> None:
    raw = Record.read("invoices", b'{"id": 7, "items": [{"price": %b}]}' % number.encode()).raw
    (item,) = raw["items"]
    assert Decimal(item["price"]) == Decimal(number)
    assert len(str(item["price"])) >= len(number.replace("e", "").replace("-", "")) - 1


def test_a_reload_writes_nothing_whatever_the_order_of_the_members() -> None:
    record = b'{"id": 7, "total": "1.50", "x": 33.333333333333333333, "y": null}'
    turned = b'{"y":null,"x":33.333333333333333333,"total":"1.50","id":7}'
    first = jsonb([Record.read("invoices", record).raw])
    second = jsonb([Record.read("invoices", turned).raw])
    assert first == second
    assert json.loads(bytes(first[1][0]), parse_float=str)["x"] == "33.333333333333333333"


def test_every_stream_is_tested() -> None:
    assert set(STREAMS) == {"customers", "jobs", "invoices", "estimates"}
