"""Planning checks of the standard suite: registration, settings, and the jobs of a request."""

# ruff: noqa: S101, PT017 - pytest's assertions

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from temporaletl.errors import ConfigurationError
from temporaletl.messages import Window
from temporaletl.registry import ANY_STREAM
from temporaletl.strategies import resolve
from temporaletl.testing.harness import Harness, registered

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class PlanningChecks:
    """The planning checks of a `SourceSuite`."""

    def test_both_services_find_it_and_agree_on_its_streams(self, harness: Harness) -> None:
        found, source = registered(), harness.source
        queuer, worker = found["queuer"], found["worker"]
        assert source in queuer["planners"], "the queuer finds no params method"
        assert source in queuer["expanders"], "the queuer finds no transform inputs method"
        assert source in worker["queries"], "the worker finds no query type"
        names = {f"{source}-{stream}" for stream in harness.streams}
        assert names, "it has no streams"
        known = {n for n in worker["extractors"] if n.startswith(f"{source}-")}
        assert known in (names, {f"{source}-{ANY_STREAM}"})
        assert source in worker["transformers"] or names <= set(worker["transformers"])
        knows = [source in service["budgets"] for service in (queuer, worker)]
        assert knows[0] == knows[1], "only one service knows the rate budget"

    def test_its_names_are_plain(self, harness: Harness) -> None:
        for name in (harness.source, *harness.streams):
            assert _NAME.fullmatch(name), name

    def test_a_setting_that_is_missing_or_wrong_is_named(self, harness: Harness) -> None:
        check = harness.planner.settings
        if check is None:
            return
        check()
        for name, value in harness.environment.items():
            with harness.patch.context() as patch:
                patch.delenv(name)
                _assert_names(check, name)
                if value.replace(".", "").isdigit():
                    patch.setenv(name, "rubbish")
                    assert _assert_names(check, name), f"{name}=rubbish is accepted"

    def test_the_same_request_plans_the_same_jobs(self, harness: Harness) -> None:
        start = harness.fixture.now - timedelta(days=3650)
        for request in (
            harness.request(),
            harness.request("backfill", start=start, end=harness.fixture.now),
        ):
            first = harness.plan(request)
            # The window of a full load ends at its time; a backfill's is the requested one.
            late = timedelta(hours=1 if request.mode == "backfill" else 0)
            again = harness.plan(request, late=late)
            ids = [job.job_id for job in first.jobs]
            assert ids == [job.job_id for job in again.jobs]
            assert len(set(ids)) == len(ids)

    def test_jobs_are_planned_for_what_was_requested_alone(self, harness: Harness) -> None:
        for stream in harness.streams:
            jobs = harness.jobs({stream: Window(end=harness.fixture.now)})
            assert {job.stream for job in jobs} <= {stream}
        empty = Window(start=harness.fixture.now, end=harness.fixture.now)
        modes = ("incremental", "backfill")
        for mode in modes:
            windows = dict.fromkeys(harness.streams, empty)
            jobs = [job for job in harness.jobs(windows, mode) if job.window == empty]  # type: ignore[arg-type]
            assert jobs == [], f"an empty window is a job in mode {mode}"

    def test_a_job_is_what_its_query_takes_and_nothing_more(self, harness: Harness) -> None:
        for job in harness.all_jobs():
            query = resolve(job.source, job.stream).query
            query.from_dict(job.params)
            with pytest.raises(ConfigurationError, match="no_such_parameter"):
                query.from_dict({**job.params, "no_such_parameter": 1})


def _assert_names(check: Callable[[], Any], name: str) -> bool:
    try:
        check()
    except ConfigurationError as error:
        assert name in str(error), f"without {name} the error names another setting: {error}"
        return True
    return False
