"""Tables with rows follow what is declared, by `etl migrate`, while they are read and written."""

from datetime import datetime, timedelta

import psycopg
import pytest
from msgspec.structs import replace

from temporaletl.errors import ConflictError
from temporaletl.rows import Event
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading import evolution
from tests.integration.loading.jobs import NOON, Job, execute, fetch, holding, make_event

INDEXES = {"item", "person", "employee", "time", "updated"}


def indexes(warehouse: Warehouse, table: str = "jira_events") -> set[str]:
    """Names of the valid indexes beside the key."""
    found = fetch(
        warehouse,
        "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE i.indrelid = to_regclass(%s) AND NOT i.indisunique AND i.indisvalid",
        table,
    )
    return {row["relname"].removeprefix(f"{table}_") for row in found}


def indexing(words: list[str]) -> list[str]:
    return [one for one in words if " index " in one]


def migrate(warehouse: Warehouse) -> list[str]:
    return [change.words for change in evolution.migrate_tables(warehouse, {"jira": [Event]})]


@pytest.fixture
def loaded(warehouse: Warehouse) -> Warehouse:
    """A table of events with rows and without any index but its key, as there were."""
    warehouse.omitted_indexes = frozenset({"all"})
    Job(warehouse).load(*map(make_event, range(50)))
    assert indexes(warehouse) == set()
    warehouse.omitted_indexes = frozenset()
    return warehouse


def test_a_new_table_has_the_indexes_that_are_not_omitted(warehouse: Warehouse) -> None:
    warehouse.omitted_indexes = frozenset({"time", "a name of none"})
    Job(warehouse).load(make_event(1))
    assert indexes(warehouse) == INDEXES - {"time"}


def test_indexes_are_completed_dropped_and_left_alone(loaded: Warehouse) -> None:
    # The operator's own serves as well as ours would.
    execute(loaded, "CREATE INDEX mine ON jira_events (event_time_utc, event_type)")
    assert len(indexing(migrate(loaded))) == 4
    assert indexes(loaded) == INDEXES - {"time"} | {"mine"}
    assert migrate(loaded) == []
    loaded.omitted_indexes = frozenset({"person", "time"})
    assert migrate(loaded) == ["drop index jira_events_person"]
    assert indexes(loaded) == {"item", "employee", "updated", "mine"}


def test_an_index_whose_creation_was_interrupted_is_made_anew(loaded: Warehouse) -> None:
    with holding(loaded, "DELETE FROM events WHERE event_id = 'event-000001'"), loaded.apart() as s:
        s.execute("SET statement_timeout TO 200")
        with pytest.raises(psycopg.errors.QueryCanceled):
            s.execute(
                f'CREATE INDEX CONCURRENTLY jira_events_item ON "{loaded.schema}".jira_events '
                "(parent_item_id, event_time_utc)"
            )
    assert indexes(loaded) == set()
    migrate(loaded)
    assert indexes(loaded) == INDEXES


def test_rows_are_loaded_while_an_index_is_created(loaded: Warehouse) -> None:
    changes = evolution.migrate_tables(loaded, {"jira": [Event]})
    next(changes)
    Job(loaded).load(make_event(100))
    with pytest.raises(ConflictError, match="another process"):
        migrate(loaded)
    assert len(list(changes)) == 4  # of five indexes


def test_a_table_that_no_run_has_made_is_made_by_whichever_comes_first(
    warehouse: Warehouse,
) -> None:
    changes = evolution.pending_changes(warehouse, "jira", [Event])
    made = ["create table events", "create partition jira_events of events"]
    assert [(one.words, one.by) for one in changes] == [(words, "run") for words in made]
    assert migrate(warehouse) == made
    assert evolution.pending_changes(warehouse, "jira", [Event]) == []


def test_a_table_of_before_gets_comments_not_null_and_views(loaded: Warehouse) -> None:
    for statement in (
        "DROP VIEW issues, items, people, issue_status_spans, daily_issue_history",
        "COMMENT ON COLUMN jira_events.person IS 'something else'",
        "COMMENT ON TABLE jira_events IS NULL",
        "ALTER TABLE events ALTER COLUMN event_type DROP NOT NULL",
        "ALTER TABLE events ALTER COLUMN timezone DROP NOT NULL",
        "UPDATE events SET timezone = NULL WHERE event_id = 'event-000001'",
        "CREATE VIEW items AS SELECT 'mine' AS whose",
    ):
        execute(loaded, statement)
    words = [one for one in migrate(loaded) if " index " not in one]
    assert words == [
        "2 comments on jira_events",
        "NOT NULL of event_type",
        *(f"create view {name}" for name in ("issue_status_spans", "issues", "people")),
        "create view daily_issue_history",
    ]
    (found,) = fetch(
        loaded,
        "SELECT col_description(attrelid, attnum) AS comment, attnotnull FROM pg_attribute "
        "WHERE attrelid = 'jira_events'::regclass AND attname = 'event_type'",
    )
    assert found == {"comment": "<noun>_<past verb>, such as status_changed", "attnotnull": True}
    assert fetch(loaded, "SELECT * FROM items") == [{"whose": "mine"}]
    assert migrate(loaded) == []


def test_a_view_of_an_earlier_version_is_made_anew_with_what_reads_it(loaded: Warehouse) -> None:
    mark = "[temporaletl 00000000]"
    for statement in (
        "DROP VIEW daily_issue_history, issue_status_spans, issues",
        "CREATE VIEW issue_status_spans AS SELECT 1 AS old",
        "CREATE VIEW daily_issue_history AS SELECT * FROM issue_status_spans",
        "CREATE VIEW issues AS SELECT 2 AS old",
        "CREATE VIEW mine AS SELECT * FROM issues",
        f"COMMENT ON VIEW issues IS 'Issues. {mark}'",
        f"COMMENT ON VIEW issue_status_spans IS 'Spans. {mark}'",
        f"COMMENT ON VIEW daily_issue_history IS 'Days. {mark}'",
    ):
        with loaded.connection() as connection:
            connection.execute(statement)
    migrate(loaded)
    assert len(fetch(loaded, "SELECT status FROM issue_status_spans")) == 50
    assert fetch(loaded, "SELECT status FROM daily_issue_history LIMIT 1") != []
    # What somebody else's view depends on stays as it is.
    assert fetch(loaded, "SELECT * FROM mine") == [{"old": 2}]


#: Of each issue its creation, with the status of today, and its changes: day, from, to.
LIVES = {
    "PROJ-1": ("Done", [(1, "To do", "In progress"), (3, "In progress", "Done")]),
    "PROJ-2": ("To do", []),
}


def test_the_first_status_of_an_issue_is_what_its_first_change_left(warehouse: Warehouse) -> None:
    def day(number: int) -> datetime:
        return NOON + timedelta(days=number)

    rows: list[Event] = []
    for number, (key, (status, changes)) in enumerate(LIVES.items()):
        event = make_event(event_type="issue_created", parent_item_id=key, event_time_utc=day(0))
        rows.append(
            replace(event, event_id=f"{number}:created", event_properties={"status": status})
        )
        rows += [
            replace(
                event,
                event_id=f"{number}:changelog:{at}:status",
                event_type="status_changed",
                event_time_utc=day(at),
                event_properties={"from_string": was, "to_string": then},
            )
            for at, was, then in changes
        ]
    Job(warehouse).load(*rows)
    spans = "SELECT issue_key, status, (ended_at - started_at)::text AS held "
    assert [
        tuple(row.values())
        for row in fetch(warehouse, f"{spans} FROM issue_status_spans ORDER BY issue_key, number")
    ] == [
        ("PROJ-1", "To do", "1 day"),
        ("PROJ-1", "In progress", "2 days"),
        ("PROJ-1", "Done", None),
        ("PROJ-2", "To do", None),
    ]
    history = fetch(
        warehouse,
        "SELECT status FROM daily_issue_history WHERE issue_key = 'PROJ-1' ORDER BY day LIMIT 5",
    )
    assert [row["status"] for row in history] == ["To do", *["In progress"] * 2, *["Done"] * 2]
    now = fetch(warehouse, "SELECT issue_id, issue_key, status FROM issues ORDER BY 1")
    assert [tuple(row.values()) for row in now] == [
        ("0", "PROJ-1", "Done"),
        ("1", "PROJ-2", "To do"),
    ]
    (item,) = fetch(warehouse, "SELECT events, people FROM items WHERE item = 'PROJ-1'")
    assert item == {"events": 3, "people": 0}
