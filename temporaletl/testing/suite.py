"""The checks that every source must pass, each one a promise of the platform.

They plan and load through the functions that the two services call, into a real PostgreSQL.
"""

# ruff: noqa: S101, PT017 - pytest's assertions

import contextlib
import re
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar, get_type_hints
from zoneinfo import available_timezones

import pytest

from temporaletl.connections import DEFAULT
from temporaletl.errors import ConfigurationError, CredentialsError, RetryableError
from temporaletl.messages import Window
from temporaletl.registry import ANY_STREAM
from temporaletl.rows import Event, LocalTime, Reject, Row
from temporaletl.strategies import resolve
from temporaletl.testing.bench import (
    Bench,
    as_kept,
    assert_discreet,
    columns,
    make_bench,
    registered,
)
from temporaletl.testing.contents import (
    read_as_text,
    read_content,
    read_places,
    read_rejects,
    read_rows,
)
from temporaletl.testing.fakes.faults import ENDLESS
from temporaletl.testing.fault_checks import COSTLY, CRASH, FaultChecks, means
from temporaletl.testing.rig import MissingMeansError, Rig
from temporaletl.testing.tables import (
    assert_same,
    middle_of,
    moments_of,
    timed,
    within,
)
from temporaletl.warehouse.budget import block_source
from temporaletl.warehouse.state import read_states

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_EVENT_TYPE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)+")
#: A page is transformed and loaded as one; its cursor is written with each.
_MOST_RECORDS, _LONGEST_CURSOR = 20_000, 64 * 1024
_FEWEST_PAGES = 3
#: The name of a connection beside `default`.
_OTHER = "other"
_REFUSED_WITHIN = timedelta(seconds=10)


class SourceSuite(FaultChecks):
    """Subclass it as `Test…` and set `rig`."""

    rig: ClassVar[type[Rig]]

    @pytest.fixture
    def bench(
        self,
        request: pytest.FixtureRequest,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        tmp_path: Path,
    ) -> Iterator[Bench]:
        with make_bench(self.rig, request, monkeypatch, caplog, tmp_path) as made:
            yield made

    def test_both_services_find_it_and_agree_on_its_streams(self, bench: Bench) -> None:
        found, source = registered(), bench.source
        queuer, worker = found["queuer"], found["worker"]
        assert source in queuer["planners"], "the queuer finds no params method"
        assert source in queuer["expanders"], "the queuer finds no transform inputs method"
        assert source in worker["queries"], "the worker finds no query type"
        names = {f"{source}-{stream}" for stream in bench.streams}
        assert names, "it has no streams"
        known = {n for n in worker["extractors"] if n.startswith(f"{source}-")}
        assert known in (names, {f"{source}-{ANY_STREAM}"})
        assert source in worker["transformers"] or names <= set(worker["transformers"])
        knows = [source in service["budgets"] for service in (queuer, worker)]
        assert knows[0] == knows[1], "only one service knows the rate budget"

    def test_its_names_are_plain(self, bench: Bench) -> None:
        for name in (bench.source, *bench.streams):
            assert _NAME.fullmatch(name), name

    def test_a_setting_that_is_missing_or_wrong_is_named(self, bench: Bench) -> None:
        check = bench.planner.settings
        if check is None:
            return
        check()
        for name, value in bench.environment.items():
            with bench.patch.context() as patch:
                patch.delenv(name)
                _assert_names(check, name)
                if value.replace(".", "").isdigit():
                    patch.setenv(name, "rubbish")
                    assert _assert_names(check, name), f"{name}=rubbish is accepted"

    def test_a_full_load_holds_what_is_served(self, bench: Bench) -> None:
        truth = means(bench.rig.truth)
        warehouse = bench.warehouse()
        batch = bench.load(warehouse)
        streams = {job.job_id: job.stream for job in batch.jobs}
        found: dict[str, set[str]] = {stream: set() for stream in bench.streams}
        for table in read_rows(warehouse, bench.source).values():
            for key, row in table.items():
                found[streams[row.own["job_id"]]].add(key)
        for stream, expected in truth.items():
            if isinstance(expected, int):
                assert len(found[stream]) == expected, stream
            else:
                assert found[stream] == set(expected), stream
        assert batch.rows.rejected == 0
        assert batch.summary.state == "completed"

    def test_rows_carry_their_versions_and_times_of_real_zones(self, bench: Bench) -> None:
        zones = available_timezones()
        for job in bench.all_jobs():
            for row in bench.rows(job, *bench.pages(job)).values():
                _assert_times(row)
                if isinstance(row, Event):
                    assert row.timezone in zones, row.timezone
                    assert _EVENT_TYPE.fullmatch(row.event_type), row.event_type
        warehouse = bench.warehouse()
        batch = bench.load(warehouse)
        queries = {job.job_id: resolve(job.source, job.stream).query for job in batch.jobs}
        for table in read_rows(warehouse, bench.source).values():
            for stored in table.values():
                query = queries[stored.own["job_id"]]
                assert stored.own["version"] == query.version()
                assert stored.own["specific_version"] == query.specific_version()

    def test_the_same_request_plans_the_same_jobs(self, bench: Bench) -> None:
        start = bench.rig.now - timedelta(days=3650)
        for request in (bench.ask_for(), bench.ask_for("backfill", start=start, end=bench.rig.now)):
            first = bench.plan(request)
            # The window of a full load ends at its time; a backfill's is what was asked for.
            late = timedelta(hours=1 if request.mode == "backfill" else 0)
            again = bench.plan(request, late=late)
            ids = [job.job_id for job in first.jobs]
            assert ids == [job.job_id for job in again.jobs]
            assert len(set(ids)) == len(ids)

    def test_jobs_are_planned_for_what_was_asked_alone(self, bench: Bench) -> None:
        for stream in bench.streams:
            jobs = bench.jobs({stream: Window(end=bench.rig.now)})
            assert {job.stream for job in jobs} <= {stream}
        empty = Window(start=bench.rig.now, end=bench.rig.now)
        modes = ("incremental", "backfill")
        for mode in modes:
            windows = dict.fromkeys(bench.streams, empty)
            jobs = [job for job in bench.jobs(windows, mode) if job.window == empty]  # type: ignore[arg-type]
            assert jobs == [], f"an empty window is a job in mode {mode}"

    def test_a_job_is_what_its_query_takes_and_nothing_more(self, bench: Bench) -> None:
        for job in bench.all_jobs():
            query = resolve(job.source, job.stream).query
            query.from_dict(job.params)
            with pytest.raises(ConfigurationError, match="no_such_parameter"):
                query.from_dict({**job.params, "no_such_parameter": 1})

    def test_pages_are_bounded(self, bench: Bench) -> None:
        for job in bench.all_jobs():
            for page in bench.pages(job):
                assert len(page.records) <= _MOST_RECORDS
                assert len(str(page.cursor)) <= _LONGEST_CURSOR
                assert page.cursor is not None, "a cursor of None begins anew"

    def test_rows_do_not_depend_on_how_they_are_paged_or_when_they_are_read(
        self, bench: Bench
    ) -> None:
        for job in bench.all_jobs():
            rows = []
            for size in (*bench.rig.page_sizes, bench.rig.page_sizes[0]):
                bench.set_page_size(size)
                rows.append(bench.rows(job, *bench.pages(job)))
            assert rows[0].keys() == rows[1].keys() == rows[2].keys()
            assert rows[0] == rows[1] == rows[2]

    def test_extraction_goes_on_from_every_cursor(self, bench: Bench) -> None:
        most = 0
        for job in bench.all_jobs():
            pages = bench.pages(job)
            most = max(most, len(pages))
            whole = bench.rows(job, *pages)
            for number, page in enumerate(pages, start=1):
                rest = bench.pages(job, page.cursor)
                assert bench.rows(job, *pages[:number], *rest) == whole, page.cursor
        assert most >= _FEWEST_PAGES, f"no job has more than {most} pages: serve more, or less each"

    def test_a_load_that_is_stopped_at_every_page_loads_the_same(self, bench: Bench) -> None:
        whole = bench.warehouse()
        bench.load(whole)
        expected = read_content(whole, bench.source)
        stopped = bench.warehouse()
        batch = bench.load(stopped, stop_behind=1)
        assert len(batch.segments) > len(batch.jobs)
        assert_same(read_content(stopped, bench.source), expected)

    def test_a_repeat_writes_nothing(self, bench: Bench) -> None:
        warehouse = bench.warehouse()
        first = bench.load(warehouse)
        places = read_places(warehouse, bench.source)
        again = bench.load(warehouse, nominal=bench.rig.now + timedelta(hours=1))
        rows = again.rows
        assert (rows.inserted, rows.updated, rows.rejected) == (0, 0, 0)
        assert rows.unchanged >= first.rows.inserted > 0
        assert read_places(warehouse, bench.source) == places

    def test_windows_that_meet_hold_what_one_does_and_nothing_twice(self, bench: Bench) -> None:
        everything = bench.warehouse()
        bench.load(everything)
        moments = moments_of(bench.rig, read_content(everything, bench.source))
        if len(moments) < _FEWEST_PAGES:
            pytest.skip(f"{type(bench.rig).__name__}: no times in its time_columns")
        start, middle = moments[0], middle_of(moments)
        end = moments[-1] + timedelta(microseconds=1)
        expected = within(bench.rig, read_content(everything, bench.source), start, end)

        one, two = bench.warehouse(), bench.warehouse()
        bench.load(one, bench.ask_for("backfill", start=start, end=end))
        left = bench.load(two, bench.ask_for("backfill", start=start, end=middle)).rows
        right = bench.load(two, bench.ask_for("backfill", start=middle, end=end)).rows
        for warehouse in (one, two):
            found = timed(bench.rig, read_content(warehouse, bench.source))
            if not bench.rig.exact_windows:
                found = within(bench.rig, found, start, end)
            assert_same(found, expected)
        assert left.inserted > 0
        if bench.rig.exact_windows:
            assert right.inserted > 0
            assert (right.updated, right.unchanged) == (0, 0), "rows of the first window came again"

    def test_changes_arrive_with_the_next_load(self, bench: Bench) -> None:
        now = bench.rig.now
        warehouse = bench.warehouse()
        bench.load(warehouse, bench.ask_for("incremental"))
        before = read_content(warehouse, bench.source)
        means(lambda: bench.rig.change(now + timedelta(minutes=30)))
        later = now + timedelta(days=1)
        batch = bench.load(warehouse, bench.ask_for("incremental"), nominal=later)
        found = read_content(warehouse, bench.source)
        assert found != before, "nothing of the change arrived"
        assert batch.rows.inserted + batch.rows.updated > 0
        fresh = bench.warehouse()
        bench.load(fresh, nominal=later)
        assert_same(found, read_content(fresh, bench.source))

    def test_a_record_that_cannot_be_used_is_kept_and_costs_no_other(self, bench: Bench) -> None:
        sound = bench.warehouse()
        bench.load(sound)
        means(bench.rig.spoil)
        warehouse = bench.warehouse()
        batch = bench.load(warehouse)
        rejects = read_rejects(warehouse)
        assert rejects, "nothing was rejected"
        assert batch.rows.rejected >= len(rejects)
        found, expected = (read_content(each, bench.source) for each in (warehouse, sound))
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
                made = bench.outcome(jobs[reject["stream"]], reject["payload"])
            except Exception as error:  # noqa: BLE001 - any refusal is one
                text = f"{type(error).__name__}: {error}"
                assert not CRASH.match(text), f"its payload is no record any more: {text}"
            else:
                assert any(isinstance(row, Reject) for row in made), "it can be used after all"

    def test_records_are_the_same_records_as_their_rejects_keep_them(self, bench: Bench) -> None:
        for job in bench.all_jobs():
            for page in bench.pages(job):
                for record in page.records:
                    made = bench.outcome(job, record)
                    again = bench.outcome(job, as_kept(record))
                    assert made == again

    def test_two_connections_hold_what_each_would_alone(self, bench: Bench) -> None:
        alone = bench.warehouse()
        first = bench.load(alone).rows
        expected = read_content(alone, bench.source)
        warehouse = bench.warehouse()
        bench.load(warehouse)
        places = read_places(warehouse, bench.source)
        bench.add_connection(_OTHER)
        other = bench.ask_for(connection=_OTHER)
        assert first.inserted > 0
        assert bench.load(warehouse, other).rows == first, "it met rows of another connection"
        for connection in (DEFAULT, _OTHER):
            assert_same(read_content(warehouse, bench.source, connection), expected)
            states = {
                each.stream
                for each in read_states(warehouse, bench.source)
                if each.connection == connection and each.watermark is not None
            }
            assert states == set(bench.streams)
        assert read_places(warehouse, bench.source) == places
        # One that is asked to wait keeps no other from going on.
        block_source(warehouse, bench.source, _OTHER, timedelta(hours=1))
        later = bench.rig.now + timedelta(hours=1)
        assert bench.load(warehouse, nominal=later).rows.inserted == 0
        with pytest.raises(RetryableError):
            bench.load(warehouse, other, nominal=later)
        assert read_places(warehouse, bench.source) == places

    def test_what_is_deleted_from_one_connection_stays_in_the_other(self, bench: Bench) -> None:
        if not bench.rig.scans:
            return
        warehouse = bench.warehouse()
        bench.add_connection(_OTHER, **bench.rig.scans)
        for connection in (DEFAULT, _OTHER):
            bench.load(warehouse, bench.ask_for(connection=connection))
        before = read_content(warehouse, bench.source)
        means(lambda: bench.rig.delete(bench.rig.now + timedelta(minutes=30)))
        later = bench.rig.now + timedelta(hours=1)
        bench.load(warehouse, bench.ask_for(connection=_OTHER), nominal=later)
        after = read_content(warehouse, bench.source, _OTHER)
        assert after != before, "the deletion did not arrive"
        assert_same(read_content(warehouse, bench.source), before)

    def test_rejects_of_one_connection_are_none_of_the_other(self, bench: Bench) -> None:
        means(bench.rig.spoil)
        warehouse = bench.warehouse()
        bench.add_connection(_OTHER)
        bench.load(warehouse)
        first = read_rejects(warehouse)
        assert {each["connection"] for each in first} == {DEFAULT}
        bench.load(warehouse, bench.ask_for(connection=_OTHER))
        both = read_rejects(warehouse)
        assert {each["connection"] for each in both} == {DEFAULT, _OTHER}
        assert [each for each in both if each["connection"] == DEFAULT] == first
        bench.load(warehouse, bench.ask_for("replay", connection=_OTHER))
        assert [each for each in read_rejects(warehouse) if each["connection"] == DEFAULT] == first

    def test_refused_credentials_end_at_once_and_name_their_settings(self, bench: Bench) -> None:
        wrong = bench.rig.wrong_credentials
        if not wrong:
            pytest.skip(f"{type(bench.rig).__name__} names no wrong_credentials")
        for name, value in wrong.items():
            bench.patch.setenv(name, value)
        began = monotonic()
        try:
            bench.load(bench.warehouse())
        except (CredentialsError, ConfigurationError) as error:
            text = str(error)
        except RetryableError as error:
            pytest.fail(f"a refusal would be tried again and again: {error!r}")
        else:
            pytest.fail(f"it reads as before, although {', '.join(wrong)} is wrong")
        assert monotonic() - began < _REFUSED_WITHIN.total_seconds()
        assert any(name in text for name in wrong), f"no setting to correct is named: {text}"
        assert all(value not in text for value in wrong.values()), "the credential is told"
        assert_discreet(bench.rig, text)

    def test_no_secret_is_told_to_history_or_warehouse(self, bench: Bench) -> None:
        if not bench.rig.secrets:
            pytest.skip(f"{type(bench.rig).__name__} names no secrets")
        for fault in sorted(set(bench.rig.faults) - (COSTLY.keys() | ENDLESS)):
            bench.rig.strike(f"{fault}:0.05:1")
        with contextlib.suppress(MissingMeansError):
            bench.rig.spoil()
        warehouse = bench.warehouse()
        batch = bench.load(warehouse)
        assert_discreet(bench.rig, batch.told)
        assert_discreet(bench.rig, read_as_text(warehouse))


def suite_for(rig: type[Rig]) -> type[SourceSuite]:
    """Make the suite of one rig, for who prefers an assignment to a class."""
    return type(f"Test{rig.__name__}", (SourceSuite,), {"rig": rig})


def _assert_names(check: Callable[[], Any], name: str) -> bool:
    try:
        check()
    except ConfigurationError as error:
        assert name in str(error), f"without {name} the error names another setting: {error}"
        return True
    return False


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
