"""The settings of a source before they are written: what to ask for, and what is wrong."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from temporaletl.bound_connection import DEFAULT, bound
from temporaletl.checks.sources import load_settings
from temporaletl.connections.file import connections_file
from temporaletl.control.operations.settings_files import (
    read_text,
    with_connection,
    with_variables,
    write_files,
)
from temporaletl.control.operations.sources import find_source
from temporaletl.errors import ConfigurationError, SettingsError
from temporaletl.setting_catalogue import (
    Setting,
    own_classes,
    settings_of_class,
    settings_of_source,
)
from temporaletl.settings.environment import given_variables, near_variable

#: Where variables are written, in the folder of the command.
DOTENV = Path(".env")
#: Where connections are, if nothing says where.
_CONNECTIONS = Path("connections.toml")


@dataclass(frozen=True, slots=True)
class Questions:
    """What is asked of a source: what it wants anyway, what one way to log in wants, and more."""

    required: tuple[Setting, ...]
    logins: Mapping[str, tuple[Setting, ...]]
    usual: tuple[Setting, ...]

    def __iter__(self) -> Iterator[Setting]:
        yield from self.required
        for settings in self.logins.values():
            yield from settings
        yield from self.usual


def questions_of(source: str) -> Questions:
    """What to ask of a source.

    Raises:
        UnknownSourceError: there is no such source; names those there are.
    """
    find_source(source)
    required: list[Setting] = []
    logins: dict[str, tuple[Setting, ...]] = {}
    usual: list[Setting] = []
    for cls in own_classes(source):
        by_field = dict(zip(cls.model_fields, settings_of_class(cls), strict=True))
        required += [one for one in by_field.values() if one.required]
        usual += [by_field[name] for name in cls.usual]
        for login, names in cls.logins.items():
            wanted = (by_field[name] for name in names)
            logins.setdefault(login, tuple(replace(o, required=not o.default) for o in wanted))
    return Questions(tuple(required), logins, tuple(usual))


def check_name(source: str, name: str) -> Setting:
    """The setting of a source with that variable.

    Raises:
        ConfigurationError: there is none; names the one that may be meant.
    """
    known = {each: one for one in settings_of_source(source) for each in one.names}
    if name not in known:
        near = near_variable(name, known)
        hint = f": did you mean {near}?" if near else f" (`etl settings {source}` lists them)"
        raise ConfigurationError(f"{name} is no setting of source {source!r}{hint}")
    return known[name]


def fault_of(source: str, name: str, value: str) -> str | None:
    """What is wrong with the value of one setting, by the source's own class; None: nothing."""
    with bound(source, DEFAULT):
        for cls in own_classes(source):
            if any(name in one.names for one in settings_of_class(cls)):
                return cls.fault_of(name, value)
    return None


def takes_file(source: str, name: str) -> bool:
    """Whether the setting is a key on several lines, which nobody types."""
    return any(
        one.names[0] == name and field in cls.key_secrets
        for cls in own_classes(source)
        for field, one in zip(cls.model_fields, settings_of_class(cls), strict=True)
    )


@dataclass(frozen=True, slots=True)
class Setup:
    """Settings of a source that are to be written: for `default` to `.env`, else as a connection.

    `places` says where the values of some are: `{"env": …}` or `{"file": …}`. Of a connection, the
    values of other secrets go to `.env`, under names of their own.
    """

    source: str
    connection: str = DEFAULT
    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    places: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def file(self) -> Path | None:
        """The connections file; None for `default`."""
        if self.connection == DEFAULT:
            return None
        return connections_file() or _CONNECTIONS.absolute()

    def variables(self) -> dict[str, str]:
        """What goes to `.env`."""
        if self.file is None:
            return dict(self.values)
        found = {self._own_name(name): self.values[name] for name in self._secrets()}
        return found if connections_file() else {"ETL_CONNECTIONS": str(self.file), **found}

    def section(self) -> dict[str, Any]:
        """What goes to the connections file."""
        secrets = self._secrets()
        literals = {name: one for name, one in self.values.items() if name not in secrets}
        references = {name: {"env": self._own_name(name)} for name in secrets}
        given = {name: dict(place) for name, place in self.places.items()}
        return {"source": self.source, **literals, **references, **given}

    def _secrets(self) -> list[str]:
        return [name for name in self.values if check_name(self.source, name).secret]

    def _own_name(self, name: str) -> str:
        return f"{self.connection.upper()}_{name}"

    @contextmanager
    def tried(self) -> Iterator[None]:
        """Have the settings in this context, as if they were written."""
        if self.file is None:
            with given_variables(self.values):
                yield
            return
        with TemporaryDirectory(prefix="etl-init-") as folder:
            file = Path(folder) / "connections.toml"
            text = with_connection("", self.connection, self.section(), file=self.file)
            file.write_text(text, encoding="utf-8")
            with given_variables({**self.variables(), "ETL_CONNECTIONS": str(file)}):
                yield

    def check(self) -> None:
        """Check the settings together, as a run begins with them.

        Raises:
            ConfigurationError: one is missing or wrong; names those that are concerned.
        """
        planner = find_source(self.source)
        with self.tried(), bound(self.source, self.connection):
            load_settings(self.source, planner)

    def write(self) -> list[Path]:
        """Write the settings, all or none; return the files.

        Raises:
            ConfigurationError: a file cannot be read or written, or not be changed so.
        """
        texts = {}
        if variables := self.variables():
            texts[DOTENV] = with_variables(read_text(DOTENV), variables, file=DOTENV)
        if self.file is not None:
            text = read_text(self.file)
            texts[self.file] = with_connection(
                text, self.connection, self.section(), file=self.file
            )
        write_files(texts)
        return list(texts)


def concerned(error: ConfigurationError, questions: Questions) -> list[str]:
    """The variables that are to be asked for again, where the settings do not go together."""
    named = error.variables if isinstance(error, SettingsError) and error.variables else None
    if named is None:
        named = frozenset(re.findall(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+", str(error)))
    return [one.names[0] for one in questions if named & {*one.names}]
