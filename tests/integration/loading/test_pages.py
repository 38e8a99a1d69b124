"""A page is one transaction: rows, rejects, ledger and cursor, or nothing."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import ClassVar

import msgspec
import psycopg
import pytest

from temporaletl.errors import ConfigurationError, WarehouseUnavailableError
from temporaletl.messages import Window
from temporaletl.rows import Event, Json, LocalTime, Reject, Row, TemporalWorkflow
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading import PageSupersededError
from tests.integration.loading.jobs import NOON, Job, counts, execute, fetch, make_event


class Typed(Row, frozen=True, kw_only=True, gc=False):
    table: ClassVar[str] = "typed"
    key: ClassVar[tuple[str, ...]] = ("st_id",)

    st_id: int
    price: Decimal | None = None
    share: float | None = None
    paid: bool | None = None
    at: datetime | None = None
    clock: LocalTime | None = None
    note: str | None = None
    details: Json | None = None
    more: Json = None


def test_a_page_brings_rows_ledger_and_cursor(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    at = NOON + timedelta(hours=1)
    progress = job.load(make_event(1), make_event(2), at=at)
    assert counts(progress) == (2, 0, 0, 0)
    assert (progress.pages, progress.records, progress.cursor, progress.state) == (
        1,
        2,
        1,
        "running",
    )
    row, _ = fetch(warehouse, "SELECT * FROM jira_events ORDER BY event_id")
    assert list(row) == [
        *("source_kind_id", "connection", "event_id", "parent_item_id", "event_type"),
        "relation_type",
        *("person", "employee_id", "event_time_utc", "week", "timezone", "event_time"),
        *("event_properties", "relation_properties", "metrics", "version", "specific_version"),
        *("job_id", "workflow_id", "run_id", "extracted_at", "loaded_at", "updated_at"),
        *("row_hash", "deleted_at"),
    ]
    assert (row["source_kind_id"], row["connection"]) == ("jira", "default")
    assert row["event_time_utc"] == NOON + timedelta(seconds=1)
    assert row["event_time"].isoformat() == "2024-05-01T14:00:01"
    assert row["week"].isoformat() == "2024-04-29"
    assert row["event_properties"] == {"field": "status", "to": "Done", "n": 1}
    assert row["relation_type"] is None
    assert (row["version"], row["specific_version"]) == ("1", "1.0")
    assert (row["job_id"], row["workflow_id"], row["run_id"]) == (
        job.input.job_id,
        job.lineage.workflow_id,
        job.lineage.run_id,
    )
    assert row["extracted_at"] == at
    assert row["loaded_at"] == row["updated_at"]
    (page,) = fetch(warehouse, "SELECT * FROM etl_pages")
    assert (page["page"], page["cursor_before"], page["cursor_after"]) == (0, None, 1)
    assert (page["records"], page["inserted"], page["extracted_at"]) == (2, 2, at)


def test_every_column_type_arrives_as_it_was(warehouse: Warehouse) -> None:
    rows = [
        Typed(st_id=-(2**63)),
        Typed(
            st_id=2**63 - 1,
            price=Decimal("-1234567.890100"),
            share=1.5e300,
            paid=True,
            at=NOON,
            clock=NOON.replace(tzinfo=None),
            note="Grüße, 世界 🚀\n\t\\",
            details={"a": [1, None, {"b": "ü"}]},
            more=[1.25],
        ),
        Typed(st_id=0, price=Decimal(0), share=float("inf"), paid=False, note="", details={}),
        Typed(st_id=1, price=Decimal("1E+20"), at=datetime(1, 1, 1, tzinfo=UTC)),
        Typed(st_id=2, price=Decimal("0.00000000012345"), at=datetime.max.replace(tzinfo=UTC)),
    ]
    assert counts(Job(warehouse, rows=[Typed]).load(*rows)) == (5, 0, 0, 0)
    found = {row["st_id"]: row for row in fetch(warehouse, "SELECT * FROM typed")}
    for row in rows:
        for name, value in msgspec.structs.asdict(row).items():
            assert found[row.st_id][name] == value, name
    assert str(found[2**63 - 1]["price"]) == "-1234567.890100"
    null = fetch(
        warehouse,
        "SELECT more = 'null' AS json_null, details IS NULL AS sql_null FROM typed WHERE st_id = 1",
    )
    assert null == [{"json_null": True, "sql_null": True}]


def test_numbers_of_any_size_arrive_exactly(warehouse: Warehouse) -> None:
    numbers = [
        Decimal(text)
        for text in (
            "1",
            "-1",
            "9999",
            "10000",
            "100000000",
            "0.1",
            "0.0001",
            "0.00001",
            "12345.6789",
            "1.10",
            "1E+3",
            "1E-3",
            "-0.00",
            "99999999999999999999.99999999999999999999",
            "1E+1000",
            "1E-1000",
            "NaN",
            "Infinity",
            "-Infinity",
        )
    ]
    rows = [Typed(st_id=n, price=price) for n, price in enumerate(numbers)]
    assert counts(Job(warehouse, rows=[Typed]).load(*rows)) == (len(rows), 0, 0, 0)
    found = fetch(warehouse, "SELECT price::text FROM typed ORDER BY st_id")
    for row, number in zip(found, numbers, strict=True):
        stored = Decimal(row["price"])
        assert stored == number or (stored.is_nan() and number.is_nan())
        if number.is_finite():
            scale = number.as_tuple().exponent
            assert stored.as_tuple().exponent == min(0, int(scale))


def test_fields_named_like_lineage_keep_their_names(warehouse: Warehouse) -> None:
    flow = TemporalWorkflow(
        namespace="default",
        workflow_id="theirs",
        run_id="their-run",
        workflow_type="T",
        task_queue="q",
        start_time=NOON,
        start_time_unix=1.0,
        status="Running",
        history_length=3,
    )
    job = Job(warehouse, source="temporal", stream="executions", rows=[TemporalWorkflow])
    assert counts(job.load(flow)) == (1, 0, 0, 0)
    (row,) = fetch(warehouse, "SELECT * FROM temporal_workflows")
    assert (row["workflow_id"], row["run_id"]) == ("theirs", "their-run")
    assert (row["etl_workflow_id"], row["etl_run_id"]) == (
        job.lineage.workflow_id,
        job.lineage.run_id,
    )
    assert counts(job.load(flow)) == (1, 0, 1, 0)


def test_one_page_may_mix_row_classes(warehouse: Warehouse) -> None:
    job = Job(warehouse, rows=[Typed, Event])
    assert counts(job.load(make_event(1), Typed(st_id=1), make_event(2))) == (3, 0, 0, 0)
    assert len(fetch(warehouse, "SELECT 1 FROM typed")) == 1
    assert len(fetch(warehouse, "SELECT 1 FROM events")) == 2


def test_a_row_of_an_undeclared_class_is_refused(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    with pytest.raises(ConfigurationError, match=r"yields Typed, .*rows=\(Event, Typed\)\)$"):
        job.load(Typed(st_id=1))
    assert fetch(warehouse, "SELECT 1 FROM etl_pages") == []


def test_of_rows_with_one_key_the_later_wins(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    progress = job.load(
        make_event(1, employee_id="first"),
        make_event(2),
        make_event(1, employee_id="second"),
        make_event(1, employee_id="third"),
    )
    assert counts(progress) == (2, 0, 2, 0)
    found = fetch(warehouse, "SELECT employee_id FROM events WHERE event_id = 'event-000001'")
    assert found == [{"employee_id": "third"}]


def test_a_page_without_rows_moves_the_cursor(warehouse: Warehouse) -> None:
    progress = Job(warehouse).load()
    assert (progress.pages, progress.cursor, counts(progress)) == (1, 1, (0, 0, 0, 0))


def test_totals_accumulate_over_pages(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    job.load(*map(make_event, range(10)))
    job.load(*(make_event(n, employee_id="E2") for n in range(5)), make_event(10))
    progress = job.load(make_event(9), rejects=[Reject(stage="transform", reason="bad")])
    assert counts(progress) == (11, 5, 1, 1)
    assert (progress.pages, progress.records) == (3, 18)


def test_a_page_that_another_attempt_committed_leaves_nothing(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    late = job.page(make_event(7), rejects=[Reject(stage="transform", reason="late")])
    job.load(make_event(1))
    with pytest.raises(PageSupersededError, match="1 pages committed"):
        job.loader.load(late)
    assert [row["event_id"] for row in fetch(warehouse, "SELECT event_id FROM events")] == [
        "event-000001"
    ]
    assert fetch(warehouse, "SELECT 1 FROM etl_rejects") == []
    assert len(fetch(warehouse, "SELECT 1 FROM etl_pages")) == 1


def test_a_job_that_ended_loads_nothing_more(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    job.end()
    with pytest.raises(PageSupersededError, match="completed"):
        job.load(make_event(1))
    assert fetch(warehouse, "SELECT 1 FROM events") == []


def test_a_backfill_stays_inside_its_window(warehouse: Warehouse) -> None:
    window = Window(start=NOON, end=NOON + timedelta(hours=1))
    job = Job(warehouse, mode="backfill", window=window)
    progress = job.load(
        make_event(1, event_time_utc=NOON - timedelta(microseconds=1)),
        make_event(2, event_time_utc=NOON),
        make_event(3, event_time_utc=NOON + timedelta(hours=1, microseconds=-1)),
        make_event(4, event_time_utc=NOON + timedelta(hours=1)),
        make_event(5, event_time_utc=NOON.replace(tzinfo=None)),
    )
    assert counts(progress) == (2, 0, 0, 1)
    found = fetch(warehouse, "SELECT event_id FROM events ORDER BY event_id")
    assert [row["event_id"] for row in found] == ["event-000002", "event-000003"]


def test_a_connection_that_breaks_leaves_nothing(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    job.load(make_event(0))
    # The server ends the session of whoever inserts this event.
    execute(
        warehouse,
        """
        CREATE FUNCTION hang_up() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM pg_terminate_backend(pg_backend_pid());
            RETURN new;
        END $$
        """,
    )
    execute(
        warehouse,
        "CREATE TRIGGER hang_up BEFORE INSERT ON jira_events FOR EACH ROW "
        "WHEN (new.event_id = 'event-000500') EXECUTE FUNCTION hang_up()",
    )
    with pytest.raises(WarehouseUnavailableError):
        job.load(*map(make_event, range(1000)))
    assert len(fetch(warehouse, "SELECT 1 FROM events")) == 1
    assert len(fetch(warehouse, "SELECT 1 FROM etl_pages")) == 1
    execute(warehouse, "DROP TRIGGER hang_up ON jira_events")
    assert counts(job.load(*map(make_event, range(1000)))) == (1000, 0, 1, 0)


def test_a_deadlock_is_tried_again_and_reaches_nobody(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    job.load(make_event(1))
    execute(warehouse, "CREATE SEQUENCE tries")
    execute(
        warehouse,
        """
        CREATE FUNCTION lose_once() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('tries') = 1 THEN RAISE deadlock_detected; END IF;
            RETURN new;
        END $$
        """,
    )
    execute(
        warehouse,
        "CREATE TRIGGER lose_once BEFORE UPDATE ON jira_events FOR EACH ROW "
        "EXECUTE FUNCTION lose_once()",
    )
    assert counts(job.load(make_event(1, employee_id="E2"), make_event(2))) == (2, 1, 0, 0)
    assert fetch(warehouse, "SELECT last_value FROM tries") == [{"last_value": 2}]


def test_versions_are_part_of_what_makes_a_row_changed(warehouse: Warehouse) -> None:
    Job(warehouse).load(make_event(1))
    assert counts(Job(warehouse, version="2").load(make_event(1))) == (0, 1, 0, 0)
    found = fetch(warehouse, "SELECT version, specific_version FROM events")
    assert found == [{"version": "2", "specific_version": "2.0"}]


def test_thousands_of_rows_in_any_order_arrive_once(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    rows = [make_event((n * 7919) % 6000) for n in range(6000)]
    assert counts(job.load(*rows)) == (6000, 0, 0, 0)
    changed = [
        make_event(n, employee_id="E2") if n % 3 == 0 else make_event(n) for n in range(7000)
    ]
    assert counts(job.load(*changed)) == (7000, 2000, 4000, 0)
    found = fetch(warehouse, "SELECT count(*) AS n, count(DISTINCT event_id) AS ids FROM events")
    assert found == [{"n": 7000, "ids": 7000}]


def test_the_driver_is_not_asked_for_more_than_it_can_hold(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    long = "x" * 3_000_000
    progress = job.load(make_event(1, event_properties={"long": long}, event_type=long))
    assert counts(progress) == (1, 0, 0, 0)
    found = fetch(
        warehouse,
        "SELECT length(event_type) AS text, length(event_properties->>'long') AS json FROM events",
    )
    assert found == [{"text": 3_000_000, "json": 3_000_000}]


def test_psycopg_errors_never_leave_the_loader(warehouse: Warehouse) -> None:
    job = Job(warehouse)
    execute(warehouse, "ALTER TABLE etl_pages RENAME COLUMN records TO old_records")
    # A fault of our own SQL is not dressed up as something a retry could mend.
    with pytest.raises(Exception, match="records") as caught:
        job.load(make_event(1))
    assert not isinstance(caught.value, WarehouseUnavailableError | psycopg.OperationalError)
