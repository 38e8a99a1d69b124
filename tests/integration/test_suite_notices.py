"""The standard suite passes a sound source, and fails one for each defect it might have."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from temporaletl.errors import ETLError
from temporaletl.testing import SourceSuite, suite_for
from temporaletl.testing.harness import Harness, make_harness
from tests.integration.faulty_source import NotesFixture

Suite = SourceSuite
#: For each defect, the check that is there to notice it.
DEFECTS: dict[str, Callable[..., None]] = {
    "settings": Suite.test_a_setting_that_is_missing_or_wrong_is_named,
    "positions": Suite.test_a_full_load_holds_what_is_served,
    "names": Suite.test_rows_carry_their_versions_and_times_of_real_zones,
    "naive": Suite.test_rows_carry_their_versions_and_times_of_real_zones,
    "zone": Suite.test_rows_carry_their_versions_and_times_of_real_zones,
    "job ids": Suite.test_the_same_request_plans_the_same_jobs,
    "empty window": Suite.test_jobs_are_planned_for_what_was_requested_alone,
    "parameters": Suite.test_a_job_is_what_its_query_takes_and_nothing_more,
    "page time": Suite.test_pages_know_when_they_were_requested,
    "repeat": Suite.test_a_repeat_writes_nothing,
    "cursor": Suite.test_extraction_goes_on_from_every_cursor,
    "window start": Suite.test_windows_that_meet_hold_what_one_does_and_nothing_twice,
    "faults": Suite.test_no_fault_changes_what_is_loaded,
    "changes": Suite.test_changes_arrive_with_the_next_load,
    "words": Suite.test_a_record_that_cannot_be_used_is_kept_and_costs_no_other,
    "drops": Suite.test_a_record_that_cannot_be_used_is_kept_and_costs_no_other,
    "credentials": Suite.test_refused_credentials_end_at_once_and_name_their_settings,
    "absence": Suite.test_a_fault_that_stays_deletes_nothing_and_is_reported,
    "endless": Suite.test_a_wait_without_end_is_cut_short_or_reported,
    "poison": Suite.test_a_poisoned_record_costs_no_other,
    "sees less": Suite.test_an_account_that_sees_less_deletes_nothing,
    "secret in jobs": Suite.test_no_secret_reaches_history_or_warehouse,
}
#: A defect may be noticed by more than the check that looks for it.
ALSO = {
    "cursor": Suite.test_a_load_that_is_stopped_at_every_page_loads_the_same,
    "positions": Suite.test_rows_do_not_depend_on_how_they_are_paged_or_when_they_are_read,
    "repeat": Suite.test_rows_do_not_depend_on_how_they_are_paged_or_when_they_are_read,
    "poison": Suite.test_an_item_that_cannot_be_served_costs_no_other,
}
#: The check that needs a source which both services import.
_ELSEWHERE = "test_both_services_find_it_and_agree_on_its_streams"


def perform(check: Callable[..., None], harness: Harness) -> None:
    arguments: dict[str, Any] = {"harness": harness}
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
def harness_of(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> Callable[[str], Any]:
    def make(defect: str) -> Any:
        kind = type("DefectiveFixture", (NotesFixture,), {"defect": defect})
        return make_harness(kind, request, monkeypatch, caplog, tmp_path)

    return make


#: What a check ends with that notices something.
NOTICED = (AssertionError, pytest.fail.Exception, ETLError)
CHECKS = [name for name in dir(Suite) if name.startswith("test_") and name != _ELSEWHERE]


@pytest.mark.parametrize("name", CHECKS)
def test_a_sound_source_passes(harness_of: Callable[[str], Any], name: str) -> None:
    with harness_of("") as harness:
        perform(getattr(Suite, name), harness)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_noticed(harness_of: Callable[[str], Any], defect: str) -> None:
    for check in filter(None, (DEFECTS[defect], ALSO.get(defect))):
        with harness_of(defect) as harness, pytest.raises(NOTICED):
            perform(check, harness)


def test_a_secret_in_the_log_is_noticed_by_every_check(harness_of: Callable[[str], Any]) -> None:
    with (
        pytest.raises(AssertionError, match="secret number 1 is exposed"),
        harness_of("secret in logs") as harness,
    ):
        Suite().test_pages_are_bounded(harness)


class Bare(NotesFixture):
    """Gives nothing that it need not."""

    secrets = ()
    faults = ()
    wrong_credentials = {}  # noqa: RUF012
    page_size_setting = None

    expected = NotesFixture.__base__.expected  # type: ignore[union-attr]
    change = NotesFixture.__base__.change  # type: ignore[union-attr]
    corrupt = NotesFixture.__base__.corrupt  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("check", "missing"),
    [
        (Suite.test_a_full_load_holds_what_is_served, "expected"),
        (Suite.test_changes_arrive_with_the_next_load, "change"),
        (Suite.test_a_record_that_cannot_be_used_is_kept_and_costs_no_other, "corrupt"),
        (Suite.test_refused_credentials_end_at_once_and_name_their_settings, "wrong_credentials"),
        (Suite.test_no_secret_reaches_history_or_warehouse, "secrets"),
        (
            Suite.test_rows_do_not_depend_on_how_they_are_paged_or_when_they_are_read,
            "page_size_setting",
        ),
    ],
)
def test_a_check_whose_capability_is_missing_is_skipped_and_names_it(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    check: Callable[..., None],
    missing: str,
) -> None:
    with (
        make_harness(Bare, request, monkeypatch, caplog, tmp_path) as harness,
        pytest.raises(pytest.skip.Exception, match=missing),
    ):
        perform(check, harness)


def test_without_faults_the_check_of_faults_is_skipped_once() -> None:
    class Metafunc:
        fixturenames = ("harness", "fault")
        found: tuple[str, list[str]]

        def parametrize(self, name: str, values: list[str]) -> None:
            self.found = (name, values)

    metafunc = Metafunc()
    suite_for(Bare)().pytest_generate_tests(metafunc)  # type: ignore[arg-type]
    assert metafunc.found == ("fault", ["(none)"])
