"""The standard suite: the checks that every source must pass, and what the platform promises.

They plan and load through the functions that the two services call, into a real PostgreSQL.
"""

# ruff: noqa: S101 - pytest's assertions

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, get_type_hints
from zoneinfo import available_timezones

import pytest

from temporaletl.errors import ConfigurationError, CredentialsError, RetryableError
from temporaletl.rows import Event, LocalTime, Reject, Row
from temporaletl.strategies import resolve
from temporaletl.testing.connection_checks import ConnectionChecks
from temporaletl.testing.contents import (
    read_as_text,
    read_content,
    read_locations,
    read_rejects,
    read_rows,
)
from temporaletl.testing.fakes.faults import ENDLESS
from temporaletl.testing.fault_checks import COSTLY, FaultChecks
from temporaletl.testing.former_names import adopt_former_attribute
from temporaletl.testing.harness import (
    Harness,
    as_reprocessed,
    assert_no_secrets,
    columns,
    make_harness,
    require,
)
from temporaletl.testing.item_checks import ItemChecks
from temporaletl.testing.planning_checks import PlanningChecks
from temporaletl.testing.snapshot import CRASH, assert_as_without_faults
from temporaletl.testing.source_fixture import MissingCapabilityError, SourceFixture
from temporaletl.testing.tables import (
    assert_same,
    middle_of,
    timed,
    timestamps_of,
    within,
)

_EVENT_TYPE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+")
#: A page is transformed and loaded as one; its cursor is written with each.
_MOST_RECORDS, _LONGEST_CURSOR = 20_000, 64 * 1024
_FEWEST_PAGES = 3
_REFUSED_WITHIN = timedelta(minutes=1)


class SourceSuite(PlanningChecks, ConnectionChecks, FaultChecks, ItemChecks):
    """The standard suite of a source: subclass it as `Test…` and set `fixture`."""

    fixture: ClassVar[type[SourceFixture]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        adopt_former_attribute(cls)

    @pytest.fixture
    def harness(
        self,
        request: pytest.FixtureRequest,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        tmp_path: Path,
    ) -> Iterator[Harness]:
        with make_harness(self.fixture, request, monkeypatch, caplog, tmp_path) as harness:
            yield harness

    def test_a_full_load_holds_what_is_served(self, harness: Harness) -> None:
        served = require(harness.fixture.expected)
        warehouse = harness.warehouse()
        batch = harness.load(warehouse)
        streams = {job.job_id: job.stream for job in batch.jobs}
        found: dict[str, set[str]] = {stream: set() for stream in harness.streams}
        for table in read_rows(warehouse, harness.source).values():
            for key, row in table.items():
                found[streams[row.lineage["job_id"]]].add(key)
        for stream, expected in served.items():
            if isinstance(expected, int):
                assert len(found[stream]) == expected, stream
            else:
                assert found[stream] == set(expected), stream
        assert batch.rows.rejected == 0
        assert batch.summary.state == "completed"

    def test_rows_carry_their_versions_and_times_of_real_zones(self, harness: Harness) -> None:
        zones = available_timezones()
        for job in harness.all_jobs():
            for row in harness.rows(job, *harness.pages(job)).values():
                _assert_times(row)
                if isinstance(row, Event):
                    assert row.timezone in zones, row.timezone
                    assert _EVENT_TYPE.fullmatch(row.event_type), row.event_type
        warehouse = harness.warehouse()
        batch = harness.load(warehouse)
        queries = {job.job_id: resolve(job.source, job.stream).query for job in batch.jobs}
        for table in read_rows(warehouse, harness.source).values():
            for stored in table.values():
                query = queries[stored.lineage["job_id"]]
                assert stored.lineage["version"] == query.version()
                assert stored.lineage["specific_version"] == query.specific_version()

    def test_pages_are_bounded(self, harness: Harness) -> None:
        for job in harness.all_jobs():
            for page in harness.pages(job):
                assert len(page.records) <= _MOST_RECORDS
                assert len(str(page.cursor)) <= _LONGEST_CURSOR
                assert page.cursor is not None, "a cursor of None begins anew"

    def test_pages_know_when_they_were_requested(self, harness: Harness) -> None:
        for job in harness.all_jobs():
            began = datetime.now(UTC)
            pages = harness.pages(job)
            given = (page.extracted_at for page in pages)
            times = [each for each in given if each is not None]
            assert times == sorted(times)
            assert all(began <= each <= datetime.now(UTC) for each in times)

    def test_rows_do_not_depend_on_how_they_are_paged_or_when_they_are_read(
        self, harness: Harness
    ) -> None:
        for job in harness.all_jobs():
            rows = []
            for size in (*harness.fixture.page_sizes, harness.fixture.page_sizes[0]):
                harness.set_page_size(size)
                rows.append(harness.rows(job, *harness.pages(job)))
            assert rows[0].keys() == rows[1].keys() == rows[2].keys()
            assert rows[0] == rows[1] == rows[2]

    def test_extraction_goes_on_from_every_cursor(self, harness: Harness) -> None:
        most = 0
        for job in harness.all_jobs():
            pages = harness.pages(job)
            most = max(most, len(pages))
            whole = harness.rows(job, *pages)
            for number, page in enumerate(pages, start=1):
                rest = harness.pages(job, page.cursor)
                assert harness.rows(job, *pages[:number], *rest) == whole, page.cursor
        assert most >= _FEWEST_PAGES, f"no job has more than {most} pages: serve more, or less each"

    def test_a_load_that_is_stopped_at_every_page_loads_the_same(self, harness: Harness) -> None:
        stopped = harness.warehouse()
        batch = harness.load(stopped, pages_per_segment=1)
        assert len(batch.segments) > len(batch.jobs)
        assert_as_without_faults(harness, stopped)

    def test_a_repeat_writes_nothing(self, harness: Harness) -> None:
        warehouse = harness.warehouse()
        first = harness.load(warehouse)
        locations = read_locations(warehouse, harness.source)
        again = harness.load(warehouse, scheduled=harness.fixture.now + timedelta(hours=1))
        rows = again.rows
        assert (rows.inserted, rows.updated, rows.rejected) == (0, 0, 0)
        assert rows.unchanged >= first.rows.inserted > 0
        assert read_locations(warehouse, harness.source) == locations

    def test_windows_that_meet_hold_what_one_does_and_nothing_twice(self, harness: Harness) -> None:
        everything = harness.warehouse()
        harness.load(everything)
        timestamps = timestamps_of(harness.fixture, read_content(everything, harness.source))
        if len(timestamps) < _FEWEST_PAGES:
            pytest.skip(f"{type(harness.fixture).__name__}: no times in its time_columns")
        start, middle = timestamps[0], middle_of(timestamps)
        end = timestamps[-1] + timedelta(microseconds=1)
        expected = within(harness.fixture, read_content(everything, harness.source), start, end)

        one, two = harness.warehouse(), harness.warehouse()
        harness.load(one, harness.request("backfill", start=start, end=end))
        left = harness.load(two, harness.request("backfill", start=start, end=middle)).rows
        right = harness.load(two, harness.request("backfill", start=middle, end=end)).rows
        for warehouse in (one, two):
            found = timed(harness.fixture, read_content(warehouse, harness.source))
            if not harness.fixture.exact_windows:
                found = within(harness.fixture, found, start, end)
            assert_same(found, expected)
        assert left.inserted > 0
        if harness.fixture.exact_windows:
            assert right.inserted > 0
            assert (right.updated, right.unchanged) == (0, 0), "rows of the first window came again"

    def test_changes_arrive_with_the_next_load(self, harness: Harness) -> None:
        now = harness.fixture.now
        warehouse = harness.warehouse()
        harness.load(warehouse, harness.request("incremental"))
        before = read_content(warehouse, harness.source)
        require(lambda: harness.fixture.change(now + timedelta(minutes=30)))
        later = now + timedelta(days=1)
        batch = harness.load(warehouse, harness.request("incremental"), scheduled=later)
        found = read_content(warehouse, harness.source)
        assert found != before, "nothing of the change arrived"
        assert batch.rows.inserted + batch.rows.updated > 0
        fresh = harness.warehouse()
        harness.load(fresh, scheduled=later)
        assert_same(found, read_content(fresh, harness.source))

    def test_a_record_that_cannot_be_used_is_kept_and_costs_no_other(
        self, harness: Harness
    ) -> None:
        sound = harness.warehouse()
        harness.load(sound)
        require(harness.fixture.corrupt)
        warehouse = harness.warehouse()
        batch = harness.load(warehouse)
        rejects = read_rejects(warehouse)
        assert rejects, "nothing was rejected"
        assert batch.rows.rejected >= len(rejects)
        found, expected = (read_content(loaded, harness.source) for loaded in (warehouse, sound))
        kept = {table: set(rows) for table, rows in found.items()}
        assert any(kept.values())
        assert all(kept[table] <= set(rows) for table, rows in expected.items())
        jobs = {job.stream: job for job in batch.jobs}
        for reject in rejects:
            assert reject["payload"] is not None
            assert reject["key"], "no key by which a person knows the record"
            assert not CRASH.match(reject["reason"]), f"no reason in words: {reject['reason']}"
            if reject["stage"] == "load":
                continue
            try:
                rows = harness.transform(jobs[reject["stream"]], reject["payload"])
            except Exception as error:  # noqa: BLE001 - any refusal is one
                text = f"{type(error).__name__}: {error}"
                assert not CRASH.match(text), f"its payload is no record any more: {text}"
            else:
                assert any(isinstance(row, Reject) for row in rows), "it can be used after all"

    def test_records_are_the_same_records_as_their_rejects_keep_them(
        self, harness: Harness
    ) -> None:
        for job in harness.all_jobs():
            for page in harness.pages(job):
                for record in page.records:
                    rows = harness.transform(job, record)
                    again = harness.transform(job, as_reprocessed(record))
                    assert rows == again

    def test_refused_credentials_end_at_once_and_name_their_settings(
        self, harness: Harness
    ) -> None:
        wrong = harness.fixture.wrong_credentials
        if not wrong:
            pytest.skip(f"{type(harness.fixture).__name__} names no wrong_credentials")
        for name, value in wrong.items():
            harness.patch.setenv(name, value)
        began = monotonic()
        try:
            harness.load(harness.warehouse())
        except (CredentialsError, ConfigurationError) as error:
            text = str(error)
        except RetryableError as error:
            pytest.fail(f"a refusal would be tried again and again: {error!r}")
        else:
            pytest.fail(f"it reads as before, although {', '.join(wrong)} is wrong")
        assert monotonic() - began < _REFUSED_WITHIN.total_seconds()
        assert any(name in text for name in wrong), f"no setting to correct is named: {text}"
        assert all(value not in text for value in wrong.values()), "the credential is exposed"
        assert_no_secrets(harness.fixture, text)

    def test_no_secret_reaches_history_or_warehouse(self, harness: Harness) -> None:
        if not harness.fixture.secrets:
            pytest.skip(f"{type(harness.fixture).__name__} names no secrets")
        for fault in sorted(set(harness.fixture.faults) - (COSTLY.keys() | ENDLESS)):
            harness.fixture.inject_fault(f"{fault}:0.05:1")
        with contextlib.suppress(MissingCapabilityError):
            harness.fixture.corrupt()
        warehouse = harness.warehouse()
        batch = harness.load(warehouse)
        assert_no_secrets(harness.fixture, batch.history)
        assert_no_secrets(harness.fixture, read_as_text(warehouse))


def suite_for(fixture: type[SourceFixture]) -> type[SourceSuite]:
    """Return the standard suite of a source fixture, for an assignment instead of a class."""
    return type(f"Test{fixture.__name__}", (SourceSuite,), {"fixture": fixture})


@cache
def _hints(row: type[Row]) -> dict[str, Any]:
    return get_type_hints(row, include_extras=True)


def _assert_times(row: Row) -> None:
    hints = _hints(type(row))
    for name, value in columns(row).items():
        if isinstance(value, datetime) and hints[name] != LocalTime:
            assert value.tzinfo is not None, f"{type(row).__name__}.{name} has no zone: {value}"
            if isinstance(row, Event):
                assert value.utcoffset() == timedelta(0), f"{name} is not in UTC: {value}"
