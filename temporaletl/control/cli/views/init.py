"""`etl init`: the dialogue about a source's settings, their check, and what was written.

Questions and remarks go to standard error. Nothing is written before all is known.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from getpass import getpass
from pathlib import Path

import typer
from dotenv import dotenv_values

from temporaletl.bound_connection import DEFAULT
from temporaletl.checks.messages import Check
from temporaletl.connections.entries import Connection
from temporaletl.connections.providers import read_entries
from temporaletl.control.cli.output import note, print_json, say
from temporaletl.control.cli.session import begin_here, call
from temporaletl.control.cli.views.sources import EXIT_STATUS, say_check
from temporaletl.control.operations.checks import check_reading, status_of
from temporaletl.control.operations.settings_files import others_may_read
from temporaletl.control.operations.source_setup import (
    DOTENV,
    Questions,
    Setup,
    check_name,
    concerned,
    fault_of,
    questions_of,
    takes_file,
)
from temporaletl.embedded.running import elsewhere, read_running
from temporaletl.errors import ConfigurationError
from temporaletl.names import connection_option
from temporaletl.secrets import remember_secret
from temporaletl.setting_catalogue import Setting


@dataclass(frozen=True, slots=True)
class Options:
    """How settings are found, and what becomes of them."""

    ask: bool
    yes: bool
    check: bool
    as_json: bool


def init(
    source: str,
    connection: str,
    values: Mapping[str, str],
    places: Mapping[str, Mapping[str, str]],
    options: Options,
) -> int:
    """Find the settings, check them, and write them; the status of a check that fails.

    Raises:
        ConfigurationError: a setting is missing or wrong and nobody can be asked, or a file.
    """
    own = dict(os.environ)
    begin_here()
    questions = questions_of(source)
    for name, value in values.items():
        if check_name(source, name).secret:
            remember_secret(value)
        if fault := fault_of(source, name, value):
            raise ConfigurationError(fault)
    for name in places:
        check_name(source, name)
    setup = Setup(source, connection, values=values, places=places)
    if options.ask and sys.stdin.isatty():
        setup, checks = _ask(setup, questions, options, own)
    else:
        setup, checks = _find(setup, questions, options, own)
    if (status := EXIT_STATUS[status_of(checks)]) and not _written_all_the_same(options):
        if options.as_json:
            _print_json(setup, checks, None)
        note("Nothing is written.", style="red")
        return status
    files = setup.write()
    if options.as_json:
        _print_json(setup, checks, files)
    else:
        _say_written(setup, files, own)
    return 0


def _find(
    setup: Setup, questions: Questions, options: Options, own: Mapping[str, str]
) -> tuple[Setup, list[Check]]:
    """The settings that the options and the environment say, and what the source says of them."""
    if setup.connection == DEFAULT:
        found = {name: own[name] for one in questions for name in one.names if own.get(name)}
        setup = replace(setup, values={**found, **setup.values})
    changed = [*_changed(setup)]
    if changed and not options.yes:
        raise ConfigurationError(
            f"{' and '.join(changed)} would be changed in {_whose(setup)}: add --yes if that is "
            "meant"
        )
    try:
        setup.check()
    except ConfigurationError as error:
        raise ConfigurationError(
            f"{error}; give what is missing by --set NAME=VALUE"
            + (" or in the environment" if setup.connection == DEFAULT else ", --env or --file")
            + ", or run `etl init` on a terminal, which asks"
        ) from None
    return setup, _try(setup, options)


def _ask(
    setup: Setup, questions: Questions, options: Options, own: Mapping[str, str]
) -> tuple[Setup, list[Check]]:
    """The settings as a person answers, asked again until they go together and the source agrees.

    Raises:
        typer.Abort: the person gave up.
    """
    dialogue = _Dialogue(setup, _present(setup, own), options)
    asked = [*questions.required, *_login(dialogue, questions), *questions.usual]
    while True:
        dialogue.ask(asked)
        try:
            dialogue.setup.check()
        except ConfigurationError as error:
            note(str(error), style="red")
            again = concerned(error, questions)
            asked = [one for one in asked if one.names[0] in again] or asked
            dialogue.forget(asked)
            continue
        checks = _try(dialogue.setup, options)
        if status_of(checks) == "good" or not typer.confirm(
            "The source does not take these settings. Answer again?", default=True, err=True
        ):
            return dialogue.setup, checks
        asked = [*questions.required, *_login(dialogue, questions), *questions.usual]
        dialogue.forget(asked)


def _login(dialogue: "_Dialogue", questions: Questions) -> Sequence[Setting]:
    """The settings of one way to log in; the one of which most is there is suggested."""
    logins = [*questions.logins]
    if not logins:
        return ()

    def known(login: str) -> int:
        return sum(dialogue.knows(one.names[0]) for one in questions.logins[login])

    suggested = logins.index(max(logins, key=known)) + 1
    for number, login in enumerate(logins, start=1):
        names = ", ".join(one.names[0] for one in questions.logins[login]) or "no settings"
        note(f"{number}  {login} ({names})")
    while True:
        answer = typer.prompt("Which login", default=str(suggested), err=True)
        if answer.isdecimal() and 1 <= int(answer) <= len(logins):
            return questions.logins[logins[int(answer) - 1]]
        note(f"{answer} is none of 1 to {len(logins)}", style="red")


class _Dialogue:
    """The answers so far. What options gave is not asked, unless it must be corrected."""

    def __init__(self, setup: Setup, present: Mapping[str, str], options: Options) -> None:
        self.setup = setup
        self._present = dict(present)
        self._options = options
        self._answered = {*setup.values, *setup.places}

    def knows(self, name: str) -> bool:
        return name in self._answered or name in self._present

    def forget(self, settings: Sequence[Setting]) -> None:
        """Have settings asked for again; what was answered is suggested."""
        for one in settings:
            name = one.names[0]
            if name in self.setup.values:
                self._present[name] = self.setup.values[name]
            self._answered.discard(name)

    def ask(self, settings: Sequence[Setting]) -> None:
        for one in settings:
            name = one.names[0]
            if name in self._answered:
                continue
            self._answered.add(name)
            value = self._answer(one)
            kept = {key: each for key, each in self.setup.values.items() if key != name}
            self.setup = replace(self.setup, values={**kept, **({name: value} if value else {})})

    def _answer(self, setting: Setting) -> str:
        """A value that the source's settings take, empty for none."""
        name, present = setting.names[0], self._present.get(setting.names[0], "")
        note(f"{name}  {setting.purpose}" if setting.purpose else name)
        while True:
            answer = _read_file(self.setup.source, name, self._prompt(setting, present)) or present
            if setting.secret:
                remember_secret(answer)
            if not answer and setting.required:
                note(f"{name} is not set, and is needed", style="red")
            elif answer and (fault := fault_of(self.setup.source, name, answer)):
                note(fault, style="red")
            elif self._may_change(name, answer):
                return answer

    def _prompt(self, setting: Setting, present: str) -> str:
        if setting.secret:
            hint = "not shown" + (", Enter keeps it" if present else "")
        else:
            hint = present or setting.default or ("" if setting.required else "Enter: none")
        text = f"  {setting.names[0]}" + (f" [{hint}]" if hint else "")
        if setting.secret:
            return _read_hidden(f"{text}: ")
        answer: str = typer.prompt(text, default="", show_default=False, err=True)
        return answer.strip()

    def _may_change(self, name: str, value: str) -> bool:
        wanted = replace(self.setup, values={name: value}, places={})
        if self._options.yes or name not in _changed(wanted):
            return True
        return typer.confirm(f"  Change {name} in {_whose(wanted)}?", default=False, err=True)


def _read_hidden(prompt: str) -> str:
    """An answer that the terminal does not show, from before its prompt is seen."""
    try:
        return getpass(prompt).strip()
    except (EOFError, KeyboardInterrupt):
        raise typer.Abort from None


def _read_file(source: str, name: str, answer: str) -> str:
    """What a key's file holds, where the answer is its path: nobody types several lines."""
    if not answer or not takes_file(source, name):
        return answer
    path = Path(answer).expanduser()
    try:
        return path.read_text(encoding="utf-8").strip() if path.is_file() else answer
    except (OSError, UnicodeDecodeError):
        return answer


def _present(setup: Setup, own: Mapping[str, str]) -> dict[str, str]:
    """The values that there are: the environment's and .env's, or those of the connection."""
    if setup.connection == DEFAULT:
        return {**_in_dotenv(), **{name: value for name, value in own.items() if value}}
    entry = _entry(setup)
    return {} if entry is None else {**entry.literals}


def _changed(setup: Setup) -> list[str]:
    """The settings that have another value where they are to be written."""
    dotenv = _in_dotenv()
    found = [name for name, value in setup.variables().items() if dotenv.get(name, value) != value]
    entry = _entry(setup)
    if entry is not None:
        found += [
            name
            for name, value in setup.values.items()
            if name in entry.settings and entry.literals.get(name, value) != value
        ]
        found += [name for name in setup.places if name in entry.settings]
    return found


def _entry(setup: Setup) -> Connection | None:
    """The connection as the file has it now."""
    found = dict(read_entries()).get(setup.connection)
    if isinstance(found, ConfigurationError):
        raise found
    if found is not None and found.source != setup.source:
        raise ConfigurationError(f"{found.what} is one of source {found.source!r}")
    return found


def _in_dotenv() -> dict[str, str]:
    found = dotenv_values(DOTENV, encoding="utf-8-sig")
    return {name: value for name, value in found.items() if value}


def _whose(setup: Setup) -> str:
    return f"{DOTENV}" if setup.file is None else f"connection {setup.connection!r}"


def _try(setup: Setup, options: Options) -> list[Check]:
    """Check the settings against the source, unless that is not wanted."""
    if not options.check:
        return []

    def report(check: Check) -> None:
        if not options.as_json:
            say_check(check)

    def notice(trouble: str) -> None:
        note(f"waiting: {trouble}", style="yellow")

    with setup.tried():
        return call(check_reading, setup.source, report, connection=setup.connection, notice=notice)


def _written_all_the_same(options: Options) -> bool:
    if not options.ask or not sys.stdin.isatty():
        return False
    return typer.confirm("Write them all the same?", default=False, err=True)


def _next(setup: Setup) -> str:
    whose = f"{setup.source}{connection_option(setup.connection)}"
    if read_running() is not None:
        return f"etl run {whose} --mode full --wait"
    if elsewhere():
        return f"etl check {whose}"
    return f"etl run {whose} --mode full --engine local"


def _say_written(setup: Setup, files: Sequence[Path], own: Mapping[str, str]) -> None:
    for file in files:
        names = setup.section() if file == setup.file else setup.variables()
        say(f"wrote {file}: {', '.join(name for name in names if name != 'source')}")
        if file == DOTENV and others_may_read(file):
            note(f"others may read {file}: chmod 600 {file}", style="yellow")
    if not files:
        say("nothing to write: the settings are there")
    for name, value in setup.variables().items():
        if own.get(name, value) != value:
            note(f"the environment's {name} wins over {DOTENV}'s: unset it", style="yellow")
    say(f"Next: {_next(setup)}")


def _print_json(setup: Setup, checks: Sequence[Check], files: Sequence[Path] | None) -> None:
    """Print the outcome; no `files` where nothing was written, as a check failed."""
    print_json(
        {
            "source": setup.source,
            "connection": setup.connection,
            "ok": files is not None,
            "files": [str(file) for file in files or ()],
            "settings": sorted({*setup.values, *setup.places}) if files else [],
            "checks": [check.model_dump(exclude={"misconfigured"}) for check in checks],
            "next": None if files is None else _next(setup),
        }
    )
