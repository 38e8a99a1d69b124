"""`etl schema`, `etl migrate` and `etl verify`, without Temporal."""

import json

from temporaletl.messages import ETLInput
from temporaletl.rows import Event
from temporaletl.transformation import TransformContext
from temporaletl.warehouse.connection import Warehouse
from tests.integration.flows import numbers
from tests.integration.loading.jobs import Job, execute, make_event
from tests.integration.warehouse.command import Etl, etl

__all__ = ["etl"]


def test_the_difference_is_what_migrate_then_makes(etl: Etl, warehouse: Warehouse) -> None:
    changes = json.loads(etl("schema", "jira", "--diff", "--json")[1])
    assert [one["change"] for one in changes] == [
        "create table events",
        "create partition jira_events of events",
    ]
    Job(warehouse).load(make_event(1))
    assert etl("schema", "jira", "--diff")[1] == "everything is up to date\n"
    status, _, err = etl("migrate")
    assert (status, "create table st_jobs" in err) == (0, True), err
    assert etl("schema", "--diff")[1] == "everything is up to date\n"

    execute(warehouse, "DROP INDEX jira_events_time")
    execute(warehouse, "DROP VIEW issues")
    status, out, _ = etl("schema", "--diff")
    assert status == 0
    (line,) = (line for line in out.splitlines() if "jira_events_time" in line)
    assert line.startswith("jira_events ")
    assert line.endswith("etl migrate")
    status, out, err = etl("migrate")
    assert (status, out) == (0, "2 changes made\n"), err
    assert "jira_events: create index jira_events_time" in err
    assert json.loads(etl("migrate", "--json")[1]) == []


def test_tables_are_shown_as_runs_make_them(etl: Etl) -> None:
    (table,) = json.loads(etl("schema", "jira", "--json")[1])
    assert (table["table"], table["key"]) == (
        "jira_events",
        ["source_kind_id", "connection", "event_id"],
    )
    nullable = {one["column"] for one in table["columns"] if one["null"]}
    assert {"person", "deleted_at"} < nullable
    assert "event_type" not in nullable
    assert "st_jobs" in etl("schema")[1]
    status, _, err = etl("schema", "jria")
    assert status != 0
    assert "there is no source 'jria'" in err


def test_a_verification_counts_by_month_names_what_differs_and_ends_with_1(
    etl: Etl, warehouse: Warehouse
) -> None:
    arguments = ("verify", "numbers", "--param", "size=3")
    job = Job(warehouse, source="numbers", stream="all")
    job.load(*(transformed(job.input, value) for value in range(3)))
    execute(warehouse, "UPDATE events SET job_id = 'numbers-all-full-0'")
    # It is another version for whoever looks, and the same to look at.
    status, out, _ = etl(*arguments)
    assert (status, out.splitlines()[-1]) == (0, "every row is as the source has it")
    execute(warehouse, "UPDATE events SET timezone = 'Asia/Tokyo', specific_version = '3.1'")
    execute(warehouse, "DELETE FROM events WHERE event_id = '0:1'")
    # Without a watermark, what is missing is to be loaded yet, and its item with it.
    assert etl(*arguments)[0] == 0
    execute(
        warehouse,
        "INSERT INTO etl_sync_state (source, stream, connection, watermark, state) "
        "VALUES ('numbers', 'all', 'default', now(), 'completed')",
    )
    status, out, err = etl(*arguments)
    assert status == 1
    assert "changed  events  0:0 (timezone)" in out, err
    assert "1 row missing from the warehouse" in err
    document = json.loads(etl(*arguments, "--json")[1])
    assert document["months"] == [
        {"stream": "all", "table": "events", "month": "2024-01", "source": 3, "warehouse": 2}
    ]
    assert [one["kind"] for one in document["differences"]] == ["changed", "missing", "changed"]
    assert {one["reason"] for one in document["differences"]} == {None}


def transformed(job: ETLInput, value: int) -> Event:
    context = TransformContext(job=job, query=numbers.NumbersQuery())
    (event,) = numbers.transform(numbers.Number(0, value), context)
    assert isinstance(event, Event)
    return event
