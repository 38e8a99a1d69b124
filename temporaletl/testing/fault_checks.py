"""The checks of the standard suite in which something goes wrong at the source.

Whatever does: the rows are those of a calm load, or nothing is touched and the run says why.
"""

# ruff: noqa: S101 - pytest's assertions

import re
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta
from time import monotonic
from typing import ClassVar

import pytest

from temporaletl.errors import ETLError
from temporaletl.messages import QueuerInput
from temporaletl.rereading import reread_method_of
from temporaletl.testing.bench import Bench, assert_discreet
from temporaletl.testing.contents import (
    Content,
    read_content,
    read_loaded_streams,
    read_rejects,
)
from temporaletl.testing.fakes.faults import ANSWERS, ENDLESS, IN_PLACE, TRANSPORT
from temporaletl.testing.rig import MissingMeansError, Rig
from temporaletl.testing.tables import assert_same, keys_alone
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.state import SyncState, read_states

#: What a person who reads an error or a reject's reason could do nothing with.
CRASH = re.compile(r"(Type|Attribute|Key|Index|Assertion|NotImplemented|Recursion)Error\b")
#: From rare to certain, until a fault strikes at all.
_RATES = ("0.2", "0.5", "1:3")
#: Each of these costs the source's patience.
COSTLY = {"hang": ":2", "429-date": ":2", "slow": ":2"}
_NO_FAULTS = "(none)"
#: What no retry makes well, as it stays.
_LASTING = (*IN_PLACE, "cut", "cut-gzip")
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
#: In minutes: an honest wait of this suite is over before.
_LONGEST_WAIT = "0.005"
_TOLD_WITHIN = timedelta(seconds=20)


class FaultChecks:
    """What `SourceSuite` checks of faults; see there."""

    rig: ClassVar[type[Rig]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        faults = sorted(set(self.rig.faults) - set(ENDLESS)) or [_NO_FAULTS]
        served = set(self.rig.faults).intersection
        known = {
            "fault": faults,
            "once": sorted(served((*TRANSPORT, *ANSWERS)) - set(ENDLESS)) or [_NO_FAULTS],
            "lasting": sorted(served(_LASTING)) or [_NO_FAULTS],
            "absent": sorted(served(IN_PLACE)) or [_NO_FAULTS],
            "endless": sorted(served(ENDLESS)) or [_NO_FAULTS],
            "poison": list(_POISON),
        }
        for name in known.keys() & set(metafunc.fixturenames):
            metafunc.parametrize(name, known[name])

    def test_no_fault_changes_what_is_loaded(self, bench: Bench, fault: str) -> None:
        _need(bench, fault)
        struck = 0
        for rate in _RATES:
            limit = "" if ":" in rate else COSTLY.get(fault, "")
            bench.rig.strike(f"{fault}:{rate}{limit}")
            faulty = bench.warehouse()
            bench.load(faulty)
            struck = bench.rig.calm()
            if struck:
                break
        assert struck, f"{fault} never strikes here"
        calm = bench.warehouse()
        bench.load(calm)
        found, expected = (read_content(each, bench.source) for each in (faulty, calm))
        if fault in bench.rig.unsettling:
            found, expected = keys_alone(found), keys_alone(expected)
        assert_same(found, expected)

    def test_a_fault_that_strikes_each_request_once_changes_nothing(
        self, bench: Bench, once: str
    ) -> None:
        _need(bench, once)
        costly = once in COSTLY or once == "expired-token"
        bench.rig.strike(f"{once}:1:1" if costly else f"{once}:each")
        faulty = bench.warehouse()
        bench.load(faulty)
        assert bench.rig.calm(), f"{once} never strikes here"
        calm = bench.warehouse()
        bench.load(calm)
        assert_same(*(read_content(each, bench.source) for each in (faulty, calm)))

    def test_a_fault_that_stays_deletes_nothing_and_is_told(
        self, bench: Bench, lasting: str
    ) -> None:
        _need(bench, lasting)
        warehouse, requests = _loaded(bench)
        before = _kept(bench, warehouse)
        for request, nominal in requests:
            bench.rig.strike(f"{lasting}:1")
            error = bench.refusal(warehouse, request, nominal=nominal)
            assert bench.rig.calm(), f"{lasting} never strikes here"
            assert error is not None, (
                f"{request.mode}: a run under {lasting} is taken for a success"
            )
            _assert_told(bench, error)
            _assert_kept(bench, warehouse, before)
        _assert_well_again(bench, warehouse, before)

    def test_no_endpoint_that_answers_nothing_is_taken_for_an_empty_one(
        self, bench: Bench, absent: str
    ) -> None:
        _need(bench, absent)
        warehouse, requests = _loaded(bench)
        endpoints = means(bench.rig.endpoints)
        before = _kept(bench, warehouse)
        for endpoint in sorted(endpoints):
            for request, nominal in requests:
                watermarks = _kept(bench, warehouse).watermarks
                means(lambda at=endpoint: bench.rig.strike_at(at, f"{absent}:1"))  # type: ignore[misc]
                error = bench.refusal(warehouse, request, nominal=nominal)
                bench.rig.calm()
                after = _kept(bench, warehouse)
                try:
                    assert_same(after.rows, before.rows)
                except AssertionError as difference:
                    difference.add_note(f"{request.mode} run, {absent} at {endpoint}: {error}")
                    raise
                if error is not None:
                    _assert_told(bench, error)
                    # Each stream by itself: one that is broken must not hold up the others.
                    moved = {s for s, _ in after.watermarks.items() ^ watermarks.items()}
                    passed = {stream for stream, _ in moved} - read_loaded_streams(warehouse)
                    assert not passed, f"{absent} at {endpoint}: {passed} moved: {error}"
        _assert_well_again(bench, warehouse, before)

    def test_a_wait_without_end_is_cut_short_or_told(self, bench: Bench, endless: str) -> None:
        _need(bench, endless)
        bench.patch.setenv("ETL_LONGEST_WAIT_MINUTES", _LONGEST_WAIT)
        warehouse, requests = _loaded(bench)
        before = _kept(bench, warehouse)
        for request, nominal in requests:
            bench.rig.strike(f"{endless}:1:1")
            began = monotonic()
            bench.load(warehouse, request, nominal=nominal)
            assert bench.rig.calm(), f"{endless} never strikes here"
            assert monotonic() - began < _TOLD_WITHIN.total_seconds()
            assert_same(read_content(warehouse, bench.source), before.rows)
        before = _kept(bench, warehouse)
        for request, nominal in requests:
            bench.rig.strike(f"{endless}:1")
            began = monotonic()
            # Later: a window that is loaded is empty, and asks for nothing.
            later = nominal + timedelta(hours=1)
            error = bench.refusal(warehouse, request, nominal=later)
            bench.rig.calm()
            assert monotonic() - began < _TOLD_WITHIN.total_seconds()
            assert error is not None, (
                f"{request.mode}: a run under {endless} is taken for a success"
            )
            _assert_told(bench, error)
            _assert_kept(bench, warehouse, before)

    def test_a_poisoned_record_costs_no_other(self, bench: Bench, poison: str) -> None:
        _assert_one_is_lost(bench, lambda: bench.rig.poison(_POISON[poison]))

    def test_an_item_that_cannot_be_served_costs_no_other(self, bench: Bench) -> None:
        if bench.rig.serves_items_apart:
            _assert_one_is_lost(bench, bench.rig.break_item)
            return
        warehouse, requests = _loaded(bench)
        before = _kept(bench, warehouse)
        means(bench.rig.break_item)
        request, nominal = requests[-1]
        error = bench.refusal(warehouse, request, nominal=nominal)
        assert error is not None, "what cannot be served is passed over without a word"
        _assert_told(bench, error)
        _assert_kept(bench, warehouse, before)
        means(bench.rig.mend)
        _assert_well_again(bench, warehouse, before)

    def test_what_could_not_be_read_is_read_again_by_the_next_run(self, bench: Bench) -> None:
        sound = bench.warehouse()
        bench.load(sound)
        means(bench.rig.break_item)
        warehouse = bench.warehouse()
        _load_what_can_be(bench, warehouse, bench.ask_for("full"))
        lost = bool(_unread(warehouse))
        later = bench.rig.now + timedelta(hours=1)
        _load_what_can_be(bench, warehouse, bench.ask_for("incremental"), nominal=later)
        assert bool(_unread(warehouse)) == lost, "what cannot be read yet is forgotten"
        means(bench.rig.mend)
        # The item is as it was: where the watermark has passed it, only asking again brings it.
        # A source that asks for nothing by itself needs a full run.
        asks = any(reread_method_of(bench.source, stream) for stream in bench.streams)
        request = bench.ask_for("incremental" if asks else "full")
        bench.load(warehouse, request, nominal=later + timedelta(hours=1))
        assert_same(*(read_content(each, bench.source) for each in (warehouse, sound)))
        assert not _unread(warehouse), "what has been read is still told as unread"

    def test_what_could_not_be_read_is_not_given_up_by_an_account_that_sees_less(
        self, bench: Bench
    ) -> None:
        sound = bench.warehouse()
        bench.load(sound)
        means(bench.rig.break_item)
        warehouse = bench.warehouse()
        _load_what_can_be(bench, warehouse, bench.ask_for("full"))
        means(bench.rig.mend)
        means(bench.rig.see_less)
        later = bench.rig.now + timedelta(hours=1)
        bench.refusal(warehouse, bench.ask_for("incremental"), nominal=later)
        means(bench.rig.mend)
        asks = any(reread_method_of(bench.source, stream) for stream in bench.streams)
        request = bench.ask_for("incremental" if asks and bench.rig.knows_unread else "full")
        bench.load(warehouse, request, nominal=later + timedelta(hours=1))
        assert_same(*(read_content(each, bench.source) for each in (warehouse, sound)))

    def test_what_a_full_run_reads_after_all_is_told_as_unread_no_more(self, bench: Bench) -> None:
        means(bench.rig.break_item)
        warehouse = bench.warehouse()
        _load_what_can_be(bench, warehouse, bench.ask_for("full"))
        means(bench.rig.mend)
        bench.load(warehouse, nominal=bench.rig.now + timedelta(hours=1))
        assert not _unread(warehouse)

    def test_an_account_that_sees_less_deletes_nothing(self, bench: Bench) -> None:
        warehouse, requests = _loaded(bench)
        before = _kept(bench, warehouse)
        means(bench.rig.see_less)
        for request, nominal in requests:
            watermarks = _kept(bench, warehouse).watermarks
            error = bench.refusal(warehouse, request, nominal=nominal)
            after = _kept(bench, warehouse)
            assert_same(after.rows, before.rows)
            if error is not None:
                _assert_told(bench, error)
                assert after.watermarks == watermarks, f"the watermark moved: {error}"
        means(bench.rig.mend)
        _assert_well_again(bench, warehouse, before)


def means[T](give: Callable[[], T]) -> T:
    """What a rig gives; skips the check, with the rig's words, where it does not."""
    try:
        return give()
    except MissingMeansError as missing:
        pytest.skip(str(missing))


def _need(bench: Bench, fault: str) -> None:
    if fault == _NO_FAULTS:
        pytest.skip(f"{type(bench.rig).__name__} names no faults")


class _Kept:
    """What of a warehouse must not change."""

    def __init__(self, rows: dict[str, dict[str, Content]], states: list[SyncState]) -> None:
        self.rows = rows
        self.watermarks = {(each.stream, each.connection): each.watermark for each in states}


def _kept(bench: Bench, warehouse: Warehouse) -> _Kept:
    return _Kept(read_content(warehouse, bench.source), read_states(warehouse, bench.source))


def _loaded(bench: Bench) -> tuple[Warehouse, list[tuple[QueuerInput, datetime]]]:
    """A warehouse after a good load, and the runs that follow, which look for what was deleted."""
    for name, value in bench.rig.scans.items():
        bench.patch.setenv(name, value)
    warehouse = bench.warehouse()
    bench.load(warehouse, bench.ask_for("full"))
    later = bench.rig.now + timedelta(hours=1)
    return warehouse, [(bench.ask_for("incremental"), later), (bench.ask_for("full"), later)]


def _assert_told(bench: Bench, error: ETLError) -> None:
    text = str(error)
    assert text.strip(), f"{type(error).__name__} says nothing"
    assert not CRASH.search(text), f"no reason in words: {text}"
    assert_discreet(bench.rig, text)


def _assert_kept(bench: Bench, warehouse: Warehouse, before: _Kept) -> None:
    after = _kept(bench, warehouse)
    assert_same(after.rows, before.rows)
    assert after.watermarks == before.watermarks, "the watermark moved"


def _assert_well_again(bench: Bench, warehouse: Warehouse, before: _Kept) -> None:
    later = bench.rig.now + timedelta(hours=2)
    bench.load(warehouse, bench.ask_for("incremental"), nominal=later)
    bench.load(warehouse, bench.ask_for("full"), nominal=later)
    assert_same(read_content(warehouse, bench.source), before.rows)


def _assert_one_is_lost(bench: Bench, spoil: Callable[[], None]) -> None:
    """Load while one item cannot be had; and again when it can."""
    sound = bench.warehouse()
    bench.load(sound)
    means(spoil)
    warehouse = bench.warehouse()
    bench.load(warehouse)
    found, expected = (read_content(each, bench.source) for each in (warehouse, sound))
    # What is kept whole holds what was put into it, where that can be stored.
    spoilt = {
        table: {key for key, row in rows.items() if found.get(table, {}).get(key) != row}
        for table, rows in expected.items()
    }
    items = {
        f"{table} {expected[table][key].get('parent_item_id') or key}"
        for table, keys in spoilt.items()
        for key in keys
    }
    assert len(items) <= 1, f"one item is spoilt, and these are not as before: {sorted(items)}"
    others = [{t: _without(rows, spoilt[t]) for t, rows in a.items()} for a in (found, expected)]
    assert_same(*others)
    lost = any(spoilt[table] - found[table].keys() for table in expected)
    rejects = read_rejects(warehouse)
    if lost:
        assert rejects, f"{items} is lost without a word"
    for reject in rejects:
        assert reject["payload"] is not None
        assert not CRASH.search(reject["reason"]), f"no reason in words: {reject['reason']}"
    means(bench.rig.mend)
    bench.load(warehouse, nominal=bench.rig.now + timedelta(hours=1))
    assert_same(read_content(warehouse, bench.source), expected)


def _load_what_can_be(
    bench: Bench, warehouse: Warehouse, request: QueuerInput, *, nominal: datetime | None = None
) -> None:
    if bench.rig.serves_items_apart:
        bench.load(warehouse, request, nominal=nominal)
    else:
        bench.refusal(warehouse, request, nominal=nominal)


def _unread(warehouse: Warehouse) -> list[str]:
    return [each["reason"] for each in read_rejects(warehouse) if each["stage"] == "extract"]


def _without(rows: Mapping[str, Content], lost: Collection[str]) -> dict[str, Content]:
    return {key: row for key, row in rows.items() if key not in lost}
