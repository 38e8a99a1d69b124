"""Tables with rows follow what is declared, by `etl migrate`, while they are read and written."""

import psycopg
import pytest

from temporaletl.errors import ConflictError
from temporaletl.rows import Event
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading import evolution
from tests.integration.loading.jobs import Job, execute, fetch, holding, make_event

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
    assert len(migrate(loaded)) == 4
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
    assert len(list(changes)) == 4


def test_a_table_that_no_run_has_made_is_left_to_the_first_run(warehouse: Warehouse) -> None:
    assert migrate(warehouse) == []
    (first, *_) = evolution.pending_changes(warehouse, "jira", [Event])
    assert (first.words, first.by) == ("create table events", "run")
