"""Identities: the people of sources, and the employees that they resolve to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from psycopg import errors

from temporaletl.rows import Identity, person_key, storable_text
from temporaletl.telemetry.logs import get_logger
from temporaletl.warehouse.connection import Connection, UnstorableTextError, Warehouse
from temporaletl.warehouse.sessions import only_row

log = get_logger("temporaletl.identities")

_PEOPLE_AT_ONCE = 1_000

# A person is an employee by what the source itself says, else by the e-mail address: that of
# Salesforce first, where several sources know it. An id is one connection's alone, an address
# stands for the same person everywhere.
_RESOLVED = """
    SELECT i.person, coalesce(i.employee_id, e.employee_id) AS employee_id
    FROM etl_identities AS i LEFT JOIN LATERAL (
        SELECT employee_id FROM etl_identities
        WHERE employee_id IS NOT NULL AND lower(email) = lower(i.email)
        ORDER BY source_kind_id <> 'salesforce', source_kind_id, connection <> 'default',
            connection, person
        LIMIT 1
    ) AS e ON i.employee_id IS NULL
    WHERE i.source_kind_id = %(source)s AND i.connection = %(connection)s
      AND coalesce(i.employee_id, e.employee_id) IS NOT NULL
"""
# Some sources know a person by the address alone.
_ADDRESSES = """
    SELECT DISTINCT ON (lower(email)) lower(email), employee_id FROM etl_identities
    WHERE employee_id IS NOT NULL AND email <> ''
    ORDER BY lower(email), source_kind_id <> 'salesforce', source_kind_id,
        connection <> 'default', connection, person
"""


def record_people(warehouse: Warehouse, connection_name: str, people: Iterable[Identity]) -> int:
    """Upsert a connection's people; return their number. Safe to repeat.

    What is known of a person already stays where the source says nothing. A person whose
    employee id came from elsewhere keeps what came with it. One who cannot be entered, for having
    no id or too long a one, is left out and logged: the others count.
    """
    count = 0
    block: list[Identity] = []
    for person in people:
        block.append(person)
        if len(block) == _PEOPLE_AT_ONCE:
            count += _enter(warehouse, connection_name, block)
            block = []
    return count + _enter(warehouse, connection_name, block)


_COLUMNS = ("source_kind_id", "person", "employee_id", "email", "name", "timezone")
_NEEDED = 2


def _enter(warehouse: Warehouse, connection_name: str, people: Sequence[Identity]) -> int:
    # In one order everywhere, so that two batches cannot deadlock; of repeats the last.
    unique: dict[tuple[str, str], list[str | None]] = {}
    entered = 0
    for person in people:
        values = [getattr(person, name) for name in _COLUMNS]
        if not all(values[:_NEEDED]) or not all(isinstance(v, str | None) for v in values):
            _left_out(person, "it has no id, or something that is no text")
            continue
        source, id_, *others = [v and storable_text(v) for v in values]
        unique[source, id_] = [source, id_, *others]
        entered += 1
    return entered - _write(warehouse, connection_name, [unique[key] for key in sorted(unique)])


def _left_out(person: object, reason: str) -> None:
    log.warning("person_left_out", person=repr(person)[:200], reason=reason)


def _write(warehouse: Warehouse, connection_name: str, rows: Sequence[Sequence[str | None]]) -> int:
    """Upsert people; return how many the server refuses, found by halving."""
    if not rows:
        return 0
    try:
        with warehouse.connection() as connection:
            columns = [list(column) for column in zip(*rows, strict=True)]
            connection.execute(_ENTER, [connection_name, *columns, connection_name])
    except (errors.DataError, errors.ProgramLimitExceeded, UnstorableTextError) as error:
        if len(rows) == 1:
            _left_out(rows[0][1], str(error))
            return 1
        middle = len(rows) // 2
        return _write(warehouse, connection_name, rows[:middle]) + _write(
            warehouse, connection_name, rows[middle:]
        )
    return 0


_ENTER = """
    INSERT INTO etl_identities AS i
        (connection, source_kind_id, person, employee_id, email, name, timezone)
    SELECT %s, n.source_kind_id, n.person, coalesce(n.employee_id, k.employee_id),
           CASE WHEN kept THEN coalesce(k.email, n.email)
                ELSE coalesce(n.email, k.email) END,
           CASE WHEN kept THEN coalesce(k.name, n.name)
                ELSE coalesce(n.name, k.name) END,
           coalesce(n.timezone, k.timezone)
    FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[])
        AS n (source_kind_id, person, employee_id, email, name, timezone)
    LEFT JOIN etl_identities AS k ON k.connection = %s
        AND k.source_kind_id = n.source_kind_id AND k.person = n.person,
    LATERAL (SELECT n.employee_id IS NULL AND k.employee_id IS NOT NULL AS kept) AS which
    ON CONFLICT (connection, source_kind_id, person) DO UPDATE SET
        employee_id = excluded.employee_id, email = excluded.email, name = excluded.name,
        timezone = excluded.timezone, updated_at = now(), row_hash = NULL
    WHERE (i.employee_id, i.email, i.name, i.timezone) IS DISTINCT FROM
        (excluded.employee_id, excluded.email, excluded.name, excluded.timezone)
"""


def known_people(warehouse: Warehouse, source: str, connection_name: str) -> dict[str, str]:
    """Employee ids by `person_key` of a connection's people, and of all e-mail addresses."""
    with warehouse.connection() as connection:
        return _known(connection, source, connection_name)


def _known(connection: Connection, source: str, connection_name: str) -> dict[str, str]:
    addresses = connection.execute(_ADDRESSES).fetchall()
    values = {"source": source, "connection": connection_name}
    resolved = connection.execute(_RESOLVED, values).fetchall()
    return {person_key(str(person)): str(known) for person, known in (*addresses, *resolved)}


@lru_cache(maxsize=16)
def people_of_batch(
    warehouse: Warehouse, source: str, connection_name: str, batch_id: str
) -> Mapping[str, str]:
    """Cached `known_people`, read once for each batch, so that its jobs agree."""
    del batch_id  # part of the key alone
    return known_people(warehouse, source, connection_name)


@dataclass(frozen=True, slots=True)
class KnownPerson:
    """One of a connection's people; `employee_id` also where it was found by the e-mail address."""

    person: str
    employee_id: str | None
    email: str | None
    name: str | None

    @property
    def position(self) -> "PersonPosition":
        """Its place in the list."""
        return PersonPosition(self.employee_id is not None, self.person)


class PersonPosition(NamedTuple):
    """A person's place in the list: those who are no known employees first, then by id."""

    known: bool
    person: str


class PeoplePage(NamedTuple):
    """Some of a connection's people; how many there are, and how many are no known employees."""

    people: list[KnownPerson]
    total: int
    unknown: int


_PEOPLE = f"""
    WITH addresses (email, employee_id) AS MATERIALIZED ({_ADDRESSES}),
    people AS MATERIALIZED (
        SELECT i.person, coalesce(i.employee_id, e.employee_id, p.employee_id) AS employee_id,
            i.email, i.name
        FROM etl_identities AS i
        LEFT JOIN addresses AS e ON i.employee_id IS NULL AND e.email = lower(i.email)
        LEFT JOIN addresses AS p
            ON i.employee_id IS NULL AND strpos(i.person, '@') > 0 AND p.email = lower(i.person)
        WHERE i.source_kind_id = %(source)s AND i.connection = %(connection)s
    ),
    counted AS (SELECT count(*), count(*) - count(employee_id) FROM people),
    listed AS (
        SELECT * FROM people
        WHERE NOT %(after)s OR (employee_id IS NOT NULL, person) > (%(known)s, %(person)s)
        ORDER BY employee_id IS NOT NULL, person
        LIMIT %(limit)s
    )
    SELECT counted.*, listed.* FROM counted LEFT JOIN listed ON true
    ORDER BY listed.employee_id IS NOT NULL, listed.person
"""  # noqa: S608 - a constant of this module


def list_people(
    warehouse: Warehouse,
    source: str,
    connection_name: str,
    *,
    limit: int,
    after: PersonPosition | None = None,
) -> PeoplePage:
    """A connection's people, at most `limit`, the unknown ones first; behind the position `after`.

    An id is one connection's alone; an e-mail address is the same person's everywhere.
    """
    known, person = after or PersonPosition(known=False, person="")
    values = {
        "source": source,
        "connection": connection_name,
        "after": after is not None,
        "known": known,
        "person": person,
        "limit": limit,
    }
    with warehouse.connection() as connection:
        found = connection.execute(_PEOPLE, values).fetchall()
    total, unknown = (int(str(number)) for number in found[0][:2])
    # Without anybody to list, one row has the numbers alone.
    people = [KnownPerson(*row[2:]) for row in found if row[2] is not None]  # type: ignore[arg-type]
    return PeoplePage(people, total, unknown)


@dataclass(frozen=True, slots=True)
class Filled:
    """Result of filling employee ids into events: how many people's events, and how many events."""

    people: int
    events: int


_FILL = """
    WITH filled AS (
        UPDATE events AS t
        SET employee_id = i.employee_id, row_hash = NULL, updated_at = now()
        FROM unnest(%(people)s::text[], %(employees)s::text[]) AS i (person, employee_id)
        WHERE t.source_kind_id = %(source)s AND t.connection = %(connection)s
          AND i.person = CASE WHEN strpos(t.person, '@') > 0 THEN lower(t.person) ELSE t.person END
          AND t.employee_id IS NULL
        RETURNING i.person
    )
    SELECT count(DISTINCT person), count(*) FROM filled
"""


def fill_events(warehouse: Warehouse, source: str, connection_name: str) -> Filled:
    """Fill employee ids into events of a connection's people who became known later.

    In one transaction. The `row_hash` of these events becomes NULL, so that the next load compares
    them anew. Safe to repeat.
    """
    with warehouse.connection() as connection:
        if connection.execute("SELECT to_regclass('events')").fetchone() == (None,):
            return Filled(0, 0)
        known = _known(connection, source, connection_name)
        values = {
            "source": source,
            "connection": connection_name,
            "people": list(known),
            "employees": list(known.values()),
        }
        found = only_row(connection.execute(_FILL, values))
    return Filled(int(str(found[0])), int(str(found[1])))
