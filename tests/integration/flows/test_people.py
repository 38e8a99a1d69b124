"""People in events: resolved once for each batch, and filled in later."""

from collections.abc import Iterator

import pytest
from psycopg.errors import LockNotAvailable

from temporaletl.rows import Identity
from temporaletl.warehouse import migration
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.identities import fill_events, record_people
from temporaletl.warehouse.migration import migrate
from tests.integration.flows import numbers
from tests.integration.flows.services import Services
from tests.integration.loading.jobs import Job, execute, fetch, make_event

COLUMN = "0023_person_of_events.sql"
SPLIT = "0024_people_of_events.sql"


@pytest.fixture(autouse=True)
def _addresses() -> Iterator[None]:
    yield
    numbers.addresses.clear()


def employ(warehouse: Warehouse, **employees: str) -> None:
    """Let Salesforce know employees by their addresses at example.com."""
    record_people(
        warehouse,
        "default",
        [
            Identity(
                source_kind_id="salesforce",
                person=f"005-{name}",
                employee_id=employee,
                email=f"{name}@Example.com",
            )
            for name, employee in employees.items()
        ],
    )


def people(services: Services) -> dict[str, int]:
    return dict(
        services.rows("SELECT coalesce(employee_id, person), count(*) FROM events GROUP BY 1")
    )


async def test_people_are_resolved_by_what_the_source_and_salesforce_know(
    services: Services,
) -> None:
    employ(services.warehouse, jane="E1", joe="E2")
    numbers.addresses.update({"u-1": "JANE@example.com", "u-2": "nobody@example.com"})

    await services.run(size=9, people=["u-1", "u-2", "Joe@example.com"])

    assert people(services) == {"E1": 3, "u-2": 3, "E2": 3}


async def test_a_person_who_becomes_known_later_is_filled_into_older_events(
    services: Services,
) -> None:
    numbers.addresses["u-1"] = "jane@example.com"
    await services.run(size=9, people=["u-1", "u-2", "Joe@example.com"])
    assert people(services) == {"u-1": 3, "u-2": 3, "Joe@example.com": 3}
    employ(services.warehouse, jane="E1", joe="E2")

    filled = fill_events(services.warehouse, "numbers", "default")

    assert (filled.people, filled.events) == (2, 6)
    assert people(services) == {"E1": 3, "u-2": 3, "E2": 3}
    assert fill_events(services.warehouse, "numbers", "default").events == 0


async def test_filled_events_are_what_the_next_load_would_have_made_of_them(
    services: Services,
) -> None:
    numbers.addresses["u-1"] = "jane@example.com"
    await services.run(size=4, people=["u-1"])
    employ(services.warehouse, jane="E1")
    fill_events(services.warehouse, "numbers", "default")
    columns = "event_id, person, employee_id, event_properties, relation_properties"
    filled = services.rows(f"SELECT {columns} FROM events ORDER BY 1")

    await services.run(size=4, people=["u-1"])

    assert services.rows(f"SELECT {columns} FROM events ORDER BY 1") == filled
    repeat = await services.run(size=4, people=["u-1"])
    assert (repeat.rows.updated, repeat.rows.unchanged) == (0, 4)


async def test_a_person_whose_id_is_another_ones_employee_id_is_not_mistaken_for_that_one(
    services: Services,
) -> None:
    employ(services.warehouse, jane="7")
    numbers.addresses["u-1"] = "jane@example.com"
    await services.run(size=2, people=["u-1", "7"])
    record_people(
        services.warehouse,
        "default",
        [Identity(source_kind_id="numbers", person="7", employee_id="8")],
    )

    assert fill_events(services.warehouse, "numbers", "default").events == 1

    columns = "SELECT person, employee_id FROM events ORDER BY 1"
    assert services.rows(columns) == [("7", "8"), ("u-1", "7")]


async def test_people_are_hashed_before_they_are_stored_and_still_resolved(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_FIELD_RULES", "numbers.person=hash")
    monkeypatch.setenv("ETL_HASH_KEY", "a key of some length")
    employ(services.warehouse, joe="E2")
    await services.run(size=2, people=["u-1", "Joe@example.com"])
    found = services.rows("SELECT left(person, 5), employee_id FROM events ORDER BY event_id")
    assert found == [("hash:", None), ("hash:", "E2")]


def test_what_one_column_held_is_parted_into_person_and_employee(warehouse: Warehouse) -> None:
    employ(warehouse, jane="E1", ann="E2", eve="E3")
    record_people(
        warehouse,
        "default",
        [
            Identity(source_kind_id="jira", person=person, email=f"{name}@example.com")
            for person, name in (("p1", "jane"), ("p2", "ann"), ("p2-old", "ann"))
        ],
    )
    values = ["E1", "E2", "E3", "nobody", None]
    Job(warehouse).load(*(make_event(n, employee_id=v) for n, v in enumerate(values)))
    execute(warehouse, "ALTER TABLE events DROP COLUMN person CASCADE")
    execute(warehouse, "DELETE FROM etl_migrations WHERE name = ANY (%s)", [COLUMN, SPLIT])

    assert migrate(warehouse) == [COLUMN, SPLIT]

    columns = "SELECT person, employee_id, row_hash IS NULL AS anew FROM events ORDER BY event_id"
    assert [tuple(row.values()) for row in fetch(warehouse, columns)] == [
        ("p1", "E1", True),
        (None, "E2", False),  # one of two
        (None, "E3", False),  # whom this source does not know
        ("nobody", None, True),
        (None, None, False),
    ]


async def test_what_one_source_says_of_a_person_does_not_undo_what_another_said(
    warehouse: Warehouse,
) -> None:
    def known() -> list[tuple[object, ...]]:
        with warehouse.connection() as connection:
            return connection.execute(
                "SELECT person, employee_id, email, name, xmin::text FROM etl_identities"
            ).fetchall()

    record_people(
        warehouse,
        "default",
        [Identity(source_kind_id="jira", person="a1", employee_id="E1", email="jane@example.com")],
    )
    own = Identity(source_kind_id="jira", person="a1", email="j@example.com", name="Jane")
    record_people(warehouse, "default", [own, own])
    [(person, employee, email, name, version)] = known()
    assert (person, employee, email, name) == ("a1", "E1", "jane@example.com", "Jane")
    record_people(warehouse, "default", [own])
    assert known()[0][-1] == version


def test_a_person_with_characters_that_postgresql_cannot_store_is_recorded(
    warehouse: Warehouse,
) -> None:
    odd = Identity(source_kind_id="jira", person="a\0b", email="\0@example.com", name="A\0\ud83d")
    record_people(warehouse, "default", [odd, odd])
    with warehouse.connection() as connection:
        found = connection.execute("SELECT person, email, name FROM etl_identities").fetchall()
    assert found == [("a\ufffdb", "\ufffd@example.com", "A\ufffd\ufffd")]


def test_events_can_be_read_while_they_are_parted(warehouse: Warehouse) -> None:
    Job(warehouse).load(make_event(1, person=None))
    with warehouse.connection() as migrating, warehouse.connection() as reading:
        migrating.execute(migration._read(SPLIT))
        reading.execute("SET LOCAL lock_timeout TO '2s'")
        assert reading.execute("SELECT count(*) FROM events").fetchone() == (1,)
        with pytest.raises(LockNotAvailable):
            reading.execute("UPDATE events SET person = 'someone'")
        reading.rollback()
