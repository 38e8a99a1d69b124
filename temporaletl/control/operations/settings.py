"""`etl settings`: every setting with its value, and where the value is from."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

from dotenv import dotenv_values

from temporaletl.bound_connection import DEFAULT
from temporaletl.connections.declarations import declaration_of
from temporaletl.connections.entries import Connection, Reference
from temporaletl.connections.providers import provided, read_entries
from temporaletl.control.operations.connections import unknown_connection
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.sources import find_source, known_planners
from temporaletl.errors import ConfigurationError
from temporaletl.messages import Message
from temporaletl.names import label
from temporaletl.secrets import REDACTED
from temporaletl.setting_catalogue import (
    Setting,
    UnknownVariable,
    own_classes,
    platform_settings,
    settings_of_class,
    settings_of_source,
    unknown_variables,
)
from temporaletl.settings.secret_files import FILE, read_secret

#: Whose the settings are that no source has.
PLATFORM = "platform"
#: Origins of values. A connection's own say where its declaration or the secret is.
BY_DEFAULT, IN_ENVIRONMENT, IN_DOTENV, BY_STACK = "default", "environment", ".env", "etl up"


class SettingReport(Message):
    """A setting with its value, which is never a secret's; `of` is a source, or `platform`.

    The value of a setting that is in a file, or is a named connection's, may be unreadable here:
    `fault` says why.
    """

    of: str
    name: str
    value: str
    origin: str
    secret: bool
    purpose: str
    fault: str | None = None

    @property
    def is_set(self) -> bool:
        """Whether the value is another than the default."""
        return self.origin != BY_DEFAULT


class Settings(NamedTuple):
    """All settings; the variables that are none; and connections that cannot be read, and why."""

    settings: list[SettingReport]
    unknown: list[UnknownVariable]
    faults: list[str]


async def list_settings(
    platform: Platform,
    own: Mapping[str, str],
    source: str | None = None,
    connection: str | None = None,
) -> Settings:
    """List the settings of the platform and of all sources, or those of one source.

    `own` is the environment that the process began with: what else is in it now, a stack of this
    machine has added. Those of the source's `connection` alone, where one is given.

    Raises:
        UnknownSourceError: there is no such source; names those there are.
        UnknownConnectionError: the source has no such connection.
        ConfigurationError: the connections file as a whole cannot be read.
    """
    if source is not None:
        find_source(source)
    sources = [*known_planners()] if source is None else [source]
    stored = await platform.stored_connections()
    with provided(stored):
        entries = await asyncio.to_thread(read_entries)
        unknown = unknown_variables(sources)
    found: list[SettingReport] = []
    variables = _Variables(own)
    if source is None:
        found += [one for each in platform_settings() for one in variables.of(PLATFORM, each)]
    if connection in (None, DEFAULT):
        for name in sources:
            wanted = _own_settings(name) if source is None else settings_of_source(name)
            found += [one for each in wanted for one in variables.of(name, each)]
    faults = [] if stored is None or stored.fault is None else [stored.fault]
    is_there = connection in (None, DEFAULT)
    for name, entry in entries:
        if connection not in (None, name):
            continue
        if isinstance(entry, ConfigurationError):
            faults.append(str(entry))
            is_there = True
        elif entry.source in sources:
            found += _of_connection(entry)
            is_there = True
    if not is_there:
        raise unknown_connection(connection or DEFAULT)
    return Settings(found, unknown, faults)


def _own_settings(source: str) -> list[Setting]:
    """The settings of a source but those that it borrows from another one."""
    own, declared = own_classes(source), declaration_of(source)
    borrowed = {
        one.names[0]
        for cls in ([] if declared is None else declared.classes)
        if cls not in own
        for one in settings_of_class(cls)
    }
    return [one for one in settings_of_source(source) if one.names[0] not in borrowed]


class _Variables:
    """The variables that settings of the environment are looked up in."""

    def __init__(self, own: Mapping[str, str]) -> None:
        added = {name: value for name, value in os.environ.items() if name not in own}
        self._places = [
            (origin, {name.upper(): value for name, value in found.items() if value})
            for origin, found in (
                (IN_ENVIRONMENT, own),
                (IN_DOTENV, dotenv_values(".env", encoding="utf-8-sig")),
                (BY_STACK, added),
            )
        ]

    def of(self, whose: str, setting: Setting) -> Iterator[SettingReport]:
        """The setting with its value; for a name with `*`, each variable that it stands for."""
        for name in self._names(setting):
            pattern = "*" in setting.names[0]
            value, origin = self._find((name,) if pattern else setting.names)
            file, fault = self._file((name + FILE,) if pattern else setting.files, origin)
            if file is not None:
                origin = f"file {file.shown}"
            yield _report(whose, setting, name, value or setting.default, origin, fault)

    def _file(self, variables: tuple[str, ...], origin: str) -> tuple[Reference | None, str | None]:
        """The file that a secret is in, and what is wrong with that."""
        path, found = self._find(variables)
        if found == BY_DEFAULT:
            return None, None
        file = Reference("file", path)
        if origin not in {BY_DEFAULT, BY_STACK}:
            return file, f"{variables[0].removesuffix(FILE)} is set, too: unset one of them"
        try:
            read_secret(path, what=variables[0])
        except ConfigurationError as error:
            return file, str(error)
        return file, None

    def _names(self, setting: Setting) -> list[str]:
        pattern = setting.names[0]
        if "*" not in pattern:
            return [pattern]
        found = {
            name.removesuffix(FILE)
            for _, place in self._places
            for name in place
            if fnmatchcase(name, pattern)
        }
        return sorted(found) or [pattern]

    def _find(self, names: tuple[str, ...]) -> tuple[str, str]:
        for origin, place in self._places:
            for name in names:
                if name in place:
                    return place[name], origin
        return "", BY_DEFAULT


def _of_connection(entry: Connection) -> Iterator[SettingReport]:
    whose, faults = label(entry.source, entry.name), entry.unreadable()
    values = {} if faults else entry.values()
    for setting in settings_of_source(entry.source):
        given = [
            name
            for name in entry.settings
            if name in setting.names or fnmatchcase(name, setting.names[0])
        ]
        for name in given:
            reference = entry.references.get(name)
            value = entry.literals.get(name, values.get(name, ""))
            origin = f"connection ({entry.origin})"
            if reference is not None:
                origin = f"{reference.kind} {reference.shown}"
            yield _report(whose, setting, name, value, origin, faults.get(name))
        if not given:
            yield _report(whose, setting, setting.names[0], setting.default, BY_DEFAULT)


def _report(
    whose: str, setting: Setting, name: str, value: str, origin: str, fault: str | None = None
) -> SettingReport:
    return SettingReport(
        of=whose,
        name=name,
        value=REDACTED if setting.secret and origin != BY_DEFAULT else value,
        origin=origin,
        secret=setting.secret,
        purpose=setting.purpose,
        fault=fault,
    )
