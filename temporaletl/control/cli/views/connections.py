"""What `etl connections` prints."""

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
        print_json([each.model_dump() for each in found.connections])
    elif found.file is None:
        say("Only `default`, the environment: set ETL_CONNECTIONS to a file for others.")
    elif not found.connections:
        say(f"{found.file} has no connections: only `default`, the environment, is there.")
    else:
        table = make_table("connection", "source", "settings")
        for each in found.connections:
            settings = Text(each.fault, style="red") if each.fault else ", ".join(each.settings)
            add_row(table, each.name, each.source or "", settings)
        print_table(table)
    return MISUSED if any(each.fault for each in found.connections) else 0


def print_checks(name: str | None, *, as_json: bool) -> int:
    """Print what trying each connection found; 2 where something is wrong."""
    begin()

    def hear(checked: CheckedConnection) -> None:
        if not as_json:
            say(f"{checked.name} ({checked.source})" if checked.source else checked.name)
            for check in checked.checks:
                say_check(check)

    results = asyncio.run(check_connections(name, hear))
    if as_json:
        print_json([each.model_dump() | {"ok": each.good} for each in results])
    elif not results:
        say("There are no connections beside `default`, which `etl check SOURCE` tries.")
    return 0 if all(each.good for each in results) else MISUSED
