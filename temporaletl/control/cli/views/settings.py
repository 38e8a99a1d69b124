"""`etl settings`: output."""

import os
from itertools import groupby

from rich.text import Text

from temporaletl.command import MISUSED
from temporaletl.control.cli.output import add_row, make_table, note, print_json, print_table, say
from temporaletl.control.cli.session import begin_here, call
from temporaletl.control.operations.settings import BY_DEFAULT, SettingReport, list_settings


def print_settings(
    source: str | None, connection: str | None, *, set_only: bool, as_json: bool
) -> int:
    """List the settings; 2 where a connection is wrong."""
    own = dict(os.environ)
    begin_here()
    found = call(list_settings, own, source, connection)
    shown = [one for one in found.settings if one.is_set or not set_only]
    if as_json:
        print_json(
            {
                "settings": [one.model_dump(mode="json") for one in shown],
                "unknown": [{"name": one.name, "near": one.near} for one in found.unknown],
                "faults": found.faults,
            }
        )
        return MISUSED if found.faults else 0
    for position, (whose, settings) in enumerate(groupby(shown, lambda one: one.of)):
        if position:
            say("")
        say(whose, style="bold")
        _print(list(settings))
    if not shown:
        say("Nothing is set: everything has its default.")
    for unknown in found.unknown:
        note(str(unknown), style="yellow")
    for fault in found.faults:
        note(fault, style="red")
    return MISUSED if found.faults else 0


def _print(settings: list[SettingReport]) -> None:
    table = make_table("setting", "from", "value", below=("value",))
    for one in settings:
        value = Text(one.fault, style="red") if one.fault else one.value or "-"
        origin = Text(one.origin, style="dim" if one.origin == BY_DEFAULT else "")
        add_row(table, one.name, origin, value)
    print_table(table)
