"""Item checks of the standard suite: items that cannot be read, or that the account cannot see."""

# ruff: noqa: S101 - pytest's assertions

from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta

import pytest

from temporaletl.messages import QueuerInput
from temporaletl.rereading import reread_method_of
from temporaletl.testing.contents import Content, read_content, read_rejects
from temporaletl.testing.harness import Harness, require
from temporaletl.testing.snapshot import (
    CRASH,
    assert_as_without_faults,
    assert_recovered,
    assert_reported,
    assert_unchanged,
    compare_with_sound,
    loaded_warehouse,
    take_snapshot,
)
from temporaletl.testing.tables import Tables, assert_same
from temporaletl.warehouse.connection import Warehouse

#: Values that JSON cannot hold, that Python's or PostgreSQL's own types cannot, or no decoder can.
_POISON = {
    "an integer of 5000 digits": b"1" + b"0" * 5_000,
    "a number beyond a double": b"1e999",
    "NaN": b"NaN",
    "nesting of 100000": b"[" * 100_000 + b"]" * 100_000,
    "bytes that are no UTF-8": b'"\xff\xfe"',
    "half a surrogate pair": b'"\\ud83d"',
    "a NUL": b'"\\u0000"',
}


class ItemChecks:
    """The item checks of a `SourceSuite`."""

    @pytest.mark.parametrize("poison", _POISON)
    def test_a_poisoned_record_costs_no_other(self, harness: Harness, poison: str) -> None:
        _assert_one_item_lost(harness, lambda: harness.fixture.poison(_POISON[poison]))

    def test_an_item_that_cannot_be_served_costs_no_other(self, harness: Harness) -> None:
        if harness.fixture.serves_items_apart:
            _assert_one_item_lost(harness, harness.fixture.break_item)
            return
        warehouse, requests = loaded_warehouse(harness)
        before = take_snapshot(harness, warehouse)
        require(harness.fixture.break_item)
        request, scheduled = requests[-1]
        error = harness.failure(warehouse, request, scheduled=scheduled)
        assert error is not None, "what cannot be served is passed over without a word"
        assert_reported(harness, error)
        assert_unchanged(harness, warehouse, before)
        require(harness.fixture.restore)
        assert_recovered(harness, warehouse, before)

    def test_what_could_not_be_read_is_read_again_by_the_next_run(self, harness: Harness) -> None:
        require(harness.fixture.break_item)
        warehouse = harness.warehouse()
        _load_readable(harness, warehouse, harness.request("full"))
        lost = bool(_unread(warehouse))
        later = harness.fixture.now + timedelta(hours=1)
        _load_readable(harness, warehouse, harness.request("incremental"), scheduled=later)
        assert bool(_unread(warehouse)) == lost, "what cannot be read yet is no longer recorded"
        require(harness.fixture.restore)
        # The item is unchanged: once the watermark has passed it, only a reread brings it. A source
        # without rereads needs a full run.
        rereads = any(reread_method_of(harness.source, stream) for stream in harness.streams)
        request = harness.request("incremental" if rereads else "full")
        harness.load(warehouse, request, scheduled=later + timedelta(hours=1))
        assert_as_without_faults(harness, warehouse)
        assert not _unread(warehouse), "what has been read is still reported as unread"

    def test_what_could_not_be_read_is_not_given_up_by_an_account_that_sees_less(
        self, harness: Harness
    ) -> None:
        require(harness.fixture.break_item)
        warehouse = harness.warehouse()
        _load_readable(harness, warehouse, harness.request("full"))
        require(harness.fixture.restore)
        require(harness.fixture.see_less)
        later = harness.fixture.now + timedelta(hours=1)
        harness.failure(warehouse, harness.request("incremental"), scheduled=later)
        require(harness.fixture.restore)
        rereads = any(reread_method_of(harness.source, stream) for stream in harness.streams)
        request = harness.request(
            "incremental" if rereads and harness.fixture.knows_unread else "full"
        )
        harness.load(warehouse, request, scheduled=later + timedelta(hours=1))
        assert_as_without_faults(harness, warehouse)

    def test_what_a_full_run_reads_after_all_is_reported_as_unread_no_more(
        self, harness: Harness
    ) -> None:
        require(harness.fixture.break_item)
        warehouse = harness.warehouse()
        _load_readable(harness, warehouse, harness.request("full"))
        require(harness.fixture.restore)
        harness.load(warehouse, scheduled=harness.fixture.now + timedelta(hours=1))
        assert not _unread(warehouse)

    def test_an_account_that_sees_less_deletes_nothing(self, harness: Harness) -> None:
        warehouse, requests = loaded_warehouse(harness)
        before = take_snapshot(harness, warehouse)
        require(harness.fixture.see_less)
        for request, scheduled in requests:
            watermarks = take_snapshot(harness, warehouse).watermarks
            error = harness.failure(warehouse, request, scheduled=scheduled)
            after = take_snapshot(harness, warehouse)
            assert_same(after.rows, before.rows)
            if error is not None:
                assert_reported(harness, error)
                assert after.watermarks == watermarks, f"the watermark moved: {error}"
        require(harness.fixture.restore)
        assert_recovered(harness, warehouse, before)


def _assert_one_item_lost(harness: Harness, corrupt: Callable[[], None]) -> None:
    """Load while one item cannot be read, and again once it can."""
    require(corrupt)
    warehouse = harness.warehouse()
    harness.load(warehouse)
    found, rejects = read_content(warehouse, harness.source), read_rejects(warehouse)
    for reject in rejects:
        assert reject["payload"] is not None
        assert not CRASH.search(reject["reason"]), f"no reason in words: {reject['reason']}"
    require(harness.fixture.restore)
    compare_with_sound(
        harness, lambda expected: _assert_one_missing(found, expected, reported=bool(rejects))
    )
    harness.load(warehouse, scheduled=harness.fixture.now + timedelta(hours=1))
    assert_as_without_faults(harness, warehouse)


def _assert_one_missing(found: Tables, expected: Tables, *, reported: bool) -> None:
    """Fail unless rows of one item alone differ, and where one is missing, that is reported."""
    # A row that holds its whole record also holds the poison, where that can be stored.
    corrupted = {
        table: {key for key, row in rows.items() if found.get(table, {}).get(key) != row}
        for table, rows in expected.items()
    }
    items = {
        f"{table} {expected[table][key].get('parent_item_id') or key}"
        for table, keys in corrupted.items()
        for key in keys
    }
    assert len(items) <= 1, f"one item is corrupted, and these are not as before: {sorted(items)}"
    others = [{t: _without(rows, corrupted[t]) for t, rows in a.items()} for a in (found, expected)]
    assert_same(*others)
    if any(corrupted[table] - found[table].keys() for table in expected):
        assert reported, f"{items} is lost without a word"


def _load_readable(
    harness: Harness,
    warehouse: Warehouse,
    request: QueuerInput,
    *,
    scheduled: datetime | None = None,
) -> None:
    if harness.fixture.serves_items_apart:
        harness.load(warehouse, request, scheduled=scheduled)
    else:
        harness.failure(warehouse, request, scheduled=scheduled)


def _unread(warehouse: Warehouse) -> list[str]:
    return [reject["reason"] for reject in read_rejects(warehouse) if reject["stage"] == "extract"]


def _without(rows: Mapping[str, Content], lost: Collection[str]) -> dict[str, Content]:
    return {key: row for key, row in rows.items() if key not in lost}
