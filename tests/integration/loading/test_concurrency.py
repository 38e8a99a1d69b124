"""Many loaders at once: nobody sees an error, no row is lost, the newest extraction wins."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest

from temporaletl.messages import JobProgress
from temporaletl.rows import Event
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading import PageSupersededError
from tests.integration.loading.jobs import NOON, Job, fetch, make_event

_PATIENCE = 60  # seconds until a hang is a failure


def at_once[T](*calls: Callable[[], T]) -> list[T]:
    barrier = Barrier(len(calls), timeout=_PATIENCE)

    def run(call: Callable[[], T]) -> T:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(_PATIENCE) for future in [pool.submit(run, c) for c in calls]]


def total(progresses: list[JobProgress]) -> int:
    return sum(
        p.rows.inserted + p.rows.updated + p.rows.unchanged + p.rows.rejected for p in progresses
    )


@pytest.mark.parametrize("full", [False, True], ids=["empty table", "full table"])
def test_two_loaders_of_the_same_keys_both_succeed(warehouse: Warehouse, full: bool) -> None:
    def rows(person: str) -> list[Event]:
        return [make_event(n, employee_id=person) for n in range(3000)]

    if full:
        Job(warehouse).load(*rows("before"), at=NOON - timedelta(minutes=1))
    older, newer = Job(warehouse), Job(warehouse)
    for job in (older, newer):
        job.loader.prepare()
    progresses = at_once(
        lambda: older.load(*rows("older"), at=NOON),
        lambda: newer.load(*reversed(rows("newer")), at=NOON + timedelta(minutes=1)),
    )
    assert total(progresses) == 6000
    assert sum(p.rows.inserted for p in progresses) == (0 if full else 3000)
    found = fetch(warehouse, "SELECT employee_id, count(*) AS n FROM events GROUP BY 1")
    assert found == [{"employee_id": "newer", "n": 3000}]


def test_many_loaders_of_overlapping_keys_lose_nothing(warehouse: Warehouse) -> None:
    jobs = [Job(warehouse) for _ in range(6)]

    def load(position: int) -> JobProgress:
        job = jobs[position]
        for page in range(4):
            first = 100 * (position + page)
            at = NOON + timedelta(seconds=10 * page + position)
            rows = [
                make_event(n, employee_id=f"{10 * page + position}")
                for n in range(first, first + 300)
            ]
            progress = job.load(*rows, at=at)
        return progress

    progresses = at_once(*(lambda n=n: load(n) for n in range(6)))
    assert total(progresses) == 6 * 4 * 300
    newest: dict[str, int] = {}
    for position in range(6):
        for page in range(4):
            for n in range(100 * (position + page), 100 * (position + page) + 300):
                key = make_event(n).event_id
                newest[key] = max(newest.get(key, 0), 10 * page + position)
    found = fetch(warehouse, "SELECT event_id, employee_id FROM events")
    assert {row["event_id"]: int(row["employee_id"]) for row in found} == newest
    assert sum(p.rows.inserted for p in progresses) == len(newest)


def test_of_two_attempts_at_one_page_one_commits(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    job.loader.prepare()
    twin = Job.__new__(Job)
    twin.__dict__.update(job.__dict__)
    from temporaletl.worker.loading import Loader  # noqa: PLC0415

    twin.loader = Loader(warehouse, [Event], job.lineage)

    def attempt(one: Job) -> JobProgress | PageSupersededError:
        try:
            return one.loader.load(job.page(*map(make_event, range(500))))
        except PageSupersededError as error:
            return error

    results = at_once(lambda: attempt(job), lambda: attempt(twin))
    assert sorted(type(one).__name__ for one in results) == ["JobProgress", "PageSupersededError"]
    assert len(fetch(warehouse, "SELECT 1 FROM events")) == 500
    assert fetch(warehouse, "SELECT pages, inserted FROM etl_jobs") == [
        {"pages": 1, "inserted": 500}
    ]


def test_tables_and_partitions_are_created_by_many_at_once(warehouse: Warehouse) -> None:
    jobs = [Job(warehouse, source=f"source{n % 4}") for n in range(12)]
    at_once(*(job.loader.prepare for job in jobs))
    found = fetch(
        warehouse,
        "SELECT inhrelid::regclass::text AS name FROM pg_inherits "
        "WHERE inhparent = 'events'::regclass ORDER BY 1",
    )
    assert [row["name"] for row in found] == [f"source{n}_events" for n in range(4)]


def test_the_same_rejects_met_at_once_are_all_counted(warehouse: Warehouse) -> None:
    from temporaletl.rows import Reject  # noqa: PLC0415

    rejects = [Reject(stage="transform", reason="bad", key=str(n)) for n in range(200)]
    jobs = [Job(warehouse) for _ in range(4)]
    at_once(*(lambda job=job: job.load(rejects=rejects) for job in jobs))
    found = fetch(warehouse, "SELECT count(*) AS n, min(times) AS times FROM etl_rejects")
    assert found == [{"n": 200, "times": 4}]
