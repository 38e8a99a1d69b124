"""Source `launchpad` against the fake service, over real HTTP, from the backlog to events."""

from datetime import UTC, datetime, timedelta

import pytest

from temporaletl import Window
from temporaletl.messages import Mode
from tests.fakes.launchpad import Archive, expected_counts, generate
from tests.fakes.launchpad.service import OWN_FAULTS, LaunchpadService
from tests.integration.job_reading import (
    NOW,
    QUICK,
    Read,
    Serve,
    pages_of,
    read,
    resumes_everywhere,
    spread,
)
from tests.integration.launchpad_reading import LONG_AGO, STREAMS, jobs_of, served

__all__ = ["served"]

EACH = pytest.mark.parametrize("stream", STREAMS)


def members_of(archive: Archive) -> str:
    return " ".join(archive.people)


def small(seed: int = 1) -> Archive:
    return generate(20, proposals=12, questions=10, seed=seed, people=4)


def tiny(seed: int) -> Archive:
    return generate(8, proposals=6, questions=5, seed=seed, people=3)


@EACH
async def test_a_full_read_of_people_finds_everything(served: Serve, stream: str) -> None:
    archive = generate(60, seed=1)
    served(archive)
    found = await read(await jobs_of(stream, members_per_job=4))
    assert found.types == expected_counts(archive)[stream]
    assert not found.rejects


@pytest.fixture
def _whole_description(served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001
    monkeypatch.setattr(LaunchpadService, "brief", False)


@EACH
@pytest.mark.usefixtures("_whole_description")
async def test_a_read_of_some_people_finds_what_concerns_them(served: Serve, stream: str) -> None:
    archive = generate(30, seed=2, people=8)
    served(archive)
    some = list(archive.people)[:3]
    found = await read(await jobs_of(stream, members=some))
    assert found.types == expected_counts(archive, some)[stream]


@pytest.mark.usefixtures("_whole_description")
async def test_targets_are_read_whole_without_any_members(served: Serve) -> None:
    archive = generate(30, seed=3)
    served(archive, LP_MEMBERS="", LP_TARGETS="alpha, beta-tool, ubuntu")
    for stream in STREAMS:
        found = await read(await jobs_of(stream))
        assert found.types == expected_counts(archive)[stream]


async def test_a_distribution_without_merge_proposals_is_no_error(served: Serve) -> None:
    served(small(), LP_MEMBERS="", LP_TARGETS="ubuntu")
    assert not (await read(await jobs_of("merge_proposals"))).events


async def test_what_two_jobs_meet_gives_the_same_rows(served: Serve) -> None:
    archive = small(seed=4)
    served(archive)
    jobs = await jobs_of("bugs", members_per_job=1)
    whole = await read(jobs)
    for job in jobs:
        each = await read([job])
        assert all(whole.events[id_] == event for id_, event in each.events.items())


#: Answers so small that few entries already need every kind of paging.
PAGED = {"batch_limit": 3}


@pytest.mark.parametrize("kinds", [QUICK, *zip(OWN_FAULTS)], ids="+".join)
async def test_no_fault_hides_or_changes_anything(served: Serve, kinds: tuple[str, ...]) -> None:
    shaping = [f"{kind}:0.2" for kind in kinds if kind in {"ties", "null-people"}]
    archive = tiny(seed=1)
    served(archive, *shaping, seed=1)
    expected = {stream: await read(await jobs_of(stream)) for stream in STREAMS}
    assert {stream: each.types for stream, each in expected.items()} == expected_counts(archive)
    server = served(tiny(seed=1), *spread(kinds), seed=1, service=PAGED)
    for stream in STREAMS:
        found = await read(await jobs_of(stream), size=4)
        assert found.events == expected[stream].events
        assert not found.rejects
    assert server.traffic.during_pause == 0
    assert kinds != QUICK or server.faults.injected.keys() == set(QUICK)


async def test_all_paging_faults_at_once_hide_nothing(served: Serve) -> None:
    archive = generate(16, proposals=8, questions=6, seed=5, people=4)
    kinds = ("repeated-page-link", "short-page", "empty-page", "total-too-large", "changing-rows")
    faults = ("ties:0.7", *(f"{kind}:0.2" for kind in kinds))
    server = served(archive, *faults, seed=5, service=PAGED)
    for stream in STREAMS:
        found = await read(await jobs_of(stream), size=5)
        assert found.types == expected_counts(archive)[stream]
    assert set(server.faults.injected) == set(kinds)


@EACH
@pytest.mark.parametrize("mode", ["full", "incremental"])
async def test_reading_goes_on_from_every_cursor(served: Serve, stream: str, mode: Mode) -> None:
    served(tiny(seed=7), "ties:0.5")
    start = LONG_AGO if mode == "incremental" else None
    (job,) = await jobs_of(stream, mode, start=start)
    assert await resumes_everywhere(job, 3) > 1


@EACH
async def test_an_ended_job_asks_for_nothing(served: Serve, stream: str) -> None:
    archive = small()
    server = served(archive)
    (job,) = await jobs_of(stream, members=list(archive.people)[:1])
    found = await read([job])
    before = server.traffic.requests
    async with pages_of(job, found.cursors[-1]) as pages:
        assert [page async for page in pages] == []
    assert server.traffic.requests == before


def window_events(found: Read, window: Window) -> set[str]:
    return {id_ for id_, event in found.events.items() if event.event_time_utc in window}


@EACH
async def test_a_backfill_finds_every_event_of_its_window(served: Serve, stream: str) -> None:
    archive = generate(40, seed=8, people=4)
    served(archive)
    everything = await read(await jobs_of(stream))
    window = Window(
        start=datetime(2024, 1, 3, 4, 5, 6, tzinfo=UTC), end=datetime(2024, 6, 1, tzinfo=UTC)
    )
    if stream == "questions":
        window = Window(start=LONG_AGO, end=datetime(2023, 1, 4, tzinfo=UTC))
    found = await read(await jobs_of(stream, "backfill", start=window.start, end=window.end or NOW))
    assert window_events(everything, window)
    assert window_events(found, window) == window_events(everything, window)
    created = [e for e in found.events.values() if e.event_type.endswith("_created")]
    assert all(window.end and event.event_time_utc < window.end for event in created)


async def test_windows_that_meet_leave_nothing_between_them_at_equal_times(served: Serve) -> None:
    archive = Archive(small().people.values(), small().targets.values())
    served(archive)
    edge = datetime(2024, 5, 1, 12, 0, 0, 123456, tzinfo=UTC)
    who = next(iter(archive.people))
    for shift in (-1, 0, 0, 0, 1):
        moment = edge + timedelta(microseconds=shift)
        archive.edit.report_bug(who, "alpha", at=moment.isoformat(timespec="microseconds"))
    served_bugs = []
    for start, end in ((LONG_AGO, edge), (edge, NOW)):
        found = await read(await jobs_of("bugs", "backfill", start=start, end=end), size=2)
        served_bugs.append(window_events(found, Window(start=start, end=end)))
    before, after = served_bugs
    assert not before & after
    assert {id_ for id_ in before | after if id_.endswith(":created")} == {
        f"bug:{number}:created" for number in range(1, 6)
    }


async def test_an_incremental_read_has_what_changed_and_no_upper_bound(served: Serve) -> None:
    archive = generate(50, seed=9, people=4)
    served(archive)
    times = sorted(bug.updated for bug in archive.bugs.values())
    start = datetime.fromisoformat(times[-20])
    archive.edit.comment_bug(archive.bugs[1], next(iter(archive.people)), at=NOW.isoformat())
    found = await read(await jobs_of("bugs", "incremental", start=start))
    numbers = {event.parent_item_id for event in found.events.values()}
    assert numbers == {
        str(b.number) for b in archive.bugs.values() if datetime.fromisoformat(b.updated) >= start
    }
    assert "1" in numbers


async def change(archive: Archive) -> None:
    """Let everything happen that can, at a time when a second run will look."""
    edit, (ann, bo, *_) = archive.edit, archive.people
    old = archive.bugs[1]
    edit.comment_bug(old, bo)
    edit.set_status(old, ann, "Fix Released")
    edit.subscribe(old, ann, bo, "somebody")
    tied = archive.now()
    for bug in list(archive.bugs.values())[3:9]:
        edit.comment_bug(bug, bo, at=tied)
    edit.report_bug(ann, "alpha")
    proposal = edit.propose(ann, "alpha", bo)
    edit.comment_proposal(proposal, bo, "Approve")
    closed = next(p for p in archive.proposals.values() if p.status == "Merged")
    edit.comment_proposal(closed, ann)
    edit.comment_proposal(closed, bo, "Disapprove")
    opened = next(p for p in archive.proposals.values() if p.status == "Needs review")
    edit.merge(opened, None)
    edit.supersede(proposal, ann)
    question = edit.ask(ann, "alpha")
    edit.reply(question, bo, "Answer", "Answered")
    edit.reply(question, ann, "Confirm", "Solved")
    solved = next(q for q in archive.questions.values() if q.messages)
    edit.reply(solved, bo, "Comment")


@EACH
async def test_a_second_run_of_changed_data_gives_what_a_full_one_does(
    served: Serve, stream: str
) -> None:
    archive = generate(20, questions=10, proposals=15, seed=10, people=4)
    archive.clock = lambda: NOW + timedelta(hours=1)
    served(archive)
    late = archive.edit.report_bug(*(next(iter(archive.people)), "alpha"), at=NOW.isoformat())
    first = await read(await jobs_of(stream))
    await change(archive)
    archive.edit.comment_bug(late, next(iter(archive.people)), at=NOW.isoformat())
    start = NOW - timedelta(minutes=10)
    second = await read(
        await jobs_of(stream, "incremental", start=start, end=NOW + timedelta(days=1)), size=4
    )
    full = await read(await jobs_of(stream))
    assert first.events | second.events == full.events
    assert full.types == expected_counts(archive)[stream]
    assert set(second.events) > set(full.events) - set(first.events) > set()


@EACH
async def test_what_a_job_has_loaded_its_later_segments_do_not_read_again(
    served: Serve, stream: str
) -> None:
    archive = small(seed=14)
    served(archive)
    (job,) = await jobs_of(stream)
    found, cursor, more = Read(), None, True
    while more:
        assert len(found.cursors) < 100
        async with pages_of(job, cursor, 3) as pages:
            page = await anext(pages, None)
            # Whatever it reads ahead is lost.
            await anext(pages, None)
        more = page is not None
        if page is not None:
            found.add(job, page)
            cursor = found.cursors[-1]
    assert set(found.records.values()) == {1}
    assert found.types == expected_counts(archive)[stream]


async def test_a_bug_that_is_gone_hides_no_other(served: Serve) -> None:
    archive = small(seed=11)
    served(archive)
    first = await read(await jobs_of("bugs"))
    archive.edit.remove_bug(archive.bugs[5])
    again = await read(await jobs_of("bugs"), size=5)
    gone = {id_ for id_ in first.events if id_.startswith("bug:5:")}
    assert gone
    assert set(first.events) - set(again.events) == gone


async def test_a_comment_that_was_hidden_leaves_the_warehouse(served: Serve) -> None:
    archive = small(seed=13)
    served(archive)
    bug = next(bug for bug in archive.bugs.values() if len(bug.messages) > 1)
    found = await read(await jobs_of("bugs"))
    gone = f"bug:{bug.number}:comment:{bug.messages.pop().index}"
    archive.edit.touch_bug(bug)
    assert gone in found.events
    end = NOW + timedelta(days=1)
    (job,) = await jobs_of("bugs", "incremental", start=NOW, end=end)
    async with pages_of(job) as pages:
        async for page in pages:
            found.add(job, page)
    assert gone not in found.events
    assert found.types == expected_counts(archive)["bugs"]


async def test_closed_days_leave_old_closed_proposals_to_the_full_run(served: Serve) -> None:
    archive = generate(0, proposals=40, seed=12, people=5)
    server = served(archive)
    end = NOW + timedelta(days=1)
    jobs = await jobs_of("merge_proposals", "incremental", start=NOW, end=end, closed_days=30)
    found = await read(jobs)
    still_open = {
        f"merge_proposal:{p.number}:created"
        for p in archive.proposals.values()
        if p.status not in {"Merged", "Rejected", "Superseded"}
    }
    assert {id_ for id_ in found.events if id_.endswith(":created")} == still_open
    assert server.traffic.count("/votes") == len(still_open)


async def test_requests_at_once_are_bounded(served: Serve) -> None:
    server = served(small(), LP_CONCURRENCY="2")
    await read(await jobs_of("bugs"))
    assert server.traffic.most_in_flight <= 2


async def test_the_description_of_the_service_is_asked_for_once(served: Serve) -> None:
    server = served(small())
    for stream in STREAMS:
        await read(await jobs_of(stream, members_per_job=2))
    described = [
        each
        for each in server.traffic.requested()
        if each.request.headers.get("accept") == "application/vnd.sun.wadl+xml"
    ]
    assert sorted(each.request.path for each in described) == ["/1.0/", "/devel/"]
