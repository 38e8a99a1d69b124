"""What is planned for which window."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from temporaletl import Window
from tests.integration.job_reading import NOW, plan_of
from tests.integration.salesforce_reading import STREAMS, jobs_of

START = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in {"KEY": "k", "SECRET": "s"}.items():
        monkeypatch.setenv(f"SF_CONSUMER_{name}", value)
    monkeypatch.setenv("SF_DOMAIN", "example.my")


def planned(mode: str, **more: object) -> set[tuple[object, ...]]:
    names = ("object", "stamp", "deleted", "bounded")
    jobs = jobs_of(mode, **more)  # type: ignore[arg-type]
    return {tuple(job.params[name] for name in names) for job in jobs}


def test_every_object_of_a_stream_is_a_job() -> None:
    for mode in ("full", "incremental"):
        assert planned(mode, streams=("cases",)) == {
            ("Case", "SystemModstamp", False, False),
            ("CaseHistory", "CreatedDate", False, True),
            ("CaseComment", "SystemModstamp", False, False),
        }


def test_a_backfill_looks_for_creations_and_for_deletions() -> None:
    assert planned("backfill", start=START, streams=("cases",)) == {
        ("Case", "CreatedDate", False, True),
        ("Case", "SystemModstamp", True, True),
        ("CaseHistory", "CreatedDate", False, True),
        ("CaseComment", "CreatedDate", False, True),
    }


def test_only_the_streams_that_were_asked_for_are_planned() -> None:
    assert {job.stream for job in jobs_of(streams=("tasks", "events"))} == {"tasks", "events"}
    assert {job.stream for job in jobs_of()} == set(STREAMS)


def test_employees_are_rows_of_the_object_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SF_EMPLOYEE_OBJECT", "Employee__c")
    assert planned("full", streams=("employees",)) == {
        ("Employee__c", "SystemModstamp", False, False)
    }


def test_an_empty_window_is_no_job() -> None:
    assert jobs_of("incremental", start=NOW, end=NOW) == []


def test_jobs_carry_their_window_and_what_a_person_set() -> None:
    for job in jobs_of("incremental", start=START, page_size=300):
        assert job.window == Window(start=START, end=NOW)
        assert job.params["page_size"] == 300
    assert plan_of("salesforce", ["cases"]).windows["cases"].start is None
