"""Whatever text, number or size a source sends: the rest is loaded, and the job goes on."""

from collections.abc import AsyncGenerator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from temporaletl.errors import RecordError
from temporaletl.extraction import Page, PageRequest
from temporaletl.messages import ETLInput
from temporaletl.query import Query
from temporaletl.rows import CompleteSet, Reject, ScanItems
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading import packing
from temporaletl.worker.loading.scans import write_findings
from temporaletl.worker.reprocessing import _transform  # of stored rejects
from temporaletl.worker.stored_rejects import RejectPosition, read_rejects
from tests.integration.loading import segments
from tests.integration.loading.jobs import Job, counts, fetch, make_event


async def test_a_cursor_of_any_text_is_where_the_next_segment_goes_on(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    cursors: list[Any] = ["a\0b", {"after\0": ["\ud800", "\ufdd0", 7]}, "end"]
    seen: list[Any] = []

    async def extract(request: PageRequest[Query]) -> AsyncGenerator[Page]:
        seen.append(request.cursor)
        done = cursors.index(request.cursor) + 1 if request.cursor is not None else 0
        for number in range(done, len(cursors)):
            yield Page(records=[make_event(number)], cursor=cursors[number])

    segments.register(monkeypatch, extract)
    job = Job(warehouse)
    while not (result := await segments.run(job, stop_behind=1)).done:
        result.model_dump_json()  # what goes through Temporal
    assert seen == [None, *cursors]
    assert len(fetch(warehouse, "SELECT 1 FROM events")) == 3
    assert len(fetch(warehouse, "SELECT DISTINCT cursor_after FROM etl_pages")) == 3


def test_numbers_in_json_keep_all_their_digits(warehouse: Warehouse) -> None:
    paid, big = Decimal("90071992547409.93"), Decimal("1234567890123456789012345678.0123456789")
    metrics = {"paid": paid, "big": big, "whole": 2**70, "float": 0.1, "small": Decimal("1E-30")}
    job = Job(warehouse)
    job.load(make_event(1, metrics=metrics))
    (row,) = fetch(
        warehouse,
        "SELECT metrics->'paid' AS paid, (metrics->>'paid')::numeric AS p,"
        " (metrics->>'big')::numeric AS b, (metrics->>'whole')::numeric AS w,"
        " (metrics->>'small')::numeric AS s, jsonb_typeof(metrics->'paid') AS kind FROM events",
    )
    assert (row["p"], row["b"], row["w"]) == (paid, big, Decimal(2**70))
    assert (row["s"], row["kind"]) == (Decimal("1E-30"), "number")
    assert counts(job.load(make_event(1, metrics=metrics))) == (1, 0, 1, 0)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "1E+999999"])
def test_a_number_that_json_cannot_hold_costs_its_row_alone(
    warehouse: Warehouse, number: str
) -> None:
    rows = [make_event(1), make_event(2, metrics={"n": Decimal(number)}), make_event(3)]
    assert counts(Job(warehouse).load(*rows)) == (2, 0, 0, 1)


def test_a_row_that_is_too_large_is_a_reject(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "LARGEST_ROW", 3 << 20)
    large = make_event(2, event_properties={"text": "x" * (4 << 20)})
    assert counts(Job(warehouse).load(make_event(1), large, make_event(3))) == (2, 0, 0, 1)
    (reject,) = fetch(warehouse, "SELECT reason, payload, payload_bytes FROM etl_rejects")
    assert reject["reason"].startswith("a row holds at most")
    assert reject["payload_bytes"] > 4 << 20
    assert reject["payload"].startswith('{"event_id":"event-000002"')
    assert len(reject["payload"]) == 1 << 20


def test_many_large_rows_are_loaded_in_blocks(warehouse: Warehouse) -> None:
    rows = [make_event(n, event_properties={"text": "x" * (1 << 20)}) for n in range(30)]
    assert counts(Job(warehouse).load(*rows)) == (30, 0, 0, 0)


def replayed(job: Job, replay: ETLInput) -> list[str]:
    """What a replay says of each reject."""
    page = read_rejects(job.warehouse, replay, RejectPosition(), unread_at_once=None)
    assert page is not None
    told = []
    for record in page.records:
        with pytest.raises(RecordError) as raised:
            _transform(None, record, None)  # type: ignore[arg-type] # it comes to neither
        told.append(str(raised.value))
    return told


@pytest.mark.parametrize("raw", [True, False], ids=["bytes", "object"])
def test_of_a_large_payload_the_beginning_is_kept_and_a_replay_says_so(
    warehouse: Warehouse, raw: bool
) -> None:
    text = '{"id":1,"body":"' + "ü" * (1 << 20) + '"}'
    payload: Any = msgspec.Raw(text.encode()) if raw else {"id": 1, "body": "ü" * (1 << 20)}
    reject = Reject(stage="transform", reason="no title", key="P-1", payload=payload)
    job = Job(warehouse)
    job.load(rejects=[reject])
    job.load(rejects=[reject])
    (row,) = fetch(warehouse, "SELECT * FROM etl_rejects")
    size = len(text.encode())
    assert row["payload_bytes"] == size
    assert text.startswith(row["payload"])
    assert (1 << 20) - 1 <= len(row["payload"].encode()) <= 1 << 20
    told = f"(of the payload's {size:,} bytes the first 1,048,576 are kept)"
    assert (row["reason"], row["times"]) == (f"no title {told}", 2)

    replay = job.input.model_copy(update={"batch_id": "another", "mode": "replay"})
    (said,) = replayed(job, replay)
    assert said == (
        f"it cannot be replayed, as only the beginning of its {size:,} bytes is kept; "
        f"no title {told}"
    )


def test_large_payloads_that_begin_alike_are_told_apart(warehouse: Warehouse) -> None:
    rejects = [
        Reject(stage="extract", reason="bad", payload=b"[" * (2 << 20) + end)
        for end in (b"a", b"b")
    ]
    Job(warehouse).load(rejects=rejects)
    assert len(fetch(warehouse, "SELECT 1 FROM etl_rejects")) == 2


def test_a_reason_and_a_key_of_any_length_are_kept_in_part(warehouse: Warehouse) -> None:
    Job(warehouse).load(rejects=[Reject(stage="extract", reason="r" * 10**7, key="k" * 10**7)])
    (row,) = fetch(warehouse, "SELECT reason, key FROM etl_rejects")
    assert (len(row["reason"]), len(row["key"])) == (10_000, 4_000)


def test_ids_with_a_nul_are_found_again_by_complete_sets_and_scans(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    job.load(make_event(1, event_id="a\0:1"), make_event(2, event_id="a\0:2"))
    page = job.page(make_event(1, event_id="a\0:1"))
    complete_sets: Sequence[CompleteSet] = [CompleteSet("a\0:")]
    progress = job.loader.load(
        type(page)(
            **{**{n: getattr(page, n) for n in page.__slots__}, "complete_sets": complete_sets}
        )
    )
    assert progress.deleted == 1
    assert fetch(warehouse, "SELECT event_id FROM events") == [
        {"event_id": "a\N{REPLACEMENT CHARACTER}:1"}
    ]
    with warehouse.connection() as connection:
        write_findings(connection, job.input, [ScanItems(("a\0:1", "\ud800"), "listed")])
    assert len(fetch(warehouse, "SELECT 1 FROM etl_scan_items")) == 2
