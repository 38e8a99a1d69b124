"""Events by month: a source's table is divided while it is loaded, and old months are detached."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from temporaletl.errors import ConflictError, SchemaConflictError, WarehouseUnavailableError
from temporaletl.rows import CompleteSet, Event
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate
from temporaletl.worker.loading import dividing, evolution, months
from temporaletl.worker.loading.comparison import Comparison
from temporaletl.worker.loading.months import divide, partitions_of
from temporaletl.worker.loading.retention import detach
from tests.integration.loading.jobs import (
    Job,
    counts,
    execute,
    fetch,
    holding,
    make_event,
)
from tests.waiting import this_month

JIRA = {"jira": (Event,)}
SUMMER = [datetime(2024, month, 3, tzinfo=UTC) for month in (5, 6, 7)]


def event(n: int, time: datetime | None = None, **changes: Any) -> Event:
    return make_event(n, event_time_utc=time or SUMMER[n % 3], **changes)


def divided_by(warehouse: Warehouse, **how: Any) -> list[str]:
    return [step.words for step in divide(warehouse, JIRA, named=["jira"], **how)]


def places(warehouse: Warehouse) -> dict[str, str]:
    """In which table each event of the source is."""
    query = "SELECT event_id, tableoid::regclass::text AS t FROM jira_events ORDER BY 1"
    rows = fetch(warehouse, query)
    return {row["event_id"]: row["t"].rpartition("jira_events_")[2] for row in rows}


def check_keys(warehouse: Warehouse) -> None:
    """The keys say of each event, and of no other, where it is."""
    stored = (
        "SELECT connection, event_id, row_hash, "
        "date_trunc('month', event_time_utc AT TIME ZONE 'UTC')::date AS month FROM events "
        "WHERE source_kind_id = 'jira' ORDER BY 1, 2"
    )
    keys = "SELECT connection, event_id, row_hash, month FROM jira_events_keys ORDER BY 1, 2"
    assert fetch(warehouse, stored) == fetch(warehouse, keys)


@pytest.fixture
def divided(warehouse: Warehouse) -> Warehouse:
    """Ten events of three months beside those of another source, divided by month."""
    Job(warehouse, source="launchpad").load(*map(event, range(3)))
    Job(warehouse).load(*map(event, range(10)))
    divided_by(warehouse)
    return warehouse


def test_a_table_is_divided_and_stays_what_it_was_to_its_readers(warehouse: Warehouse) -> None:
    Job(warehouse, source="launchpad").load(*map(event, range(3)))
    Job(warehouse).load(*map(event, range(10)))
    execute(warehouse, "CREATE INDEX mine ON jira_events (week)")
    execute(warehouse, "CREATE VIEW of_jira AS SELECT event_id, week FROM jira_events")
    whole = "SELECT * FROM events ORDER BY source_kind_id, event_id"
    before = fetch(warehouse, whole)
    assert divided_by(warehouse)[0] == "divide jira_events by month"
    assert fetch(warehouse, whole) == before
    assert {place for one, place in places(warehouse).items()} >= {"2024_05", "2024_06", "2024_07"}
    check_keys(warehouse)
    assert len(fetch(warehouse, "SELECT FROM of_jira")) == 10
    changes = evolution.pending_changes(warehouse, "jira", [Event])
    assert changes == []
    found = fetch(
        warehouse,
        "SELECT indexrelid::regclass::text AS name FROM pg_index "
        "WHERE indrelid = 'jira_events'::regclass AND indisvalid ORDER BY 1",
    )
    assert [row["name"].removeprefix("jira_events_") for row in found] == [
        *("employee", "item", "person", "time", "updated", "mine"),
    ]
    (one,) = partitions_of(warehouse, JIRA)
    assert (one.months, one.rest, one.due) == (3 + months.MONTHS_AHEAD + 1, 0, False)
    # The others go on as they were, and new ones come.
    assert counts(Job(warehouse, source="launchpad").load(*map(event, range(4)))) == (1, 0, 3, 0)
    assert counts(Job(warehouse, source="trino").load(event(1), event(2))) == (2, 0, 0, 0)
    assert divided_by(warehouse) == []


def test_a_divided_table_is_loaded_like_any_other(divided: Warehouse) -> None:
    assert counts(Job(divided).load(*map(event, range(12)))) == (2, 0, 10, 0)
    changed = event(3, event_type="other")
    moved = event(4, SUMMER[0])
    unheard = event(5, datetime(1999, 1, 1, tzinfo=UTC))
    assert counts(Job(divided).load(changed, moved, unheard, event(6))) == (0, 3, 1, 0)
    assert places(divided)["event-000004"] == "2024_05"
    assert places(divided)["event-000005"] == "rest"
    check_keys(divided)
    assert divided_by(divided) == ["give partitions to 1999-01"]
    assert places(divided)["event-000005"] == "1999_01"
    refused = [event(n, metrics=msgspec.Raw(b"{")) for n in (7, 21)]
    assert counts(Job(divided).load(*refused, event(8, SUMMER[1]), event(20))) == (1, 1, 0, 2)
    check_keys(divided)
    execute(divided, "UPDATE events SET row_hash = NULL WHERE event_id < 'event-000002'")
    assert counts(Job(divided).load(event(1), event(2))) == (0, 1, 1, 0)
    execute(divided, "DELETE FROM events WHERE event_id = 'event-000001'")
    assert counts(Job(divided).load(event(1))) == (1, 0, 0, 0)
    check_keys(divided)


def test_an_identical_load_of_a_divided_table_writes_nothing(divided: Warehouse) -> None:
    # No other job may have read the rows before: nothing needs be marked as seen.
    execute(divided, "UPDATE etl_jobs SET state = 'completed'")
    job = Job(divided)
    rows = [event(n) for n in range(10)]
    before = fetch(divided, "SELECT event_id, xmin::text, ctid::text FROM events ORDER BY 1")
    keys = fetch(divided, "SELECT event_id, xmin::text FROM jira_events_keys ORDER BY 1")
    job.load(*rows)
    assert (
        fetch(divided, "SELECT event_id, xmin::text, ctid::text FROM events ORDER BY 1") == before
    )
    assert fetch(divided, "SELECT event_id, xmin::text FROM jira_events_keys ORDER BY 1") == keys


def test_what_a_source_deleted_goes_from_its_month(divided: Warehouse) -> None:
    job = Job(divided)
    page = job.page(event(0), event(1))
    job.loader.load(replace(page, complete_sets=(CompleteSet("event-00000"),)))
    assert fetch(divided, "SELECT event_id FROM events WHERE source_kind_id = 'jira'") == [
        {"event_id": "event-000000"},
        {"event_id": "event-000001"},
    ]
    check_keys(divided)


def test_loaders_of_one_event_in_two_months_leave_one(divided: Warehouse) -> None:
    jobs = [Job(divided), Job(divided)]
    for job in jobs:
        job.loader.prepare()
    for n in range(20, 40):
        # New to both, then moved by both, each to a month of its own.
        for times in ((SUMMER[0], SUMMER[1]), (SUMMER[2], SUMMER[0])):
            with ThreadPoolExecutor() as pool:
                pages = [job.page(event(n, time)) for job, time in zip(jobs, times, strict=True)]
                done = [
                    pool.submit(job.loader.load, page)
                    for job, page in zip(jobs, pages, strict=True)
                ]
            for job, one in zip(jobs, done, strict=True):
                job.pages = one.result().pages
    check_keys(divided)
    assert len(places(divided)) == 10 + 20


def test_a_division_that_was_interrupted_goes_on(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    Job(warehouse).load(*map(event, range(9)))
    with monkeypatch.context() as impatient:
        impatient.setattr(dividing, "PATIENCE", timedelta(milliseconds=200))
        with (
            holding(warehouse, "SELECT FROM jira_events"),
            pytest.raises(WarehouseUnavailableError),
        ):
            divided_by(warehouse)
    assert set(places(warehouse).values()) == {"jira_events"}
    steps = divide(warehouse, JIRA, named=["jira"], rows_at_once=1)
    with closing(steps):  # type: ignore[type-var] # a generator
        words = [next(steps).words for _ in range(2)]
    assert words == ["divide jira_events by month", "give partitions to 2024-05"]
    assert set(places(warehouse).values()) == {"2024_05", "rest"}
    assert counts(Job(warehouse).load(*map(event, range(10)))) == (1, 0, 9, 0)
    assert divided_by(warehouse, rows_at_once=1)[0] == "give partitions to 2024-06"
    assert set(places(warehouse).values()) == {"2024_05", "2024_06", "2024_07"}
    check_keys(warehouse)


def test_a_source_is_divided_where_it_has_grown_past_the_setting(warehouse: Warehouse) -> None:
    Job(warehouse).load(*map(event, range(9)))
    execute(warehouse, "ANALYZE jira_events")
    assert list(divide(warehouse, JIRA)) == []
    warehouse.months_from_rows = 9
    assert [one.due for one in partitions_of(warehouse, JIRA)] == [True]
    assert next(iter(divide(warehouse, JIRA))).words == "divide jira_events by month"


@pytest.mark.parametrize(
    ("obstacle", "error"),
    [
        ("CREATE MATERIALIZED VIEW built AS SELECT event_id FROM jira_events", "built on it"),
        ("CREATE TABLE {}_keys (a text); ALTER TABLE {}_keys RENAME TO jira_events_keys", "keys"),
    ],
)
def test_what_is_in_the_way_of_a_division_is_named(
    warehouse: Warehouse, obstacle: Any, error: str
) -> None:
    Job(warehouse).load(event(1))
    execute(warehouse, obstacle.format("jira", "jira"))
    with pytest.raises(SchemaConflictError, match=error):
        divided_by(warehouse)
    assert counts(Job(warehouse).load(event(1))) == (0, 0, 1, 0)


def test_indexes_of_a_divided_table_are_made_in_each_month(divided: Warehouse) -> None:
    divided.omitted_indexes = frozenset({"person", "time"})
    of_jira = {"jira": [Event]}
    assert [change.words for change in evolution.migrate_tables(divided, of_jira)] == [
        "drop index jira_events_person",
        "drop index jira_events_time",
    ]
    divided.omitted_indexes = frozenset()
    execute(divided, "CREATE INDEX jira_events_person ON ONLY jira_events (person, week)")
    assert len(list(evolution.migrate_tables(divided, of_jira))) == 2
    valid = "SELECT count(*) AS n FROM pg_index WHERE NOT indisvalid"
    assert fetch(divided, valid) == [{"n": 0}]
    assert evolution.pending_changes(divided, "jira", [Event]) == []


@pytest.fixture
def detached(divided: Warehouse) -> Warehouse:
    """May and June of the ten events are detached, and the table of May is dropped."""
    now = this_month()
    divided.keep_months = {"jira": 12 * (now.year - 2024) + now.month - 6}
    assert [step.words for step in detach(divided, JIRA, drop=True)] == [
        "detach jira_events_2024_05",
        "drop jira_events_2024_05",
    ]
    divided.keep_months = {"jira": divided.keep_months["jira"] - 1}
    assert [one.old for one in partitions_of(divided, JIRA)] == [1]
    assert [step.rows for step in detach(divided, JIRA)] == [3]
    return divided


def test_months_are_detached_with_a_trace(detached: Warehouse) -> None:
    assert set(places(detached).values()) == {"2024_07"}
    check_keys(detached)
    found = fetch(
        detached,
        "SELECT to_char(month, 'YYYY-MM') AS month, table_name, rows, dropped_at IS NULL AS there "
        "FROM etl_detached_months WHERE source = 'jira' ORDER BY month",
    )
    assert [tuple(row.values()) for row in found] == [
        ("2024-05", "jira_events_2024_05", 4, False),
        ("2024-06", "jira_events_2024_06", 3, True),
    ]
    assert len(fetch(detached, "SELECT FROM jira_events_2024_06")) == 3
    assert list(detach(detached, JIRA)) == []
    assert [step.words for step in detach(detached, JIRA, drop=True)] == [
        "drop jira_events_2024_06"
    ]


def test_what_was_detached_does_not_come_back(detached: Warehouse) -> None:
    """Neither by a full load, nor for an event whose time was changed to an earlier one."""
    rows = [event(n) for n in range(10)]
    assert counts(Job(detached).load(*rows)) == (0, 0, 3, 0)
    assert counts(Job(detached, mode="incremental").load(event(12), event(13))) == (0, 0, 0, 0)
    comparison = Comparison(detached, Event, "jira", "default")
    comparison.add("issues", rows)
    assert (comparison.differences, list(comparison.surplus(None, None))) == ([], [])
    # Of two forms of one event in a page the later counts.
    moved = [event(2, SUMMER[0]), event(5, SUMMER[0]), event(5, SUMMER[2], event_type="other")]
    Job(detached).load(*moved)
    assert fetch(detached, "SELECT key FROM etl_deletions") == [{"key": "event-000002"}]
    check_keys(detached)
    assert set(places(detached)) == {"event-000005", "event-000008"}
    # The other source keeps its own.
    assert counts(Job(detached, source="launchpad").load(event(0))) == (0, 0, 1, 0)


def test_a_job_that_goes_on_while_months_are_detached_brings_none_back(divided: Warehouse) -> None:
    job = Job(divided)
    job.load(event(0))
    now = this_month()
    divided.keep_months = {"jira": 12 * (now.year - 2024) + now.month - 7}
    list(detach(divided, JIRA, drop=True))
    assert counts(job.load(event(0), event(3), event(2))) == (0, 0, 2, 0)
    assert set(places(divided).values()) == {"2024_07"}


def test_a_months_table_that_is_still_there_is_not_replaced(detached: Warehouse) -> None:
    execute(detached, "DELETE FROM etl_detached_months")
    Job(detached).load(event(1))
    with pytest.raises(ConflictError, match="jira_events_2024_06 is there"):
        divided_by(detached)
    execute(detached, "DROP TABLE jira_events_2024_06")
    divided_by(detached)
    assert places(detached)["event-000001"] == "2024_06"


def test_triggers_made_before_leave_keys_to_loads_once_migrated(divided: Warehouse) -> None:
    execute(
        divided,
        "CREATE OR REPLACE TRIGGER etl_keys_written AFTER INSERT OR DELETE ON jira_events "
        "FOR EACH ROW EXECUTE FUNCTION jira_events_keys_keep(); "
        "CREATE OR REPLACE TRIGGER etl_keys_changed AFTER UPDATE ON jira_events FOR EACH ROW "
        "WHEN ((OLD.event_id, OLD.row_hash) IS DISTINCT FROM (NEW.event_id, NEW.row_hash)) "
        "EXECUTE FUNCTION jira_events_keys_keep(); "
        "DELETE FROM etl_migrations WHERE name = '0035_keys_entered_at_once.sql'",
    )
    assert len(migrate(divided)) == 1
    moved = event(3, SUMMER[1], event_type="other")
    assert counts(Job(divided).load(moved, event(4), event(11), event(12))) == (2, 1, 1, 0)
    check_keys(divided)
    execute(divided, "DELETE FROM events WHERE event_id = 'event-000001'")
    execute(divided, "UPDATE events SET row_hash = NULL WHERE event_id = 'event-000002'")
    check_keys(divided)
