"""All settings by the names of their variables; and the variables that only seem to be settings.

The platform's are those of its settings classes, wherever they stand; a source's are those that a
connection of it may give.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib import import_module
from itertools import takewhile
from math import inf
from typing import Any

from pydantic_core import PydanticUndefined

from temporaletl.connections.declarations import declaration_of, known_sources
from temporaletl.connections.entries import Connection
from temporaletl.connections.providers import read_entries
from temporaletl.connections.source_settings import SourceSettings
from temporaletl.errors import ConfigurationError
from temporaletl.settings.environment import (
    Settings,
    environment,
    file_variables,
    near_variable,
    variables_of,
)
from temporaletl.settings.secret_files import FILE
from temporaletl.telemetry import otlp

#: Where the platform's settings classes stand, beside what reads them. They are imported by name,
#: as sources are: a service knows the settings of fronts to tell a variable of theirs from a typo.
_MODULES = (
    "temporaletl.settings.platform",
    "temporaletl.settings.addresses",
    "temporaletl.settings.fields",
    "temporaletl.connections.file",
    "temporaletl.telemetry.endpoint",
    "temporaletl.temporal.payload_keys",
    "temporaletl.external.http",
    "temporaletl.notifications.settings",
    "temporaletl.warehouse.source_connections",
    "temporaletl.worker.pipelines.databases",
    "temporaletl.worker.pipelines.settings",
    "temporaletl.worker.pipelines.egress.settings",
    "temporaletl.worker.pipelines.model.settings",
    "temporaletl.control.api.settings",
    "temporaletl.control.client.settings",
    "temporaletl.control.operations.freshness",
)
#: Read by no settings class: by the SDK's environment configuration, or where a folder is chosen.
#: Whether each is a secret.
_OTHERS = {
    "TEMPORAL_API_KEY": True,
    "TEMPORAL_TLS": False,
    "TEMPORAL_TLS_CLIENT_CERT_PATH": False,
    "TEMPORAL_TLS_CLIENT_CERT_DATA": False,
    "TEMPORAL_TLS_CLIENT_KEY_PATH": False,
    "TEMPORAL_TLS_CLIENT_KEY_DATA": True,
    "TEMPORAL_TLS_SERVER_CA_CERT_PATH": False,
    "TEMPORAL_TLS_SERVER_CA_CERT_DATA": False,
    "TEMPORAL_TLS_SERVER_NAME": False,
    "TEMPORAL_GRPC_META_*": True,
    "TEMPORAL_PROFILE": False,
    "TEMPORAL_CONFIG_FILE": False,
    "ETL_DATA_DIR": False,
    "XDG_DATA_HOME": False,
    "XDG_CACHE_HOME": False,
    **dict.fromkeys(otlp.VARIABLES, False),
    **dict.fromkeys(otlp.SECRET_VARIABLES, True),
}
#: What the names of the platform's own variables begin with.
_PREFIXES = ("ETL_", "TEMPORAL_", "WPE_", "PIPELINE_")
#: Names that others give meaning to: Temporal's command line and SDK; definitions of pipelines.
_FOREIGN = (
    *("TEMPORAL_CLI_*", "TEMPORAL_CODEC_*", "TEMPORAL_ENV*", "TEMPORAL_TLS_DISABLE_HOST_*"),
    "PIPELINE_SECRET_*",
)
#: Kubernetes sets these for every service of a namespace, one that is called `jira` as well.
_KUBERNETES = re.compile(
    r".+_(SERVICE_(HOST|PORT(_.+)?)|PORT(_\d+_(TCP|UDP)(_(PROTO|PORT|ADDR))?))"
)


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting: its variables, the documented one first, and what its class says of it.

    `default` is in the words of a variable; empty where there is none. `files` are variables that
    name a file with the secret instead.
    """

    names: tuple[str, ...]
    purpose: str = ""
    secret: bool = False
    required: bool = False
    default: str = ""
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class UnknownVariable:
    """A variable that is no setting, though its name begins like one; and the one it is near to."""

    name: str
    near: str | None

    def __str__(self) -> str:
        hint = "" if self.near is None else f": did you mean {self.near}?"
        return f"{self.name} is set, and is no setting{hint}"


@cache
def platform_settings() -> tuple[Setting, ...]:
    """The settings of the platform, by name."""
    classes = [cls for name in _MODULES for cls in _classes_in(name)]
    others = [_other(name, secret=secret) for name, secret in _OTHERS.items()]
    return _sorted([*(one for cls in classes for one in settings_of_class(cls)), *others])


def _classes_in(module: str) -> Iterator[type[Settings]]:
    for found in vars(import_module(module)).values():
        if isinstance(found, type) and issubclass(found, Settings) and found.__module__ == module:
            yield found


def settings_of_source(source: str) -> tuple[Setting, ...]:
    """The settings of a source, which must be imported, by name; names may hold `*`."""
    declared = declaration_of(source)
    if declared is None:
        return ()
    found = [one for cls in declared.classes for one in settings_of_class(cls)]
    found += [Setting((name,)) for name in sorted(declared.names)]
    found += [_other(name, secret=True) for name in sorted(declared.secret_names)]
    return _sorted(found)


def _other(name: str, *, secret: bool) -> Setting:
    """A setting of no class; a certificate's key has a path beside its data."""
    files = (name + FILE,) if secret and not name.endswith("_DATA") else ()
    return Setting((name,), secret=secret, files=files)


def own_classes(source: str) -> list[type[SourceSettings]]:
    """The settings classes of a source but those that it borrows from another one.

    The owner of a class declares it first: `jira` borrows Trino's, which it declares second.
    """

    def position(name: str, cls: type) -> float:
        declared = declaration_of(name)
        classes: list[type] = [] if declared is None else [*declared.classes]
        return classes.index(cls) if cls in classes else inf

    declared = declaration_of(source)
    return [
        cls
        for cls in ([] if declared is None else declared.classes)
        if issubclass(cls, SourceSettings)
        and position(source, cls) == min(position(other, cls) for other in known_sources())
    ]


def settings_of_class(cls: type[Settings]) -> list[Setting]:
    """The settings of a class, in the order of its fields."""
    secrets, files = cls.secrets(), file_variables(cls)
    return [
        Setting(
            tuple(variables_of(name, field)),
            purpose=field.description or "",
            secret=name in secrets,
            required=field.is_required(),
            default=_as_variable(field.get_default()),
            files=tuple(one + FILE for one in files.get(name, ())),
        )
        for name, field in cls.model_fields.items()
    ]


def _as_variable(default: Any) -> str:
    if default in (None, ()) or default is PydanticUndefined:
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


def _sorted(found: Iterable[Setting]) -> tuple[Setting, ...]:
    """By name, each once: a subclass that repeats a setting says it better."""
    by_name: dict[str, Setting] = {}
    for one in found:
        by_name.setdefault(one.names[0], one)
    return tuple(by_name[name] for name in sorted(by_name))


def unknown_variables(sources: Iterable[str]) -> list[UnknownVariable]:
    """The variables here that begin as the platform's do, or those of one of the sources, by name.

    Those that connections take secrets from are known; no value is looked at.
    """
    settings = [
        *platform_settings(),
        *(one for name in sources for one in settings_of_source(name)),
    ]
    known = {name for one in settings for name in (*one.names, *one.files)}
    patterns = [*(name for name in known if "*" in name), *_FOREIGN]
    prefixes = (*_PREFIXES, *(prefix for name in sources for prefix in _prefixes_of(name)))
    taken = _referenced()
    found = [
        name
        for name in sorted(environment())
        if name.upper().startswith(prefixes)
        and name.upper() not in known
        and name not in taken
        and not _KUBERNETES.fullmatch(name)
        and not any(fnmatchcase(name, pattern) for pattern in patterns)
    ]
    named = [name for name in known if "*" not in name]
    return [UnknownVariable(name, near_variable(name, named)) for name in found]


def _prefixes_of(source: str) -> set[str]:
    """What most variables of each settings class begin with, as `JIRA_`."""
    declared, found = declaration_of(source), set()
    for cls in () if declared is None else declared.classes:
        names = [one.names[0] for one in settings_of_class(cls)]
        (word, number), *_ = Counter(name.partition("_")[0] for name in names).most_common(1)
        if number > 1:
            alike = [name.split("_") for name in names if name.startswith(f"{word}_")]
            shared = takewhile(lambda words: len({*words}) == 1, zip(*alike, strict=False))
            found.add("".join(f"{words[0]}_" for words in shared))
    return found


def _referenced() -> set[str]:
    try:
        entries = [entry for _, entry in read_entries() if isinstance(entry, Connection)]
    except ConfigurationError:
        return set()  # whoever reads the connections says so
    return {
        one.location for entry in entries for one in entry.references.values() if one.kind == "env"
    }
