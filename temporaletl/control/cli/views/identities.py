"""`etl identities`: output of people, and of the events that employee ids are filled into."""

import dataclasses

from temporaletl.control.cli.output import (
    add_row,
    count,
    make_table,
    note,
    print_json,
    print_table,
    say,
)
from temporaletl.control.cli.session import call
from temporaletl.control.operations.identities import fill_identities, list_identities
from temporaletl.names import label


def print_people(source: str, connection: str, limit: int, *, as_json: bool) -> None:
    """Print a connection's people, the unknown ones first."""
    people, total, unknown = call(list_identities, source, connection=connection, limit=limit)
    if as_json:
        print_json([dataclasses.asdict(person) for person in people])
        return
    if not people:
        say(
            f"nobody of {label(source, connection)} is known: its next run reads them from the "
            "source, where it can"
        )
        return
    table = make_table("person", "employee", "e-mail", "name", below=("e-mail", "name"))
    for person in people:
        add_row(table, person.person, person.employee_id, person.email, person.name)
    print_table(table)
    if unknown:
        note(
            f"{unknown:,} of {count(total, 'person', 'people')}: no known employees", style="yellow"
        )
    if total > len(people):
        note(f"and {total - len(people):,} more (--limit)", style="dim")


def fill(source: str, connection: str, *, as_json: bool) -> None:
    """Fill employee ids into the connection's events of people who are known now."""
    filled = call(fill_identities, source, connection=connection)
    if as_json:
        print_json(dataclasses.asdict(filled))
        return
    say(
        f"{label(source, connection)}: {count(filled.events, 'event')} of "
        f"{count(filled.people, 'person', 'people')} filled in"
    )
