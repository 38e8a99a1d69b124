"""`etl partitions`, without Temporal."""

import json

import pytest

from temporaletl.warehouse.connection import Warehouse
from tests.integration.loading.jobs import Job, execute, fetch, make_event
from tests.integration.warehouse.command import Etl, etl
from tests.waiting import this_month

__all__ = ["etl"]


def test_a_source_that_has_grown_is_divided_and_its_old_months_go(
    etl: Etl, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    Job(warehouse).load(make_event(1), make_event(2, event_time_utc=this_month()))
    execute(warehouse, "ANALYZE jira_events")
    assert etl("partitions", "divide")[1] == "nothing is due\n"
    monkeypatch.setenv("WPE_DB_MONTHS_FROM_ROWS", "2")
    assert "etl partitions divide" in etl("partitions", "show")[1]
    status, out, err = etl("partitions", "divide")
    assert (status, out) == (0, "2 changes made\n"), err
    assert "jira_events: divide jira_events by month: 2 events" in err
    monkeypatch.setenv("WPE_DB_KEEP_MONTHS", "jira=3")
    (shown,) = json.loads(etl("partitions", "show", "--json")[1])
    assert (shown["months"], shown["rest"], shown["due"], shown["old"]) == (5, 0, False, 1)
    steps = json.loads(etl("partitions", "detach", "--drop", "--json")[1])
    assert [(one["words"], one["rows"]) for one in steps] == [
        ("detach jira_events_2024_05", 1),
        ("drop jira_events_2024_05", 1),
    ]
    entered = fetch(warehouse, "SELECT action, target FROM etl_audit ORDER BY audit_id")
    assert [row["action"] for row in entered] == [
        *("partitions.divide", "partitions.divide", "partitions.detach", "partitions.drop"),
    ]


@pytest.mark.parametrize("value", ["jira", "jira=0", "jira=2,jira=3", "=2", "jira=two"])
def test_a_retention_that_cannot_be_read_is_named(
    etl: Etl, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("WPE_DB_KEEP_MONTHS", value)
    status, _, err = etl("partitions", "show")
    assert status != 0
    assert "WPE_DB_KEEP_MONTHS" in err


def test_a_source_that_there_is_not_is_named(etl: Etl) -> None:
    status, _, err = etl("partitions", "divide", "jria")
    assert status != 0
    assert "there is no source 'jria'" in err
