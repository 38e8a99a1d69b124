"""Source `salesforce` against the fake org, over real HTTP, from the backlog to events."""

from datetime import UTC, datetime, timedelta

import pytest

from temporaletl import SourceUnavailableError, Window
from temporaletl.messages import Mode
from tests.fakes.salesforce import generate
from tests.fakes.salesforce.org import timestamp
from tests.fakes.salesforce.service import OWN_FAULTS
from tests.integration.job_reading import (
    NOW,
    QUICK,
    Serve,
    pages_of,
    read,
    resumed_everywhere,
    spread,
    transformed,
)
from tests.integration.salesforce_reading import holds, jobs_of, served

LONG_AGO = datetime(2023, 1, 1, tzinfo=UTC)


__all__ = ["served"]


async def test_a_full_read_finds_everything_once(served: Serve) -> None:
    org = generate(120, seed=1)
    served(org)
    found = await read(jobs_of())
    assert holds(found, org)
    assert not found.rejects
    assert not found.interruptions
    assert set(found.records.values()) == {1}


#: What no query of ours can meet: it never follows a locator as long as there are rows.
UNMET = {"locator-evicted", "repeated-locator", "short-piece"}
OWN = [kind for kind in OWN_FAULTS if not kind.startswith("bulk")]


@pytest.mark.parametrize("mode", ["full", "incremental"])
@pytest.mark.parametrize("kinds", [QUICK, *zip(OWN)], ids="+".join)
async def test_no_fault_hides_anything(served: Serve, kinds: tuple[str, ...], mode: Mode) -> None:
    org = generate(60, seed=2)
    server = served(org, *spread(kinds, each_of_many=0.15), seed=7)
    start = LONG_AGO if mode == "incremental" else None
    found = await read(jobs_of(mode, start=start))
    assert holds(found, org)
    assert not found.rejects
    assert server.traffic.during_pause == 0
    assert set(kinds) - {*UNMET, "ties", "null-people"} <= server.faults.injected.keys()


async def test_rows_with_one_stamp_are_read_in_spite_of_their_number(served: Serve) -> None:
    org = generate(150, seed=4)
    served(org, "ties:0.9", "short-page:0.2")
    found = await read(jobs_of("incremental", start=LONG_AGO))
    assert holds(found, org)
    assert set(found.records.values()) == {1}


async def test_reading_goes_on_from_every_cursor(served: Serve) -> None:
    org = generate(60, seed=5)
    served(org, "ties:0.4")
    for job in jobs_of():
        async for before, rest in resumed_everywhere(job):
            assert before.events.keys().isdisjoint(rest.events)


async def test_a_backfill_finds_every_event_of_its_window(served: Serve) -> None:
    org = generate(200, seed=7)
    served(org)
    window = Window(
        start=datetime(2024, 6, 3, 4, 5, 6, tzinfo=UTC), end=datetime(2024, 8, 1, tzinfo=UTC)
    )
    everything = await read(jobs_of())
    found = await read(jobs_of("backfill", start=window.start, end=window.end))
    wanted = {i: event for i, event in everything.events.items() if event.event_time_utc in window}
    assert {"case_deleted", "case_created", "status_changed"} <= {
        event.event_type for event in wanted.values()
    }
    assert wanted.items() <= found.events.items()
    assert len(found.records) < len(everything.records) / 2


async def test_windows_that_meet_share_nothing_and_miss_nothing(served: Serve) -> None:
    org = generate(100, seed=8)
    served(org, "ties:0.3")
    history = org.all("CaseHistory")
    stamps = sorted({str(row["CreatedDate"]) for row in history})
    middle = datetime.fromisoformat(stamps[len(stamps) // 2])
    parts = [
        [job for job in jobs_of("backfill", **span) if job.params["object"] == "CaseHistory"]
        for span in ({"start": LONG_AGO, "end": middle}, {"start": middle, "end": NOW})
    ]
    before, after = [await read(part) for part in parts]
    assert before.events
    assert after.events
    assert before.records.keys().isdisjoint(after.records)
    assert len(before.records) + len(after.records) == len(history)
    assert min(event.event_time_utc for event in after.events.values()) == middle


async def test_jobs_are_the_same_for_the_same_request(served: Serve) -> None:
    org = generate(3)
    served(org)
    first = jobs_of()
    org.add("Task", NOW, Subject="later")
    assert {str(job.params) for job in jobs_of()} == {str(job.params) for job in first}
    assert all("employees" not in job.stream for job in first)


async def test_a_second_read_brings_what_was_added_changed_and_deleted(served: Serve) -> None:
    org = generate(80, seed=9)
    served(org)
    found = await read(jobs_of(end=timestamp(600)))
    person = org.all("User")[0]["Id"]
    cases, tasks = org.all("Case"), org.all("Task")
    at = timestamp(600)
    org.change(cases[3], at, person, Status="Working", Subject="New words")
    org.change(cases[4], at, person, OwnerId=org.all("User")[1]["Id"])
    org.delete(cases[5], at, person)
    org.delete(tasks[1], at + timedelta(seconds=1), person)
    org.delete(org.all("Opportunity")[2], at, person)
    org.add("Case", at, by=person, CaseNumber="99999999", Subject="Added")
    # Stamped before the first read's end, but committed after it.
    late = org.add("Case", at - timedelta(minutes=4), by=person, CaseNumber="88888888")
    org.add("CaseComment", at - timedelta(minutes=3), by=person, ParentId=late["Id"])
    second = await read(
        jobs_of("incremental", start=at - timedelta(minutes=15), end=at + timedelta(days=1))
    )
    merged = found.events | second.events
    assert merged == (await read(jobs_of())).events
    assert len(second.records) < 40
    assert {f"{late['Id']}:created", f"{cases[5]['Id']}:deleted"} <= second.events.keys()


async def test_rows_that_change_all_the_time_are_found_all_the_same(served: Serve) -> None:
    org = generate(30, seed=10)
    served(org)
    busy = org.all("Case")[0]
    org.touch(busy, NOW + timedelta(minutes=1))
    found = await read(jobs_of("incremental", start=LONG_AGO, end=NOW))
    assert f"{busy['Id']}:created" in found.events


async def test_people_and_their_zones_are_on_the_events(served: Serve) -> None:
    org = generate(20, seed=11)
    served(org)
    job = next(job for job in jobs_of() if job.params["object"] == "Case")
    case = org.all("Case")[0]
    users = {user["Id"]: user for user in org.all("User")}
    known = {user["Id"]: f"E-{user['Id']}" for user in users.values()}
    async with pages_of(job) as pages:
        records = [record async for page in pages for record in page.records]
    record = next(record for record in records if record.row.id == case["Id"])
    created = transformed(job, record, **known)[0]
    assert (created.person, created.employee_id) == (
        case["CreatedById"],
        f"E-{case['CreatedById']}",
    )
    assert created.timezone == users[case["CreatedById"]]["TimeZoneSidKey"]
    assert created.parent_item_id == case["CaseNumber"]
    assert created.relation_properties == {"owner": f"E-{case['OwnerId']}"}


async def test_events_without_people_are_still_events(served: Serve) -> None:
    org = generate(40, seed=12)
    served(org, "null-people:0.5")
    found = await read(jobs_of())
    assert holds(found, org)
    assert None in {event.person for event in found.events.values()}


async def test_a_row_that_cannot_be_read_is_kept_and_can_be_replayed(served: Serve) -> None:
    org = generate(45, seed=13)
    row = org.all("Case")[7]
    row["CreatedDate"] = None
    org.all("Case")[9]["Subject"] = 17
    last = max(org.all("Case"), key=lambda each: (str(each["SystemModstamp"]), each["Id"]))
    last["CaseNumber"] = None
    org.note_edits()
    served(org)
    found = await read(jobs_of())
    by_key = {reject.key: reject for reject in found.rejects}
    assert len(found.rejects) == 3
    assert by_key.keys() == {row["CaseNumber"], org.all("Case")[9]["CaseNumber"], last["Id"]}
    reject = by_key[row["CaseNumber"]]
    assert "CreatedDate" in reject.reason
    payload = reject.payload | {"CreatedDate": "2024-05-01T10:00:00.000+0000"}
    assert transformed(jobs_of()[0], payload)[0].event_id == f"{row['Id']}:created"


async def test_locators_that_go_round_in_circles_are_not_followed(served: Serve) -> None:
    org = generate(30, seed=14)
    served(org, "empty-page:0.5", "repeated-locator:1", "short-page:0.5")
    assert holds(await read(jobs_of()), org)


async def test_a_server_that_does_not_get_on_is_an_error_that_passes(served: Serve) -> None:
    served(generate(30, seed=14), "empty-page:1")
    with pytest.raises(SourceUnavailableError, match="without rows"):
        await read(jobs_of(), patience=0)


async def test_a_job_that_goes_on_behind_its_last_page_requests_nothing(served: Serve) -> None:
    server = served(generate(60, seed=1))
    job = jobs_of(streams=("tasks",), rows_per_job=1_000)[0]
    found = await read([job])
    requests = server.traffic.requests
    async with pages_of(job, found.cursors[-1]) as pages:
        assert [page async for page in pages] == []
    assert server.traffic.requests == requests
