"""The connections there are: listed, and tried."""

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
    """A connection of the file: its source, the names of what it sets, or what is wrong with it."""

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
    """What trying a connection found."""

    name: str
    source: str | None
    checks: tuple[Check, ...]

    @property
    def good(self) -> bool:
        return all(check.verdict != "wrong" for check in self.checks)


def list_connections() -> Connections:
    """The connections of the file, also those with something wrong in them.

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
    name: str | None = None, hear: Callable[[CheckedConnection], None] = lambda _: None
) -> list[CheckedConnection]:
    """Try each connection of the file, or the one that is named; `hear` learns of each at once.

    Nothing is loaded and nothing is written. See `check_source` for all that a run needs.

    Raises:
        UnknownConnectionError: there is none of that name.
        ConfigurationError: as `list_connections`.
    """
    listed = list_connections().connections
    if name is not None:
        listed = [each for each in listed if each.name == name]
        if not listed:
            raise UnknownConnectionError(
                f"there is no connection {name!r} (`etl connections list`)"
                + ("; that of the environment is tried by `etl check SOURCE`" * (name == DEFAULT))
            )
    results = []
    for each in listed:
        if each.source is None:
            checks = [Check(name="file", verdict="wrong", detail=each.fault or "")]
        else:
            checks = await check_settings(each.source, each.name)
        results.append(CheckedConnection(name=each.name, source=each.source, checks=tuple(checks)))
        hear(results[-1])
    return results


def connections_of(source: str) -> list[str]:
    """The names of a source's connections, `default` first; raises as `list_connections`."""
    known_planners()
    return names_of_connections(source)
