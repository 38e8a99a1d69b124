"""Connections: listing, and checks of their settings."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from temporaletl.connection_file import (
    UnknownConnectionError,
    connections_file,
    names_of_connections,
    read_entries,
)
from temporaletl.connections import DEFAULT
from temporaletl.control.operations.checks import Check, check_settings
from temporaletl.control.operations.sources import known_planners
from temporaletl.errors import ConfigurationError
from temporaletl.messages import Message


class ConnectionReport(Message):
    """A connection of the file: its source and the names of its settings, or its fault."""

    name: str
    source: str | None = None
    settings: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()  # names
    fault: str | None = None


class Connections(NamedTuple):
    """The connections of the file; none where no file is configured."""

    connections: list[ConnectionReport]
    file: Path | None


class CheckedConnection(Message):
    """Results of a connection's checks."""

    name: str
    source: str | None
    checks: tuple[Check, ...]

    @property
    def good(self) -> bool:
        return all(check.verdict != "wrong" for check in self.checks)


def list_connections() -> Connections:
    """List the connections of the file, faulty ones too.

    Raises:
        ConfigurationError: the file as a whole cannot be read.
    """
    known_planners()  # they say what there can be connections of
    found = []
    for name, entry in read_entries():
        if isinstance(entry, ConfigurationError):
            found.append(ConnectionReport(name=name, fault=str(entry)))
        else:
            report = ConnectionReport(
                name=name,
                source=entry.source,
                settings=tuple(sorted(entry.settings)),
                secrets=tuple(sorted(entry.secrets)),
            )
            found.append(report)
    return Connections(found, connections_file())


async def check_connections(
    name: str | None = None, report: Callable[[CheckedConnection], None] = lambda _: None
) -> list[CheckedConnection]:
    """Check all connections of the file, or the one named; `report` gets each result at once.

    Nothing is loaded and nothing is written. See `check_source` for all that a run needs.

    Raises:
        UnknownConnectionError: there is none of that name.
        ConfigurationError: as `list_connections`.
    """
    listed = list_connections().connections
    if name is not None:
        listed = [declared for declared in listed if declared.name == name]
        if not listed:
            raise UnknownConnectionError(
                f"there is no connection {name!r} (`etl connections list`)"
                + ("; that of the environment is tried by `etl check SOURCE`" * (name == DEFAULT))
            )
    results = []
    for declared in listed:
        if declared.source is None:
            checks = [Check(name="file", verdict="wrong", detail=declared.fault or "")]
        else:
            checks = await check_settings(declared.source, declared.name)
        results.append(
            CheckedConnection(name=declared.name, source=declared.source, checks=tuple(checks))
        )
        report(results[-1])
    return results


def connections_of(source: str) -> list[str]:
    """The names of a source's connections, `default` first; raises as `list_connections`."""
    known_planners()
    return names_of_connections(source)
