"""Fault checks of the standard suite: what runs do while the source fails.

In each case the rows are those of a fault-free load, or none is changed and the run says why.
"""

# ruff: noqa: S101 - pytest's assertions

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import timedelta
from time import monotonic
from typing import ClassVar

import pytest

from temporaletl.extraction import Page
from temporaletl.testing.contents import (
    read_content,
    read_loaded_streams,
)
from temporaletl.testing.fakes.faults import ANSWERS, ENDLESS, IN_PLACE, TRANSPORT
from temporaletl.testing.harness import Harness, require
from temporaletl.testing.snapshot import (
    assert_as_without_faults,
    assert_recovered,
    assert_reported,
    assert_unchanged,
    loaded_warehouse,
    take_snapshot,
)
from temporaletl.testing.source_fixture import FakeSourceFixture, SourceFixture
from temporaletl.testing.tables import assert_same

#: Rates from rare to certain: the first at which the fault is injected at all ends the check.
_RATES = ("0.2", "0.5", "1:3")
#: Faults that take seconds each, with a limit.
COSTLY = {"hang": ":3", "429-date": ":3", "slow": ":2"}
#: Faults that each request may suffer, and its repeats.
_EACH = frozenset({*TRANSPORT, *ANSWERS}.difference(COSTLY, ENDLESS, ["expired-token"]))
_NO_FAULTS = "(none)"
#: Faults that no retry repairs while they last.
_LASTING = (*IN_PLACE, "cut", "cut-gzip")
#: In minutes: an honest wait of this suite is over before.
_LONGEST_WAIT = "0.005"
_REPORTED_WITHIN = timedelta(minutes=2)
_ABANDONED_WITHIN = timedelta(seconds=60)


class FaultChecks:
    """The fault checks of a `SourceSuite`."""

    fixture: ClassVar[type[SourceFixture]]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        served = set(self.fixture.faults).intersection
        # What fails each request, and some of them again, fails more than it would by a rate.
        rated = set(self.fixture.faults) - served(_EACH) - set(ENDLESS)
        known = {
            "fault": sorted(rated) or [_NO_FAULTS],
            "once": sorted(served((*TRANSPORT, *ANSWERS)) - set(ENDLESS)) or [_NO_FAULTS],
            "lasting": sorted(served(_LASTING)) or [_NO_FAULTS],
            "absent": sorted(served(IN_PLACE)) or [_NO_FAULTS],
            "endless": sorted(served(ENDLESS)) or [_NO_FAULTS],
        }
        for name in known.keys() & set(metafunc.fixturenames):
            metafunc.parametrize(name, known[name])

    def test_no_fault_changes_what_is_loaded(self, harness: Harness, fault: str) -> None:
        _require_fault(harness, fault)
        injected = 0
        for rate in _RATES:
            limit = "" if ":" in rate else COSTLY.get(fault, "")
            harness.fixture.inject_fault(f"{fault}:{rate}{limit}")
            faulty = harness.warehouse()
            harness.load(faulty)
            injected = harness.fixture.clear_faults()
            if injected:
                break
        assert injected, f"{fault} is never injected"
        assert_as_without_faults(harness, faulty, unsettled=fault in harness.fixture.unsettling)

    def test_a_fault_in_each_request_once_changes_nothing(
        self, harness: Harness, once: str
    ) -> None:
        _require_fault(harness, once)
        harness.fixture.inject_fault(f"{once}:each:0.2" if once in _EACH else f"{once}:1:1")
        faulty = harness.warehouse()
        harness.load(faulty)
        assert harness.fixture.clear_faults(), f"{once} is never injected"
        assert_as_without_faults(harness, faulty)

    def test_a_fault_that_stays_deletes_nothing_and_is_reported(
        self, harness: Harness, lasting: str
    ) -> None:
        _require_fault(harness, lasting)
        warehouse, requests = loaded_warehouse(harness)
        before = take_snapshot(harness, warehouse)
        for request, scheduled in requests:
            harness.fixture.inject_fault(f"{lasting}:1")
            error = harness.failure(warehouse, request, scheduled=scheduled)
            assert harness.fixture.clear_faults(), f"{lasting} is never injected"
            assert error is not None, (
                f"{request.mode}: a run under {lasting} is taken for a success"
            )
            assert_reported(harness, error)
            assert_unchanged(harness, warehouse, before)
        assert_recovered(harness, warehouse, before)

    def test_no_endpoint_that_answers_nothing_is_taken_for_an_empty_one(
        self, harness: Harness, absent: str
    ) -> None:
        _require_fault(harness, absent)
        warehouse, requests = loaded_warehouse(harness)
        endpoints = require(harness.fixture.endpoints)
        if len(endpoints) == 1:
            return  # so it fails in the check of faults that stay, which demands more
        before = after = take_snapshot(harness, warehouse)
        for endpoint in sorted(endpoints):
            for request, scheduled in requests:
                watermarks = after.watermarks
                require(lambda at=endpoint: harness.fixture.inject_fault_at(at, f"{absent}:1"))  # type: ignore[misc]
                error = harness.failure(warehouse, request, scheduled=scheduled)
                harness.fixture.clear_faults()
                after = take_snapshot(harness, warehouse)
                try:
                    assert_same(after.rows, before.rows)
                except AssertionError as difference:
                    difference.add_note(f"{request.mode} run, {absent} at {endpoint}: {error}")
                    raise
                if error is not None:
                    assert_reported(harness, error)
                    # By stream: a broken one must not hold up the others.
                    moved = {s for s, _ in after.watermarks.items() ^ watermarks.items()}
                    passed = {stream for stream, _ in moved} - read_loaded_streams(warehouse)
                    assert not passed, f"{absent} at {endpoint}: {passed} moved: {error}"
        assert_recovered(harness, warehouse, before)

    def test_a_wait_without_end_is_cut_short_or_reported(
        self, harness: Harness, endless: str
    ) -> None:
        _require_fault(harness, endless)
        harness.patch.setenv("ETL_LONGEST_WAIT_MINUTES", _LONGEST_WAIT)
        warehouse, requests = loaded_warehouse(harness)
        before = take_snapshot(harness, warehouse)
        for request, scheduled in requests:
            harness.fixture.inject_fault(f"{endless}:1:1")
            began = monotonic()
            harness.load(warehouse, request, scheduled=scheduled)
            assert harness.fixture.clear_faults(), f"{endless} is never injected"
            assert monotonic() - began < _REPORTED_WITHIN.total_seconds()
            assert_same(read_content(warehouse, harness.source), before.rows)
        before = take_snapshot(harness, warehouse)
        for request, scheduled in requests:
            harness.fixture.inject_fault(f"{endless}:1")
            began = monotonic()
            # Later, as the window of a loaded one would be empty, and no request would be sent.
            later = scheduled + timedelta(hours=1)
            error = harness.failure(warehouse, request, scheduled=later)
            harness.fixture.clear_faults()
            assert monotonic() - began < _REPORTED_WITHIN.total_seconds()
            assert error is not None, (
                f"{request.mode}: a run under {endless} is taken for a success"
            )
            assert_reported(harness, error)
            assert_unchanged(harness, warehouse, before)

    def test_an_abandoned_extraction_ends_at_once(self, harness: Harness) -> None:
        fixture = harness.fixture
        if not isinstance(fixture, FakeSourceFixture) or fixture.read_timeout_setting is None:
            return
        # Far longer than the check waits: what ends in time does not end by the timeout.
        harness.patch.setenv(fixture.read_timeout_setting, "600")
        hung = fixture.server.faults.injected
        before = hung["hang"]
        for job in harness.all_jobs():
            if not job.scan:
                # A source that reads ahead may have no request left after its first page.
                for read in (1, 0):
                    harness.run(_abandon(harness.extract(job), fixture, read=read))
        assert hung["hang"] > before, "hang is never injected"


def _require_fault(harness: Harness, fault: str) -> None:
    if fault == _NO_FAULTS:
        pytest.skip(f"{type(harness.fixture).__name__} names no faults of this check")


async def _abandon(
    extraction: AsyncGenerator[Page], fixture: FakeSourceFixture, *, read: int
) -> None:
    """Cancel an extraction after so many pages, while the source does not answer."""
    injected = fixture.server.faults.injected
    before = injected["hang"]
    async with asyncio.timeout(_ABANDONED_WITHIN.total_seconds()):
        async with contextlib.aclosing(extraction) as pages:
            for _ in range(read):
                await anext(pages, None)
            fixture.inject_fault("hang:1")
            reading = asyncio.ensure_future(anext(pages, None))
            while injected["hang"] == before and not reading.done():  # noqa: ASYNC110
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        assert reading.done()
    fixture.clear_faults()
