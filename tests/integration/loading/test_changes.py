"""New rows are inserted, changed ones updated, unchanged ones not modified, late ones ignored."""

from datetime import timedelta

import pytest

from temporaletl import strategies
from temporaletl.rows import Event, TemporalWorkflow
from temporaletl.strategies import Transformer
from temporaletl.warehouse.connection import Warehouse
from tests.integration.loading.jobs import (
    NOON,
    Job,
    counts,
    execute,
    fetch,
    make_event,
    wal_position,
)
from tests.registries import forget_sources

EARLY, LATER, LATEST = (NOON + timedelta(minutes=n) for n in range(3))


def state_of(warehouse: Warehouse) -> list[dict[str, object]]:
    return fetch(warehouse, "SELECT *, ctid::text, xmin::text FROM events ORDER BY event_id")


def written(warehouse: Warehouse, job: Job, *rows: Event) -> int:
    """The WAL that loading the rows as one page takes, prepared before."""
    job.loader.prepare()
    with warehouse.connection() as connection:
        before = wal_position(connection)
        job.load(*rows)
        return wal_position(connection) - before


def test_an_identical_reload_changes_nothing(warehouse: Warehouse) -> None:
    rows = [*map(make_event, range(50))]
    first = Job(warehouse)
    first.load(*rows, at=EARLY)
    first.end()
    before = state_of(warehouse)
    assert counts(Job(warehouse).load(*reversed(rows), at=LATER)) == (0, 0, 50, 0)
    assert state_of(warehouse) == before


def test_an_identical_reload_writes_no_wal_but_the_ledgers(warehouse: Warehouse) -> None:
    rows = [*map(make_event, range(3000))]
    first = Job(warehouse)
    # A checkpoint in between would make hint bits cost full pages, once.
    execute(warehouse, "CHECKPOINT")
    first.load(*rows)
    first.end()
    warm, bare, reload = Job(warehouse), Job(warehouse), Job(warehouse)
    warm.load(*rows)
    # Whoever reads first prunes what that one replaced, as seen by two others.
    fetch(warehouse, "SELECT count(*) FROM events")
    for job in (warm, bare, reload):
        job.loader.prepare()
    warm.end()
    reload.end()
    of_the_ledger = written(warehouse, bare)
    bare.end()
    execute(warehouse, "UPDATE etl_jobs SET state = 'running' WHERE seq = %s", reload.input.seq)
    assert written(warehouse, reload, *rows) < of_the_ledger + 4096
    assert counts(reload.load()) == (0, 0, 3000, 0)


def test_a_change_updates_values_and_lineage_but_not_the_first_load(warehouse: Warehouse) -> None:
    Job(warehouse).load(make_event(1), make_event(2), at=EARLY)
    before = state_of(warehouse)
    job = Job(warehouse)
    assert counts(job.load(make_event(1, employee_id="E9"), make_event(2), at=LATER)) == (
        0,
        1,
        1,
        0,
    )
    changed, _ = state_of(warehouse)
    assert changed["employee_id"] == "E9"
    assert changed["loaded_at"] == before[0]["loaded_at"]
    assert changed["updated_at"] > before[0]["updated_at"]  # type: ignore[operator]
    assert changed["extracted_at"] == LATER
    assert (changed["job_id"], changed["run_id"]) == (job.input.job_id, job.lineage.run_id)
    assert changed["row_hash"] != before[0]["row_hash"]


def test_null_and_empty_and_json_differ(warehouse: Warehouse) -> None:
    Job(warehouse).load(make_event(1, relation_type=None, metrics={"a": 1, "b": 2}))
    assert counts(
        Job(warehouse).load(make_event(1, relation_type="", metrics={"a": 1, "b": 2}))
    ) == (
        0,
        1,
        0,
        0,
    )
    same = make_event(1, relation_type="", metrics={"b": 2, "a": 1})
    assert counts(Job(warehouse).load(same)) == (0, 0, 1, 0)


def test_an_older_extraction_never_overwrites_a_newer_one(warehouse: Warehouse) -> None:
    Job(warehouse).load(make_event(1, employee_id="new"), at=LATER)
    progress = Job(warehouse).load(make_event(1, employee_id="old"), make_event(2), at=EARLY)
    assert counts(progress) == (1, 0, 1, 0)
    assert state_of(warehouse)[0]["employee_id"] == "new"


def test_a_value_that_came_back_is_safe_from_a_job_still_holding_the_one_between(
    warehouse: Warehouse,
) -> None:
    first = Job(warehouse)
    first.load(make_event(1, employee_id="A"), at=EARLY)
    first.end()
    # It asked for the page while the value was B, and loads it last.
    slow = Job(warehouse)
    newest = Job(warehouse)
    assert counts(newest.load(make_event(1, employee_id="A"), at=LATEST)) == (0, 0, 1, 0)
    assert counts(slow.load(make_event(1, employee_id="B"), at=LATER)) == (0, 0, 1, 0)
    (row,) = state_of(warehouse)
    assert row["employee_id"] == "A"
    assert row["extracted_at"] == LATEST
    # The lineage leads to the page that saw the value last; it was not updated.
    assert row["run_id"] == newest.lineage.run_id
    assert row["updated_at"] == row["loaded_at"]


@pytest.mark.parametrize(
    "how", ["ended", "long silent", "same batch", "other source", "other table"]
)
def test_without_such_a_job_unchanged_rows_stay_untouched(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    first = Job(warehouse)
    first.load(make_event(1), at=EARLY)
    first.end()
    forget_sources(monkeypatch)
    for name, rows in (("jira", (Event,)), ("jira-workflows", (TemporalWorkflow,))):
        strategies.transformers.register(name, Transformer(lambda *_: (), rows), place="here")
    other = Job(
        warehouse,
        source="launchpad" if how == "other source" else "jira",
        stream="workflows" if how == "other table" else "issues",
        batch="shared",
    )
    job = Job(warehouse, batch="shared" if how == "same batch" else None)
    if how == "ended":
        other.end()
    if how == "long silent":
        execute(
            warehouse,
            "UPDATE etl_jobs SET touched_at = now() - interval '61 minutes' WHERE seq = %s",
            other.input.seq,
        )
    before = state_of(warehouse)
    assert counts(job.load(make_event(1), at=LATER)) == (0, 0, 1, 0)
    assert state_of(warehouse) == before


def test_the_lookup_comes_back_when_a_copy_meets_a_key(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    job.loader.prepare()  # sees an empty table, so that the first page is copied without looking
    other = Job(warehouse)
    other.load(make_event(1, employee_id="other"), make_event(3), at=EARLY)
    progress = job.load(*(make_event(n) for n in range(5)), at=LATER)
    assert counts(progress) == (3, 1, 1, 0)
    # Pages of new keys only: from some page on they are copied without looking again.
    for start in range(100, 600, 100):
        job.load(*(make_event(n) for n in range(start, start + 100)))
    progress = job.load(*(make_event(n) for n in range(550, 650)))
    assert counts(progress) == (553, 1, 51, 0)
    assert len(state_of(warehouse)) == 555


def test_two_sources_may_have_the_same_event_id(warehouse: Warehouse) -> None:
    for source in ("jira", "launchpad"):
        job = Job(warehouse, source=source)
        assert counts(job.load(make_event(1))) == (1, 0, 0, 0)
    found = fetch(warehouse, "SELECT source_kind_id FROM events ORDER BY 1")
    assert [row["source_kind_id"] for row in found] == ["jira", "launchpad"]
