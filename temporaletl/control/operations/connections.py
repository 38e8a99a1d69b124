"""Connections: listing, and checks of their settings."""

import asyncio
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from pydantic import Field, JsonValue

from temporaletl.bound_connection import DEFAULT, bound
from temporaletl.checks.messages import Check
from temporaletl.connections.entries import Connection as Entry, Origin, Reference
from temporaletl.connections.file import connections_file
from temporaletl.connections.providers import (
    UnknownConnectionError,
    names_of_connections,
    provided,
    read_entries,
)
from temporaletl.control.operations.checks import check_settings
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.sources import known_planners
from temporaletl.errors import ConfigurationError, ConflictError, ETLError, NotFoundError
from temporaletl.messages import Message
from temporaletl.warehouse.source_connections import (
    StoredConnection,
    StoredConnections,
    list_stored,
)


class ConnectionReport(Message):
    """A connection: where it is declared, its source and the names of its settings, or its fault.

    `connection_id` and `version` are of those in the warehouse.
    """

    name: str
    source: str | None = None
    settings: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()  # names
    fault: str | None = None
    origin: Origin = "file"
    connection_id: UUID | None = None
    version: int | None = None


class ConnectionDetails(Message):
    """A connection as it is declared: its settings, and where its secrets are; or its fault.

    One that is `read_only` is the file's: it is changed there. `connection_id`, `version` and the
    times are of those in the warehouse.
    """

    name: str
    source: str | None = None
    origin: Origin
    read_only: bool
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    #: Places by setting: `{"env": …}` or `{"file": …}`.
    secrets: dict[str, dict[str, str]] = Field(default_factory=dict)
    fault: str | None = None
    connection_id: UUID | None = None
    version: int | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def whose(self) -> str:
        """Its name in messages."""
        return f"connection {self.name!r}"

    def check_writable(self) -> None:
        """Check that it can be changed from here.

        Raises:
            ConflictError: it is declared in the file.
        """
        if self.read_only:
            raise ConflictError(
                f"{self.whose} is declared in {connections_file()} (ETL_CONNECTIONS): it is "
                "changed there"
            )


class Connections(NamedTuple):
    """The connections of the file and the warehouse.

    `file` is None where none is configured; `unread` says why the warehouse's are not there.
    """

    connections: list[ConnectionReport]
    file: Path | None
    unread: str | None = None


class CheckedConnection(Message):
    """Results of a connection's checks."""

    name: str
    source: str | None
    checks: tuple[Check, ...]

    @property
    def good(self) -> bool:
        return all(check.verdict != "wrong" for check in self.checks)


async def list_connections(platform: Platform) -> Connections:
    """List the connections of the file and the warehouse, faulty ones too.

    Raises:
        ConfigurationError: the file as a whole cannot be read.
    """
    known_planners()  # they say what there can be connections of
    stored = await platform.stored_connections()
    kept: dict[str, StoredConnection] = {}
    if stored is not None and stored.names():
        warehouse = await platform.warehouse()
        kept = {one.name: one for one in await asyncio.to_thread(list_stored, warehouse)}
    with provided(stored):
        entries = read_entries()
    found = []
    for name, entry in entries:
        row = kept.get(name)
        if isinstance(entry, ConfigurationError):
            report = ConnectionReport(
                name=name,
                source=None if row is None else row.source,
                fault=str(entry),
                origin="file" if row is None else "warehouse",
            )
        else:
            report = ConnectionReport(
                name=name,
                source=entry.source,
                settings=tuple(sorted(entry.settings)),
                secrets=tuple(sorted(entry.secrets)),
                origin=entry.origin,
            )
        if row is not None and report.origin == "warehouse":
            report = report.model_copy(
                update={"connection_id": row.connection_id, "version": row.version}
            )
        found.append(report)
    return Connections(found, connections_file(), None if stored is None else stored.fault)


async def list_details(platform: Platform) -> list[ConnectionDetails]:
    """The connections of the file and the warehouse by name, faulty ones too; no secret is read.

    Raises:
        ConfigurationError: the file as a whole cannot be read.
        ETLError: as `Platform.current_warehouse`.
    """
    known_planners()
    warehouse = await platform.current_warehouse()
    rows = {one.name: one for one in await asyncio.to_thread(list_stored, warehouse)}
    with provided(StoredConnections({name: row.section for name, row in rows.items()})):
        entries = read_entries()
    return [_details(name, entry, rows.get(name)) for name, entry in entries]


async def find_details(platform: Platform, key: str) -> ConnectionDetails:
    """One of them, by its name or its id.

    Raises:
        NotFoundError: there is none.
        ETLError: as `list_details`.
    """
    for one in await list_details(platform):
        if key in (one.name, str(one.connection_id)):
            return one
    raise NotFoundError(
        f"there is no connection {key!r} (`etl connections list`)"
        + (": that of the environment is set in the environment" * (key == DEFAULT))
    )


def _details(
    name: str, entry: Entry | ConfigurationError, row: StoredConnection | None
) -> ConnectionDetails:
    if row is not None:
        return ConnectionDetails(
            **row.model_dump(exclude={"secrets"}),
            secrets={
                key: {kind: Reference(kind, location).shown for kind, location in place.items()}
                for key, place in row.secrets.items()
            },
            origin="warehouse",
            read_only=False,
            fault=str(entry) if isinstance(entry, ConfigurationError) else None,
        )
    if isinstance(entry, ConfigurationError):
        return ConnectionDetails(name=name, origin="file", read_only=True, fault=str(entry))
    return ConnectionDetails(
        name=name,
        source=entry.source,
        origin=entry.origin,
        read_only=True,
        settings=dict(entry.literals),
        secrets={key: {one.kind: one.shown} for key, one in entry.references.items()},
    )


async def list_environment() -> list[ConnectionReport]:
    """The connection `default` of each source; its fault where the environment lacks something."""

    def read() -> list[ConnectionReport]:
        found = []
        for source, planner in ((name, known.get(name)) for name in sorted(known)):
            fault = None
            try:
                with bound(source, DEFAULT):
                    if planner.settings is not None:
                        planner.settings()
            except ETLError as error:
                fault = str(error)
            found.append(
                ConnectionReport(name=DEFAULT, source=source, fault=fault, origin="environment")
            )
        return found

    known = known_planners()
    return await asyncio.to_thread(read)


async def check_connections(
    platform: Platform,
    name: str | None = None,
    report: Callable[[CheckedConnection], None] = lambda _: None,
) -> list[CheckedConnection]:
    """Check all named connections, or the one given; `report` gets each result at once.

    Nothing is loaded and nothing is written. See `check_source` for all that a run needs.

    Raises:
        UnknownConnectionError: there is none of that name.
        ConfigurationError: as `list_connections`.
    """
    listed = (await list_connections(platform)).connections
    if name is not None:
        listed = [declared for declared in listed if declared.name == name]
        if not listed:
            raise unknown_connection(name)
    results = []
    with provided(await platform.stored_connections()):
        for declared in listed:
            if declared.source is None or declared.fault is not None:
                fault = declared.fault or ""
                checks = [
                    Check(name=declared.origin, verdict="wrong", detail=fault, misconfigured=True)
                ]
            else:
                checks = await check_settings(declared.source, declared.name)
            results.append(
                CheckedConnection(name=declared.name, source=declared.source, checks=tuple(checks))
            )
            report(results[-1])
    return results


def unknown_connection(name: str) -> UnknownConnectionError:
    """The error of whoever wants to check a connection that is not there."""
    return UnknownConnectionError(
        f"there is no connection {name!r} (`etl connections list`)"
        + ("; that of the environment is tried by `etl check SOURCE`" * (name == DEFAULT))
    )


async def connections_of(platform: Platform, source: str) -> list[str]:
    """The names of a source's connections, `default` first; raises as `list_connections`."""
    known_planners()
    with provided(await platform.stored_connections()):
        return names_of_connections(source)
