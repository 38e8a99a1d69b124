"""`etl connections`: output of connections, and of their checks."""

from collections.abc import Mapping

from pydantic import JsonValue
from rich.text import Text

from temporaletl.command import MISUSED
from temporaletl.control.cli.output import add_row, make_table, note, print_json, print_table, say
from temporaletl.control.cli.session import call
from temporaletl.control.cli.views.sources import EXIT_STATUS, say_check
from temporaletl.control.operations.checks import status_of
from temporaletl.control.operations.connections import (
    CheckedConnection,
    check_connections,
    list_connections,
)
from temporaletl.control.operations.stored_connections import (
    PutConnection,
    create_connection,
    delete_connection,
    replace_connection,
)
from temporaletl.names import label


def print_connections(*, as_json: bool) -> int:
    """List the connections; 2 where one is wrong."""
    found = call(list_connections)
    if as_json:
        print_json([connection.model_dump(mode="json") for connection in found.connections])
    elif not found.connections and found.file is None:
        say(
            "Only `default`, the environment: set ETL_CONNECTIONS to a file for others, or make "
            "them in the warehouse (`etl connections create`)."
        )
    elif not found.connections:
        say(f"{found.file} has no connections: only `default`, the environment, is there.")
    else:
        table = make_table("connection", "source", "in", "settings", below=("settings",))
        for connection in found.connections:
            fault, names = connection.fault, ", ".join(connection.settings)
            settings = Text(fault, style="red") if fault else names
            add_row(table, connection.name, connection.source or "", connection.origin, settings)
        print_table(table)
    if found.unread is not None:
        note(f"those of the warehouse cannot be read: {found.unread}", style="yellow")
    return MISUSED if any(connection.fault for connection in found.connections) else 0


def print_checks(name: str | None, *, as_json: bool) -> int:
    """Print the results of the connections' checks; the status is as of `etl check`."""

    def report(checked: CheckedConnection) -> None:
        if not as_json:
            say(f"{checked.name} ({checked.source})" if checked.source else checked.name)
            for check in checked.checks:
                say_check(check)

    results = call(check_connections, name, report)
    if as_json:
        hidden = {"checks": {"__all__": {"misconfigured"}}}
        print_json([result.model_dump(exclude=hidden) | {"ok": result.good} for result in results])
    elif not results:
        say("There are no connections beside `default`, which `etl check SOURCE` tries.")
    return EXIT_STATUS[status_of(check for result in results for check in result.checks)]


def create(
    name: str,
    source: str,
    settings: Mapping[str, JsonValue],
    secrets: Mapping[str, Mapping[str, str]],
    *,
    as_json: bool,
) -> None:
    """Store a connection in the warehouse."""
    made = call(create_connection, name, source, settings, secrets)
    _say_put("created", made, as_json=as_json)


def replace(
    name: str,
    settings: Mapping[str, JsonValue],
    secrets: Mapping[str, Mapping[str, str]],
    version: int | None,
    *,
    as_json: bool,
) -> None:
    """Replace what a connection of the warehouse declares."""
    made = call(replace_connection, name, settings, secrets, expected_version=version)
    _say_put("replaced", made, as_json=as_json)


def _say_put(done: str, made: PutConnection, *, as_json: bool) -> None:
    stored = made.connection
    if as_json:
        print_json(stored.model_dump(mode="json") | {"notes": list(made.notes)})
        return
    say(f"{done} connection {label(stored.source, stored.name)}, version {stored.version}")
    for unread in made.notes:
        note(f"not checked here, where it cannot be read: {unread}", style="yellow")


def delete(name: str, *, force: bool) -> None:
    """Delete a connection of the warehouse."""
    gone = call(delete_connection, name, force=force)
    what = label(gone.connection.source, gone.connection.name)
    kept = "; its rows stay, its watermarks are deleted" if gone.streams else ""
    say(f"deleted connection {what}{kept}")
