"""The standard suite passes a sound source, and fails one for each defect it might have."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from temporaletl.errors import ETLError
from temporaletl.testing import SourceSuite, suite_for
from temporaletl.testing.bench import Bench, make_bench
from tests.integration.faulty_source import NotesRig

Suite = SourceSuite
#: For each defect, the check that is there to notice it.
DEFECTS: dict[str, Callable[..., None]] = {
    "settings": Suite.test_a_setting_that_is_missing_or_wrong_is_named,
    "positions": Suite.test_a_full_load_holds_what_is_served,
    "names": Suite.test_rows_carry_their_versions_and_times_of_real_zones,
    "naive": Suite.test_rows_carry_their_versions_and_times_of_real_zones,
    "zone": Suite.test_rows_carry_their_versions_and_times_of_real_zones,
    "job ids": Suite.test_the_same_request_plans_the_same_jobs,
    "empty window": Suite.test_jobs_are_planned_for_what_was_asked_alone,
    "parameters": Suite.test_a_job_is_what_its_query_takes_and_nothing_more,
    "repeat": Suite.test_a_repeat_writes_nothing,
    "cursor": Suite.test_extraction_goes_on_from_every_cursor,
    "window start": Suite.test_windows_that_meet_hold_what_one_does_and_nothing_twice,
    "faults": Suite.test_no_fault_changes_what_is_loaded,
    "changes": Suite.test_changes_arrive_with_the_next_load,
    "words": Suite.test_a_record_that_cannot_be_used_is_kept_and_costs_no_other,
    "drops": Suite.test_a_record_that_cannot_be_used_is_kept_and_costs_no_other,
    "credentials": Suite.test_refused_credentials_end_at_once_and_name_their_settings,
    "absence": Suite.test_a_fault_that_stays_deletes_nothing_and_is_told,
    "endless": Suite.test_a_wait_without_end_is_cut_short_or_told,
    "poison": Suite.test_a_poisoned_record_costs_no_other,
    "sees less": Suite.test_an_account_that_sees_less_deletes_nothing,
    "secret in jobs": Suite.test_no_secret_is_told_to_history_or_warehouse,
}
#: A defect may be noticed by more than the check that looks for it.
ALSO = {
    "cursor": Suite.test_a_load_that_is_stopped_at_every_page_loads_the_same,
    "positions": Suite.test_rows_do_not_depend_on_how_they_are_paged_or_when_they_are_read,
    "repeat": Suite.test_rows_do_not_depend_on_how_they_are_paged_or_when_they_are_read,
    "poison": Suite.test_an_item_that_cannot_be_served_costs_no_other,
}
#: What is not asked of a source that no service has imported.
_ELSEWHERE = "test_both_services_find_it_and_agree_on_its_streams"


def perform(check: Callable[..., None], bench: Bench) -> None:
    arguments: dict[str, Any] = {"bench": bench}
    known = {
        "fault": "disorder",
        "once": "disorder",
        "lasting": "empty-object",
        "absent": "empty-object",
        "endless": "429-huge",
        "poison": "NaN",
    }
    for name in known.keys() & set(inspect.signature(check).parameters):
        arguments[name] = known[name]
    check(Suite(), **arguments)


@pytest.fixture
def bench_of(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> Callable[[str], Any]:
    def make(defect: str) -> Any:
        kind = type("DefectiveRig", (NotesRig,), {"defect": defect})
        return make_bench(kind, request, monkeypatch, caplog, tmp_path)

    return make


#: What a check ends with that notices something.
NOTICED = (AssertionError, pytest.fail.Exception, ETLError)
CHECKS = [name for name in dir(Suite) if name.startswith("test_") and name != _ELSEWHERE]


@pytest.mark.parametrize("name", CHECKS)
def test_a_sound_source_passes(bench_of: Callable[[str], Any], name: str) -> None:
    with bench_of("") as bench:
        perform(getattr(Suite, name), bench)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_noticed(bench_of: Callable[[str], Any], defect: str) -> None:
    for check in filter(None, (DEFECTS[defect], ALSO.get(defect))):
        with bench_of(defect) as bench, pytest.raises(NOTICED):
            perform(check, bench)


def test_a_secret_in_the_log_is_noticed_by_every_check(bench_of: Callable[[str], Any]) -> None:
    with (
        pytest.raises(AssertionError, match="secret number 1 is told"),
        bench_of("secret in logs") as bench,
    ):
        Suite().test_pages_are_bounded(bench)


class Bare(NotesRig):
    """Gives nothing that it need not."""

    secrets = ()
    faults = ()
    wrong_credentials = {}  # noqa: RUF012
    page_size_setting = None

    truth = NotesRig.__base__.truth  # type: ignore[union-attr]
    change = NotesRig.__base__.change  # type: ignore[union-attr]
    spoil = NotesRig.__base__.spoil  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("check", "missing"),
    [
        (Suite.test_a_full_load_holds_what_is_served, "truth"),
        (Suite.test_changes_arrive_with_the_next_load, "change"),
        (Suite.test_a_record_that_cannot_be_used_is_kept_and_costs_no_other, "spoil"),
        (Suite.test_refused_credentials_end_at_once_and_name_their_settings, "wrong_credentials"),
        (Suite.test_no_secret_is_told_to_history_or_warehouse, "secrets"),
        (
            Suite.test_rows_do_not_depend_on_how_they_are_paged_or_when_they_are_read,
            "page_size_setting",
        ),
    ],
)
def test_a_check_whose_means_are_missing_is_skipped_and_says_so(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    check: Callable[..., None],
    missing: str,
) -> None:
    with (
        make_bench(Bare, request, monkeypatch, caplog, tmp_path) as bench,
        pytest.raises(pytest.skip.Exception, match=missing),
    ):
        perform(check, bench)


def test_without_faults_the_check_of_faults_is_skipped_once() -> None:
    class Metafunc:
        fixturenames = ("bench", "fault")
        found: tuple[str, list[str]]

        def parametrize(self, name: str, values: list[str]) -> None:
            self.found = (name, values)

    asked = Metafunc()
    suite_for(Bare)().pytest_generate_tests(asked)  # type: ignore[arg-type]
    assert asked.found == ("fault", ["(none)"])
