"""What the warehouse knows of deletion scans, and what an account saw when rows were loaded."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from temporaletl import AccountView, account_view
from temporaletl.accounts import account_views
from temporaletl.deletions import Items
from temporaletl.registry import Registry
from temporaletl.rows import ScanItems
from temporaletl.warehouse.accounts import known_view, replace_view, widen_view
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading.scans import JobScan, write_findings
from tests.integration.loading.jobs import Job, execute, fetch, make_event
from tests.waiting import until

IDS = ["bug:1:created", "bug:1:x", "bug:12:created", "bug:2:a", "bugs:9:x", "\U0010fffe:1"]
BUGS = Items("bug:")
MOST = timedelta(minutes=10)


@pytest.fixture
def loaded(warehouse: Warehouse) -> Warehouse:
    job = Job(warehouse)
    job.load(*(make_event(n, event_id=id_) for n, id_ in enumerate(IDS)))
    Job(warehouse, source="other").load(make_event(event_id="bug:99:created"))
    return warehouse


def scan_of(warehouse: Warehouse, job: Job | None = None, **params: Any) -> JobScan:
    planned = (job or Job(warehouse)).input.model_copy(update={"params": params, "scan": True})
    execute(
        warehouse,
        "UPDATE etl_jobs SET windowless = true, input = %s::jsonb WHERE batch_id = %s",
        planned.model_dump_json(),
        planned.batch_id,
    )
    return JobScan(warehouse, planned, most=MOST)


def note(job: Job, finding: Any, *ids: str) -> None:
    with job.warehouse.connection() as connection:
        write_findings(connection, job.input, [ScanItems(ids, finding)])


def test_two_attempts_that_begin_a_scan_at_once_both_begin_it(loaded: Warehouse) -> None:
    scan = scan_of(loaded)
    with loaded.connection() as holding, ThreadPoolExecutor(2) as threads:
        holding.execute("SELECT FROM etl_jobs FOR UPDATE")
        begun = [threads.submit(scan.resume, list_alone=False) for _ in range(2)]
        waiting = "SELECT count(*) AS n FROM pg_locks WHERE NOT granted"
        asyncio.run(until(lambda: fetch(loaded, waiting)[0]["n"] >= 2))
        holding.commit()
        assert [one.result(timeout=120) for one in begun] == [None, None]
    assert scan.is_intact()


@pytest.mark.parametrize(
    ("items", "missing"),
    [
        (Items(), {"bug", "bugs", "\U0010fffe"}),
        (BUGS, {"1", "12", "2"}),
        (Items("question:"), set()),
        (Items("bug:", exact=True), {"1:created", "1:x", "12:created", "2:a"}),
    ],
)
def test_items_are_what_follows_a_prefix(
    loaded: Warehouse, items: Items, missing: set[str]
) -> None:
    scan = scan_of(loaded)
    assert scan.has_stored(items) == bool(missing)
    assert scan.compare(items, scan.now(), with_kept=False) == len(missing)
    assert set(scan.found("missing", 100)) == missing


def test_what_is_listed_is_not_missing_and_a_finding_is_replaced_by_a_later_one(
    loaded: Warehouse,
) -> None:
    job = Job(loaded)
    scan = scan_of(loaded, job)
    note(job, "listed", "1", "77", "1")
    for _ in range(2):
        assert scan.compare(BUGS, scan.now(), with_kept=False) == 3
    assert set(scan.found("missing", 100)) == {"12", "2"}
    note(job, "gone", "12")
    assert (scan.count("missing"), scan.found("gone", 5)) == (1, ["12"])


def test_what_was_loaded_since_the_scan_began_is_there(loaded: Warehouse) -> None:
    scan = scan_of(loaded)
    since = scan.now()
    Job(loaded).load(make_event(event_id="bug:1:new"), make_event(event_id="bug:5:created"))
    scan.compare(BUGS, since, with_kept=False)
    assert set(scan.found("missing", 100)) == {"12", "2"}


def test_a_later_run_goes_on_with_what_an_earlier_one_found(loaded: Warehouse) -> None:
    first, second = Job(loaded), Job(loaded)
    begun = scan_of(loaded, first, members=["ann"], accept_deletions=False)
    assert begun.resume(list_alone=False) is None
    note(first, "listed", "1")
    cursor = {"phase": "list", "since": "2026-01-01T00:00:00+00:00", "position": 7}
    execute(
        loaded,
        "UPDATE etl_jobs SET state = 'completed', ended_at = now(), cursor = %s::jsonb "
        "WHERE batch_id = %s",
        '{"phase": "list", "since": "2026-01-01T00:00:00+00:00", "position": 7}',
        first.input.batch_id,
    )
    # What another scan left that looked for something else is forgotten.
    stale = Job(loaded)
    scan_of(loaded, stale, members=["cleo"])
    note(stale, "listed", "9")
    execute(loaded, "UPDATE etl_jobs SET ended_at = now() WHERE seq = %s", stale.input.seq)
    taken_over = scan_of(loaded, second, members=["ann"], accept_deletions=True)
    assert taken_over.resume(list_alone=False) == cursor
    assert taken_over.found("listed", 5) == ["1"]
    listed = "SELECT item FROM etl_scan_items WHERE finding = 'listed'"
    assert fetch(loaded, listed) == [{"item": "1"}]
    assert taken_over.is_intact()
    # Interrupted before its first page, it begins anew.
    assert taken_over.resume(list_alone=False) is None
    assert taken_over.found("listed", 5) == []


@pytest.mark.parametrize("state", ["ended", None])
def test_a_scan_that_came_to_its_end_is_not_taken_up(loaded: Warehouse, state: str | None) -> None:
    job = Job(loaded)
    scan_of(loaded, job)
    execute(
        loaded,
        "UPDATE etl_jobs SET state = 'completed', ended_at = now(), cursor = %s::jsonb "
        "WHERE batch_id = %s",
        None if state is None else '{"phase": "ended"}',
        job.input.batch_id,
    )
    assert scan_of(loaded).resume(list_alone=False) is None


def test_what_a_scope_left_behind_is_never_missing_until_it_is_listed_again(
    loaded: Warehouse,
) -> None:
    def scanned(*listed: str, keeping: bool = False, accepting: bool = False) -> set[str]:
        job = Job(loaded)
        scan = scan_of(loaded, job)
        note(job, "listed", *listed)
        scan.compare(BUGS, scan.now(), with_kept=accepting)
        missing = set(scan.found("missing", 100))
        if keeping:
            assert scan.keep_missing() == len(missing)
        scan.finish(["ann"] if keeping else ["ann", "bob"])
        return missing

    assert scan_of(loaded).narrowed_scope(["ann"]) == []
    assert scanned("1", "12", "2") == set()
    assert scan_of(loaded).narrowed_scope(["ann"]) == ["bob"]
    assert scanned("1", keeping=True) == {"12", "2"}
    assert scan_of(loaded).narrowed_scope(["ann"]) == []
    assert scanned("2") == {"1"}
    assert scanned() == {"1", "2"}
    assert scanned("1", "2", accepting=True) == {"12"}
    assert scanned("1", "2") == {"12"}
    assert fetch(loaded, "SELECT item FROM etl_scan_items") == []


def test_what_a_crash_lost_is_noticed(loaded: Warehouse) -> None:
    scan = scan_of(loaded)
    assert not scan.is_intact()
    scan.resume(list_alone=False)
    assert scan.is_intact()
    execute(loaded, "TRUNCATE etl_scan_items")
    assert not scan.is_intact()


def test_a_scan_is_over_when_its_time_in_this_run_is(loaded: Warehouse) -> None:
    job = Job(loaded)
    scan = scan_of(loaded, job)
    assert not scan.is_over()
    execute(
        loaded,
        "UPDATE etl_jobs SET started_at = now() - interval '10 minutes' WHERE batch_id = %s",
        job.input.batch_id,
    )
    assert scan.is_over()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, AccountView]:
    """What the source's account sees at present."""
    monkeypatch.setattr(account_views, "_entries", Registry[Any]("account view")._entries)
    views: dict[str, AccountView] = {}
    account_view("jira")(lambda: views["now"])
    return views


def view(account: str = "me", *containers: str) -> AccountView:
    return AccountView(account, frozenset({"BROWSE"}), frozenset(containers))


def test_an_account_must_see_all_that_was_seen_when_rows_were_loaded(
    loaded: Warehouse, seen: dict[str, AccountView]
) -> None:
    scan = scan_of(loaded)
    seen["now"] = view("me", "A")
    assert scan.lacking_view() is None, "nothing is known of before"
    widen_view(loaded, "jira", "default", view("me", "A"))
    widen_view(loaded, "jira", "default", view("me", "B"))
    widen_view(loaded, "jira", "other", view("you", "C"))
    lacking = scan.lacking_view()
    assert lacking is not None
    assert "account 'me' lacks 1 of the 2 containers" in lacking
    assert "'B'" in lacking
    seen["now"] = AccountView("me", frozenset(), frozenset({"A", "B", "C"}))
    assert "lacks 1 of the 1 permissions" in str(scan.lacking_view())
    seen["now"] = view("you", "A", "B")
    assert "loaded by account 'me', and now it is 'you'" in str(scan.lacking_view())
    seen["now"] = view("me", "A", "B", "C")
    assert scan.lacking_view() is None


def test_what_a_person_accepts_is_all_there_is_from_then_on(
    loaded: Warehouse, seen: dict[str, AccountView]
) -> None:
    widen_view(loaded, "jira", "default", view("me", "A", "B"))
    seen["now"] = view("you", "A")
    scan = scan_of(loaded)
    assert scan.lacking_view() is not None
    replace_view(loaded, "jira", "default", seen["now"])
    assert scan.lacking_view() is None
    known = known_view(loaded, "jira", "default")
    assert known is not None
    assert known.accounts == {"you"}
    assert known.containers == {"A"}
