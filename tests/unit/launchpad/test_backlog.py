"""Whose work is planned: configured, asked for, or known to Salesforce."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from temporaletl import ConfigurationError, ETLInput, Plan
from temporaletl.ids import job_id_of
from temporaletl.queuer.scans import scan_jobs
from temporaletl.queuer.sources.launchpad import members, people
from temporaletl.queuer.sources.launchpad.inputs import expand_backlog
from temporaletl.queuer.sources.launchpad.params import STREAMS, describe_backlog
from temporaletl.worker.sources.launchpad.query import LaunchpadQuery
from tests.integration import job_reading

END = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Employed:
    employee_id: str
    email: str | None = None
    name: str | None = None
    timezone: str | None = None
    identities: Mapping[str, str] = field(default_factory=dict)


EMPLOYEES = [
    Employed("E1", "ann@example.com", "Ann", "Europe/Berlin", {"launchpad": "~Ann", "jira": "a"}),
    Employed("E2", "bob@example.com", "Bob", None, {"launchpad": " bob "}),
    Employed("E3", "cleo@example.com", "Cleo", None, {"jira": "c"}),
    Employed("E4", "dan@example.com", "Dan", None, {"launchpad": "dan@example.com?"}),
]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.environ", {})
    employ(monkeypatch, None)


def employ(monkeypatch: pytest.MonkeyPatch, found: list[Employed] | None) -> None:
    def employees() -> Iterator[Employed] | None:
        return None if found is None else iter(found)

    for module in (members, people):
        monkeypatch.setattr(module, "employees", employees)


def plan_of(start: datetime | None = None, **params: Any) -> Plan:
    return job_reading.plan_of("launchpad", STREAMS, start=start, end=END, **params)


def jobs_of(start: datetime | None = None, **params: Any) -> list[ETLInput]:
    plan = plan_of(start, **params)
    backlog = describe_backlog(plan)
    return [*expand_backlog(plan, backlog), *scan_jobs(plan, backlog)]


def test_members_are_planned_in_slices_for_each_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LP_MEMBERS", "eve dan cleo bob ann")
    jobs = jobs_of(members_per_job=2)
    assert [job.params["members"] for job in jobs if job.stream == "bugs"] == [
        ["ann", "bob"],
        ["cleo", "dan"],
        ["eve"],
        ["ann", "bob", "cleo", "dan", "eve"],  # the deletion scan
    ]
    assert {job.stream for job in jobs} == set(STREAMS)
    assert len({job_id_of(job) for job in jobs}) == len(jobs) == 12


def test_the_same_request_gives_the_same_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LP_MEMBERS", "~bob,ann")
    first = [job_id_of(job) for job in jobs_of()]
    monkeypatch.setenv("LP_MEMBERS", "ann bob ann")
    assert [job_id_of(job) for job in jobs_of()] == first


def test_each_target_is_a_job_and_needs_no_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LP_TARGETS", "ubuntu alpha")
    jobs = [job for job in jobs_of() if job.stream == "questions"]
    assert [(job.params["members"], job.params["targets"]) for job in jobs] == [
        ([], ["alpha"]),
        ([], ["ubuntu"]),
        ([], ["alpha", "ubuntu"]),  # the deletion scan
    ]


def test_what_a_run_asks_for_replaces_what_is_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LP_MEMBERS", "ann")
    monkeypatch.setenv("LP_TARGETS", "alpha")
    jobs = jobs_of(members=["~zoe"])
    assert {(*job.params["members"], *job.params["targets"]) for job in jobs} == {("zoe",)}  # type: ignore[misc]
    jobs = jobs_of(targets=["ubuntu"])
    assert {(*job.params["members"], *job.params["targets"]) for job in jobs} == {("ubuntu",)}  # type: ignore[misc]


def test_the_worker_takes_every_parameter_of_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LP_MEMBERS", "ann bob")
    for job in jobs_of(members_per_job=1, closed_days=30):
        query = LaunchpadQuery.from_dict(job.params)
        assert query.closed_days == 30
        assert len(query.members) == (2 if job.scan else 1)


@pytest.mark.parametrize(
    "params",
    [{"member": ["ann"]}, {"members": ["not a name"]}, {"members_per_job": 0}, {"closed_days": -1}],
)
def test_a_wrong_parameter_is_named(params: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(params))):
        jobs_of(**params)


def test_an_empty_window_gives_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LP_MEMBERS", "ann")
    assert jobs_of(start=END) == []


def test_nobody_configured_names_both_ways() -> None:
    with pytest.raises(ConfigurationError, match=r"LP_MEMBERS.*Salesforce \(SF_USERNAME"):
        jobs_of()


def test_salesforce_knows_the_members(monkeypatch: pytest.MonkeyPatch) -> None:
    employ(monkeypatch, EMPLOYEES)
    assert describe_backlog(plan_of()).slices == (("ann", "bob"),)


def test_salesforce_without_launchpad_names_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    employ(monkeypatch, EMPLOYEES[2:3])
    with pytest.raises(ConfigurationError, match=r"no employee in Salesforce.*LP_MEMBERS"):
        jobs_of()


def test_salesforce_is_not_asked_where_members_are_configured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LP_MEMBERS", "zoe")
    employ(monkeypatch, EMPLOYEES)
    assert describe_backlog(plan_of()).slices == (("zoe",),)
    assert list(people.identify(plan_of())) == []


def test_employees_are_the_people_behind_launchpad_names(monkeypatch: pytest.MonkeyPatch) -> None:
    employ(monkeypatch, EMPLOYEES)
    ann, bob = people.identify(plan_of())
    assert (ann.source_kind_id, ann.person, ann.employee_id) == ("launchpad", "ann", "E1")
    assert (ann.email, ann.name, ann.timezone) == ("ann@example.com", "Ann", "Europe/Berlin")
    assert (bob.person, bob.employee_id) == ("bob", "E2")


def test_without_salesforce_nobody_is_identified() -> None:
    assert list(people.identify(plan_of())) == []
