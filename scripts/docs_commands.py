"""Prints the reference page of commands, from the commands themselves: see scripts/docs."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import typer

from temporaletl.control.cli.main import app as etl
from temporaletl.queuer.schedule import app as schedule

_INTRODUCTION = """\
# Commands

<!-- Written by scripts/docs from the commands' own help: change that, then run scripts/docs. -->

Every command explains itself with `--help` as well. Commands with `--json` print one JSON document
on standard output and nothing else there; progress and errors go to standard error.

| exit status | meaning |
| --- | --- |
| 0 | done |
| 1 | the work failed, nothing has the name that was given, or a server does not answer |
| 2 | wrong usage or configuration: the message says what to change |
"""

_SCRIPT = """
## Schedule script

`schedule.py` in the folder `queuer` creates or updates a schedule without the rest of the command
line: `cd queuer && python schedule.py jira 1 3` loads Jira on Mondays at 03:00 UTC. It
finds the platform as `etl` does: by its settings, or the stack that runs on this machine.
"""


def page() -> Iterator[str]:
    """The lines of the page."""
    yield _INTRODUCTION
    root: Any = typer.main.get_command(etl)
    for panel in dict.fromkeys(command.rich_help_panel for command in root.commands.values()):
        yield f"## {panel}\n"
        for command in root.commands.values():
            if command.rich_help_panel == panel:
                yield from _described(f"etl {command.name}", command)
    yield "## Every command\n"
    yield from _table(root.params)
    yield _SCRIPT
    yield from _described("python schedule.py", typer.main.get_command(schedule))


def _described(name: str, command: Any) -> Iterator[str]:
    yield f"### {name}\n"
    yield f"{command.help}\n"
    inner: Mapping[str, Any] = getattr(command, "commands", {})
    if inner:
        for part in inner.values():
            yield from _described(f"{name} {part.name}", part)
        return
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = "[OPTIONS]" if len(command.params) > len(arguments) else ""
    words = [_metavar(one) if one.required else f"[{_metavar(one)}]" for one in arguments]
    yield f"```console\n$ {' '.join(filter(None, [name, *words, options]))}\n```\n"
    yield from _table(command.params)
    if command.epilog:
        yield "```console"
        yield from re.sub(r"\[/?(bold|dim|yellow)\]", "", command.epilog).splitlines()[1:]
        yield "```\n"


def _table(parameters: list[Any]) -> Iterator[str]:
    if not parameters:
        return
    yield "| argument or option | default | meaning |"
    yield "| --- | --- | --- |"
    for one in parameters:
        argument = one.param_type_name == "argument"
        name = _metavar(one) if argument else " ".join([*one.opts, _metavar(one)]).strip()
        yield f"| `{name}` | {_default(one)} | {_cell(one.help)} |"
    yield ""


def _metavar(parameter: Any) -> str:
    if parameter.metavar is not None:
        return str(parameter.metavar)
    if parameter.param_type_name == "option":
        return "" if parameter.is_flag else "VALUE"
    return str(parameter.name).upper()


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return _cell(parameter.show_default)
    if parameter.default in (None, False):
        return ""
    value = getattr(parameter.default, "value", parameter.default)
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    print("\n".join(page()).rstrip())
