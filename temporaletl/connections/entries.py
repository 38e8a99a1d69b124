"""One connection as it is declared: its settings, and where its secrets are; parsed and checked.

A declaration is `source` and settings under the names of their variables. A secret is never in it:
`{"env": "…"}` names an environment variable, which may stand in `.env`, and `{"file": "…"}` a file
that holds nothing else. Any other setting may be given so, too. Each is read when it is needed, so
that a new secret needs no restart.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dotenv import dotenv_values

from temporaletl.bound_connection import DEFAULT
from temporaletl.connections.declarations import Declaration, declaration_of, known_sources
from temporaletl.errors import ConfigurationError
from temporaletl.secrets import holds_secret, remember_secret
from temporaletl.settings.environment import near_variable, presently_given
from temporaletl.settings.fresh_within import FRESH_WITHIN, FreshWithin, parse_fresh_within
from temporaletl.settings.platform import variables_of
from temporaletl.settings.secret_files import is_on_disk, read_secret, remember_pasted

#: Where a connection is declared.
Origin = Literal["environment", "file", "warehouse"]

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LONGEST_NAME = 40
_KINDS = ("env", "file")
#: Shorter values are part of too many words to be taken out of a message.
_SHORTEST_VALUE = 4
_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")
#: Names that no secret looks like.
_PLAIN_VARIABLE = re.compile("[A-Z0-9_]+")


@dataclass(frozen=True, slots=True)
class Reference:
    """The location of a value: an environment variable (`env`) or a file."""

    kind: str
    location: str = field(repr=False)

    def __str__(self) -> str:
        """The location in words; it is left out where it may be a secret that was pasted."""
        if self.kind == "env":
            named = _PLAIN_VARIABLE.fullmatch(self.location)
            return f"the environment variable {self.location if named else 'that it names'}"
        return self.location if is_on_disk(self.location) else "the file that it names"

    @property
    def shown(self) -> str:
        """The location as it is; an ellipsis where it may be a secret that was pasted."""
        if self.kind == "env":
            is_location = _PLAIN_VARIABLE.fullmatch(self.location) or self.location in os.environ
        else:
            is_location = self.location.startswith("/") or is_on_disk(self.location)
        return self.location if is_location else "…"

    def absent(self) -> str:
        """As in words, where nothing is there: then it is also kept out of all other texts."""
        text = str(self)
        if self.location not in text:
            remember_pasted(self.location)
        return text


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection: its literal settings, and references to the others."""

    name: str
    source: str
    origin: Origin
    place: str  # of its declaration, in messages: the file's path
    literals: Mapping[str, str]
    references: Mapping[str, Reference]
    secrets: frozenset[str]  # names
    fresh_within: FreshWithin | None = None  # how old its streams may be

    @property
    def settings(self) -> tuple[str, ...]:
        """The names of the settings that it gives."""
        own = () if self.fresh_within is None else (FRESH_WITHIN,)
        return (*self.literals, *self.references, *own)

    @property
    def what(self) -> str:
        """Its name in messages."""
        return f"{self.place}: connection {self.name!r}"

    def values(self) -> dict[str, str]:
        """All settings by name, secrets included. Reads files.

        Raises:
            ConfigurationError: one is not where it is said to be; names file, connection and key.
        """
        found = dict(self.literals)
        for name, reference in self.references.items():
            found[name] = self._value(name, reference)
            if name in self.secrets:
                remember_secret(found[name])
        return found

    def unreadable(self) -> dict[str, str]:
        """The settings whose values cannot be read in this process, each with the reason."""
        found = {}
        for name, reference in self.references.items():
            try:
                self._value(name, reference)
            except ConfigurationError as error:
                found[name] = str(error).removeprefix(f"{self.what}: {name}: ")
        return found

    def _value(self, name: str, reference: Reference) -> str:
        if reference.kind == "env":
            places = (presently_given(), os.environ, dotenv())
            value = next((found for one in places if (found := one.get(reference.location))), None)
            if not value:
                raise ConfigurationError(f"{self.what}: {name}: {reference.absent()} is not set")
            return value
        is_secret = name in self.secrets
        what = f"{self.what}: {name}"
        return read_secret(reference.location, what=what, is_secret=is_secret).strip()

    def without_values(self, message: str) -> str:
        """A message about its settings, which may quote them, without their values."""
        for value in sorted(self.literals.values(), key=len, reverse=True):
            if len(value) >= _SHORTEST_VALUE:
                message = message.replace(value, "…")
        return message


def parse_connection(
    section: Mapping[str, Any], *, name: str, origin: Origin, place: str
) -> Connection:
    """Check a connection's declaration: its names, and that no secret is written out.

    The sources must be imported before. No value is read that is elsewhere.

    Raises:
        ConfigurationError: something in it is wrong; names the place, the connection and the key,
            and prints no value.
    """
    what = f"{place}: connection {name!r}"
    _check_name(what, name)
    source = section.get("source")
    if not isinstance(source, str):
        raise ConfigurationError(f'{what}: source is missing, as in source = "jira"')
    declared = declaration_of(source)
    if declared is None:
        raise ConfigurationError(
            f"{what}: source: there is no source {source!r}; those of which there can be "
            f"connections are {', '.join(known_sources())}"
        )
    if declared.unfit is not None:
        raise ConfigurationError(
            f"{what}: source {source!r} reads {declared.unfit}, which knows the environment alone: "
            "its author must make it a temporaletl.connections.source_settings.SourceSettings"
        )
    names = _variables(declared)
    literals: dict[str, str] = {}
    references: dict[str, Reference] = {}
    secrets: set[str] = set()
    fresh_within: FreshWithin | None = None
    for key, value in section.items():
        if key == "source":
            continue
        if key == FRESH_WITHIN:
            fresh_within = _fresh_within(f"{what}: {key}", value)
            continue
        if key not in names and not declared.takes_name(key):
            raise ConfigurationError(f"{what}: {key}: {_unknown(source, key, names)}")
        if names.get(key, declared.is_secret_name(key)):
            secrets.add(key)
        if isinstance(value, dict):
            references[key] = _reference(f"{what}: {key}", value)
        else:
            literals[key] = _literal(f"{what}: {key}", value, secret=key in secrets)
    return Connection(
        name, source, origin, place, literals, references, frozenset(secrets), fresh_within
    )


def _fresh_within(what: str, value: Any) -> FreshWithin:
    try:
        return parse_fresh_within(_literal(what, value, secret=False))
    except ValueError as error:
        raise ConfigurationError(f"{what}: {error}") from None


def _check_name(what: str, name: str) -> None:
    if name == DEFAULT:
        raise ConfigurationError(f"{what}: that name is the environment's own; give it another one")
    if not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise ConfigurationError(
            f"{what}: a name consists of small letters, digits and single underscores, begins with "
            f"a letter, and has at most {_LONGEST_NAME} characters"
        )


def settings_of(source: str) -> dict[str, bool]:
    """The settings that a connection of the source may give, and whether they are secret."""
    declared = declaration_of(source)
    return {} if declared is None else _variables(declared)


def _variables(declared: Declaration) -> dict[str, bool]:
    """The settings by the names of their variables, and whether they are secret."""
    found: dict[str, bool] = {}
    for cls in declared.classes:
        secrets = cls.secrets()
        for name, info in cls.model_fields.items():
            found |= dict.fromkeys(variables_of(name, info), name in secrets)
    return found


def _unknown(source: str, key: str, names: Mapping[str, bool]) -> str:
    near = near_variable(key, names)
    hint = f"; is {near} meant?" if near else f"; it has {', '.join(sorted(names))}"
    return f"source {source!r} has no such setting{hint}"


def _reference(what: str, value: Mapping[str, Any]) -> Reference:
    kinds = [kind for kind in _KINDS if kind in value]
    location = value[kinds[0]] if len(value) == len(kinds) == 1 else None
    if not isinstance(location, str):
        for inner in value.values():
            remember_pasted(str(inner))
        raise ConfigurationError(
            f'{what}: where it is must be {{ env = "VARIABLE" }} or {{ file = "/path" }}'
        )
    if kinds[0] == "env" and not _VARIABLE.fullmatch(location):
        remember_pasted(location)
        raise ConfigurationError(
            f"{what}: env must be the name of an environment variable (letters, digits and "
            "underscores), not the value itself"
        )
    if kinds[0] == "file" and not (location.strip() and location.isprintable()):
        remember_pasted(location)
        raise ConfigurationError(f"{what}: file must be the path of a file, not what it holds")
    return Reference(kinds[0], location)


def dotenv() -> Mapping[str, str | None]:
    return dotenv_values(".env", encoding="utf-8-sig")


def _literal(what: str, value: Any, *, secret: bool) -> str:
    """A literal setting as the text that an environment variable would hold."""
    if secret:
        if isinstance(value, str):
            remember_secret(value)
        raise ConfigurationError(
            f"{what} is a secret, which must not stand here: write where it is, "
            '{ env = "VARIABLE" } or { file = "/run/secrets/name" }'
        )
    if holds_secret(value):
        raise ConfigurationError(f"{what}: a secret that this process knows must not stand here")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise ConfigurationError(
        f"{what}: must be a text, a number, true or false, as the environment has it (a list is a "
        "text with commas)"
    )
