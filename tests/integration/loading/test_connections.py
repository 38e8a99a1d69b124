"""Two connections of a source in one table: what one does is nothing to the other."""

from dataclasses import replace
from datetime import timedelta
from typing import ClassVar

import pytest

from temporaletl.deletions import Items
from temporaletl.errors import RateLimitedError, SchemaConflictError
from temporaletl.rows import CompleteSet, Reject, Row
from temporaletl.warehouse.budget import (
    block_source,
    blocked_sources,
    remaining_cool_down,
    reserve_requests,
    unblock_source,
)
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.rejects import read_rejects
from temporaletl.worker.loading import JobEvents, JobScan
from tests.integration.loading.jobs import NOON, Job, counts, execute, fetch, make_event

HOUR = timedelta(hours=1)
NAMES = ("default", "acme", "beta")


class Sale(Row, frozen=True, kw_only=True, gc=False):
    table: ClassVar[str] = "sales"
    key: ClassVar[tuple[str, ...]] = ("sale_id",)

    sale_id: str
    amount: int | None = None


class Wire(Row, frozen=True, kw_only=True, gc=False):
    """Whose author has a word of his own that is ours."""

    table: ClassVar[str] = "wires"
    key: ClassVar[tuple[str, ...]] = ("wire_id",)

    wire_id: str
    connection: str | None = None


def sale_of(connection: str, warehouse: Warehouse) -> Job:
    return Job(warehouse, source="shop", stream="sales", rows=[Sale], connection=connection)


def test_rows_with_the_same_key_are_different_rows(warehouse: Warehouse) -> None:
    for name in NAMES:
        job = Job(warehouse, connection=name)
        assert counts(job.load(*map(make_event, range(5)))) == (5, 0, 0, 0)
        assert counts(sale_of(name, warehouse).load(Sale(sale_id="s", amount=1))) == (1, 0, 0, 0)
    changed = Job(warehouse, connection="acme")
    assert counts(changed.load(make_event(1), make_event(2, employee_id="E2"))) == (0, 1, 1, 0)
    assert counts(sale_of("acme", warehouse).load(Sale(sale_id="s", amount=2))) == (0, 1, 0, 0)
    found = fetch(
        warehouse, "SELECT connection, employee_id FROM events WHERE event_id = %s", "event-000002"
    )
    assert {row["connection"]: row["employee_id"] for row in found} == {
        "default": "E1",
        "acme": "E2",
        "beta": "E1",
    }
    found = fetch(warehouse, "SELECT connection, amount FROM sales")
    assert {row["connection"]: row["amount"] for row in found} == {
        "default": 1,
        "acme": 2,
        "beta": 1,
    }


def test_the_same_row_has_the_same_hash_in_every_connection(warehouse: Warehouse) -> None:
    """Rows of before there were connections are compared with those of now."""
    for name in NAMES:
        Job(warehouse, connection=name).load(make_event(1))
    assert len(fetch(warehouse, "SELECT DISTINCT row_hash FROM events")) == 1


def test_what_is_gone_from_one_stays_in_the_other(warehouse: Warehouse) -> None:
    for name in NAMES[:2]:
        Job(warehouse, connection=name).load(*map(make_event, range(3)))
    job = Job(warehouse, connection="acme")
    job.loader.load(replace(job.page(make_event(0)), complete_sets=[CompleteSet("event-")]))
    found = fetch(warehouse, "SELECT connection, count(*) AS n FROM events GROUP BY 1")
    assert {row["connection"]: row["n"] for row in found} == {"default": 3, "acme": 1}


def test_a_running_job_of_another_connection_writes_none_of_our_rows(warehouse: Warehouse) -> None:
    Job(warehouse, connection="acme").load(make_event(1))
    for _ in range(2):
        job = Job(warehouse, connection="default")
        job.load(make_event(1))
        job.end()
    # Had they been contested, the later one would have marked the row as its own.
    [row] = fetch(warehouse, "SELECT job_id FROM events WHERE connection = 'default'")
    assert row["job_id"] != job.input.job_id


def test_rejects_are_counted_and_listed_by_connection(warehouse: Warehouse) -> None:
    broken = Reject(stage="transform", reason="no date", key="PROJ-1", payload={"id": 1})
    for name, times in (("default", 2), ("acme", 1)):
        for _ in range(times):
            Job(warehouse, connection=name).load(rejects=[broken])
    for name, times in (("default", 2), ("acme", 1)):
        [reject], total = read_rejects(warehouse, "jira", name, limit=5)
        assert (reject.connection, reject.times, total) == (name, times, 1)


def test_what_is_stored_is_read_by_connection(warehouse: Warehouse) -> None:
    for name in NAMES[:2]:
        Job(warehouse, connection=name).load(make_event(1, event_properties={"of": name}))
        sale_of(name, warehouse).load(*(Sale(sale_id=f"{n}", amount=n) for n in range(3)))
    for name in NAMES[:2]:
        stored = JobEvents(warehouse, "jira", name)
        assert stored.properties("event-000001") == {"of": name}
        sales = stored.rows(Sale, equal={}, behind=["0"], most=9)
        assert [sale.sale_id for sale in sales] == ["1", "2"]
    stored = JobEvents(warehouse, "jira", "beta")
    assert stored.properties("event-000001") is None
    assert stored.rows(Sale, equal={}, behind=None, most=9) == []


def test_a_block_of_one_connection_is_none_of_the_other(warehouse: Warehouse) -> None:
    block_source(warehouse, "jira", "acme", HOUR)
    assert remaining_cool_down(warehouse, "jira", "default") is None
    assert reserve_requests(warehouse, "jira", "default", 10, 1) < HOUR
    with pytest.raises(RateLimitedError, match="jira@acme"):
        reserve_requests(warehouse, "jira", "acme", 10, 1)
    [blocked] = blocked_sources(warehouse, "jira")
    assert "etl state reset jira --connection acme --unblock" in str(blocked)
    assert not unblock_source(warehouse, "jira", "default")
    assert unblock_source(warehouse, "jira", "acme")


def test_a_scan_knows_the_items_of_its_connection_alone(warehouse: Warehouse) -> None:
    for name, number in (("default", 2), ("acme", 1)):
        events = [
            make_event(n, event_id=f"issue:{n}:created", event_time_utc=NOON) for n in range(number)
        ]
        Job(warehouse, connection=name).load(*events)
    for name, number in (("default", 2), ("acme", 1), ("beta", 0)):
        job = Job(warehouse, connection=name)
        scan = JobScan(warehouse, job.input, most=HOUR)
        scan.resume(list_alone=False)
        assert scan.has_stored(Items("issue:")) == (number > 0)
        assert scan.compare(Items("issue:"), scan.now(), with_kept=True) == number


def test_an_authors_table_of_before_gets_the_connection_into_its_key(warehouse: Warehouse) -> None:
    sale_of("default", warehouse).load(Sale(sale_id="s", amount=1))
    execute(
        warehouse,
        "ALTER TABLE sales DROP COLUMN connection, ADD PRIMARY KEY (sale_id) INCLUDE (row_hash)",
    )
    assert counts(sale_of("default", warehouse).load(Sale(sale_id="s", amount=1))) == (0, 0, 1, 0)
    assert counts(sale_of("acme", warehouse).load(Sale(sale_id="s", amount=1))) == (1, 0, 0, 0)
    found = fetch(
        warehouse,
        "SELECT indexdef FROM pg_indexes WHERE tablename = 'sales'"
        " AND indexdef LIKE '%%UNIQUE%%' AND schemaname = current_schema()",
    )
    [index] = [row["indexdef"] for row in found]
    assert "(connection, sale_id) INCLUDE (row_hash)" in index


def test_a_worker_of_before_may_have_made_the_old_key_again(warehouse: Warehouse) -> None:
    Job(warehouse).load(make_event(1))
    execute(
        warehouse,
        "CREATE UNIQUE INDEX ON events (source_kind_id, event_id) INCLUDE (row_hash)",
    )
    assert counts(Job(warehouse, connection="acme").load(make_event(1))) == (1, 0, 0, 0)


def test_a_key_that_is_not_ours_is_in_the_way_of_a_named_connection_alone(
    warehouse: Warehouse,
) -> None:
    execute(warehouse, "CREATE TABLE sales (sale_id text PRIMARY KEY, amount bigint)")
    assert counts(sale_of("default", warehouse).load(Sale(sale_id="s", amount=1))) == (1, 0, 0, 0)
    with pytest.raises(SchemaConflictError, match=r"sales_pkey \(sale_id\).*DROP CONSTRAINT"):
        sale_of("acme", warehouse).load(Sale(sale_id="s", amount=1))
    execute(warehouse, "ALTER TABLE sales DROP CONSTRAINT sales_pkey")
    assert counts(sale_of("acme", warehouse).load(Sale(sale_id="s", amount=1))) == (1, 0, 0, 0)


def test_a_column_of_that_name_that_may_be_null_is_not_taken_for_ours(warehouse: Warehouse) -> None:
    execute(warehouse, "CREATE TABLE sales (sale_id text PRIMARY KEY, connection text)")
    with pytest.raises(SchemaConflictError, match="RENAME COLUMN"):
        sale_of("default", warehouse).load(Sale(sale_id="s"))


def test_a_row_class_may_have_a_field_of_that_name(warehouse: Warehouse) -> None:
    for name in NAMES[:2]:
        job = Job(warehouse, source="shop", rows=[Wire], connection=name)
        assert counts(job.load(Wire(wire_id="w", connection="wifi"))) == (1, 0, 0, 0)
    found = fetch(warehouse, "SELECT etl_connection, connection FROM wires ORDER BY 1")
    assert [tuple(row.values()) for row in found] == [("acme", "wifi"), ("default", "wifi")]


def test_the_first_load_of_a_connection_looks_nothing_up(warehouse: Warehouse) -> None:
    """Whatever is loaded of others."""
    Job(warehouse).load(*map(make_event, range(100)))
    for name, empty in (("default", False), ("acme", True)):
        job = Job(warehouse, connection=name)
        job.loader.prepare()
        [merge] = job.loader._merges
        assert merge.target.empty is empty
