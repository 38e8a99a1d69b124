"""`etl connections`: output of connections, and of their checks."""

import asyncio

from rich.text import Text

from temporaletl.command import MISUSED
from temporaletl.control.cli.output import add_row, make_table, print_json, print_table, say
from temporaletl.control.cli.session import begin
from temporaletl.control.cli.views.sources import say_check
from temporaletl.control.operations.connections import (
    CheckedConnection,
    check_connections,
    list_connections,
)


def print_connections(*, as_json: bool) -> int:
    """List the connections; 2 where one is wrong."""
    begin()
    found = list_connections()
    if as_json:
        print_json([connection.model_dump() for connection in found.connections])
    elif found.file is None:
        say("Only `default`, the environment: set ETL_CONNECTIONS to a file for others.")
    elif not found.connections:
        say(f"{found.file} has no connections: only `default`, the environment, is there.")
    else:
        table = make_table("connection", "source", "settings")
        for connection in found.connections:
            fault, names = connection.fault, ", ".join(connection.settings)
            settings = Text(fault, style="red") if fault else names
            add_row(table, connection.name, connection.source or "", settings)
        print_table(table)
    return MISUSED if any(connection.fault for connection in found.connections) else 0


def print_checks(name: str | None, *, as_json: bool) -> int:
    """Print the results of the connections' checks; 2 where one is wrong."""
    begin()

    def report(checked: CheckedConnection) -> None:
        if not as_json:
            say(f"{checked.name} ({checked.source})" if checked.source else checked.name)
            for check in checked.checks:
                say_check(check)

    results = asyncio.run(check_connections(name, report))
    if as_json:
        print_json([result.model_dump() | {"ok": result.good} for result in results])
    elif not results:
        say("There are no connections beside `default`, which `etl check SOURCE` tries.")
    return 0 if all(result.good for result in results) else MISUSED
