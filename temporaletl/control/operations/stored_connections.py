"""Connections of the warehouse: created, replaced and deleted, each with its audit row."""

import asyncio
import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from pydantic import JsonValue

from temporaletl.bound_connection import bound
from temporaletl.connections.declarations import declaration_of
from temporaletl.connections.entries import Connection as Entry, Origin
from temporaletl.connections.file import FileConnections
from temporaletl.connections.providers import provided
from temporaletl.control.operations.audit import local_author
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.runs import end_if_lost
from temporaletl.control.operations.schedules import check_unscheduled
from temporaletl.control.operations.sources import find_source
from temporaletl.errors import (
    ConfigurationError,
    ConflictError,
    SettingsError,
)
from temporaletl.names import label
from temporaletl.rows import storable_text
from temporaletl.settings.platform import variables_of
from temporaletl.strategies import Planner
from temporaletl.warehouse.audit import Author, record
from temporaletl.warehouse.runs import open_requests
from temporaletl.warehouse.source_connections import (
    PLACE,
    StoredConnection,
    VersionConflictError,
    create_stored,
    delete_stored,
    find_stored,
    list_stored,
    lock_stored,
    open_runs,
    parse_stored,
    replace_stored,
)

#: Where a setting is that is not given as it is: {"env": "VARIABLE"} or {"file": "/path"}.
Places = Mapping[str, Mapping[str, str]]
#: In the place of a secret that this process cannot read, while the others are checked.
_STAND_IN = "stand-in"


class PutConnection(NamedTuple):
    """A connection as it is stored, and what could not be checked in this process, in words."""

    connection: StoredConnection
    notes: tuple[str, ...]


class DeletedConnection(NamedTuple):
    """A connection that was deleted, and the streams whose watermarks went with it."""

    connection: StoredConnection
    streams: tuple[str, ...]


async def get_connection(platform: Platform, key: str | UUID) -> StoredConnection:
    """The warehouse's connection of that name or id.

    Raises:
        NotFoundError: there is none.
        ETLError: as `Platform.current_warehouse`.
    """
    return await asyncio.to_thread(find_stored, await platform.current_warehouse(), key)


async def list_stored_connections(platform: Platform) -> list[StoredConnection]:
    """The warehouse's connections, by name. Raises: as `Platform.current_warehouse`."""
    return await asyncio.to_thread(list_stored, await platform.current_warehouse())


async def create_connection(
    platform: Platform,
    name: str,
    source: str,
    settings: Mapping[str, JsonValue],
    secrets: Places,
    *,
    author: Author | None = None,
) -> PutConnection:
    """Store a connection, once the source's own settings class takes it.

    Secrets are read for that where this process can; `notes` names the others. Runs that are
    planned from now on find it. It and its audit row are one transaction; without an `author`, the
    user of this process is the one.

    Raises:
        ConflictError: the warehouse has one of that name.
        UnknownSourceError: there is no such source.
        ConfigurationError: the name is not one, or is the environment's or the file's; a setting is
            unknown, missing or wrong; a secret is written out. Prints no value.
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    by = author or local_author()
    notes = await asyncio.to_thread(_check, name, source, settings, secrets)

    def create() -> StoredConnection:
        with warehouse.connection() as connection:
            made = create_stored(connection, name, source, settings, secrets)
            record(connection, by, "connection.create", label(source, name), details=_facts(made))
        return made

    return PutConnection(await asyncio.to_thread(create), notes)


async def replace_connection(
    platform: Platform,
    key: str | UUID,
    settings: Mapping[str, JsonValue],
    secrets: Places,
    *,
    expected_version: int | None = None,
    author: Author | None = None,
) -> PutConnection:
    """Replace what a connection declares; name and source stay. Checked as by `create_connection`.

    `expected_version` is the one that the caller saw; None replaces any. A run that goes on works
    with the new settings from its next segment on.

    Raises:
        NotFoundError: the warehouse has no such connection.
        VersionConflictError: somebody else replaced it before.
        ConfigurationError, ETLError: as `create_connection`.
    """
    warehouse = await platform.current_warehouse()
    by = author or local_author()
    seen = await asyncio.to_thread(find_stored, warehouse, key)
    notes = await asyncio.to_thread(_check, seen.name, seen.source, settings, secrets)

    def replace() -> StoredConnection:
        with warehouse.connection() as connection:
            present = lock_stored(connection, key)
            check_version(present, expected_version)
            made = replace_stored(connection, present, settings, secrets)
            target = label(made.source, made.name)
            record(connection, by, "connection.replace", target, details=_facts(made))
        return made

    return PutConnection(await asyncio.to_thread(replace), notes)


async def delete_connection(
    platform: Platform,
    key: str | UUID,
    *,
    expected_version: int | None = None,
    force: bool = False,
    author: Author | None = None,
) -> DeletedConnection:
    """Delete a connection, its watermarks and its memberships; rows and rejects stay.

    Another connection of that name begins at the beginning. With `force`, also one that is
    scheduled or being loaded: its runs then fail.

    Raises:
        NotFoundError: the warehouse has no such connection.
        VersionConflictError: somebody else replaced it.
        ConflictError: a run of it goes on, it has a schedule, or whether it has one cannot be
            known, as Temporal does not answer; not with `force`.
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    by = author or local_author()
    seen = await asyncio.to_thread(find_stored, warehouse, key)
    if not force:
        await check_unscheduled(platform, seen.source, seen.name)
        for run in await asyncio.to_thread(open_requests, warehouse, seen.source, seen.name):
            await end_if_lost(platform, warehouse, run)

    def delete() -> DeletedConnection:
        with warehouse.connection() as connection:
            present = lock_stored(connection, key)
            check_version(present, expected_version)
            running = open_runs(connection, present.source, present.name)
            target = label(present.source, present.name)
            if running and not force:
                raise ConflictError(
                    f"{running[0]} loads {target}: wait for its end, or cancel it "
                    f"(`etl cancel {running[0]}`), before the connection is deleted"
                )
            streams = delete_stored(connection, present)
            details = _facts(present) | {"forced": force, "watermarks": [*streams]}
            record(connection, by, "connection.delete", target, details=details)
        return DeletedConnection(present, tuple(streams))

    return await asyncio.to_thread(delete)


def check_version(present: StoredConnection, expected: int | None) -> None:
    """Raise VersionConflictError where a connection is not the version that was seen."""
    if expected is not None and present.version != expected:
        raise VersionConflictError(
            f"connection {present.name!r} has version {present.version}, not {expected}: somebody "
            "replaced it meanwhile"
        )


def _facts(stored: StoredConnection) -> dict[str, JsonValue]:
    """What the audit says of a connection: names, and no value."""
    return {
        "connection_id": str(stored.connection_id),
        "version": stored.version,
        "settings": [*sorted(stored.settings)],
        "secrets": [*sorted(stored.secrets)],
    }


def _check(
    name: str, source: str, settings: Mapping[str, JsonValue], secrets: Places
) -> tuple[str, ...]:
    """Check a declaration; return what could not be checked here, in words."""
    planner = find_source(source)
    if twice := sorted(settings.keys() & secrets.keys()):
        raise ConfigurationError(f"connection {name!r}: {', '.join(twice)} is given twice")
    section: dict[str, Any] = {**settings, **secrets}
    if "source" in section:
        raise ConfigurationError(f"connection {name!r}: 'source' is no setting")
    for key, place in secrets.items():
        if not isinstance(place, Mapping):
            raise ConfigurationError(f"connection {name!r}: {key}: {_HOW}")
    for key, value in settings.items():
        _check_value(f"connection {name!r}: {key}", value)
    entry = parse_stored(name, {"source": source, **section})
    in_file = FileConnections()
    if name in in_file.names():
        raise ConfigurationError(
            f"connection {name!r} is in {in_file.place()} already: take another name"
        )
    unreadable = entry.unreadable()
    _check_settings(planner, entry, frozenset(unreadable))
    return tuple(f"{key}: {reason}" for key, reason in unreadable.items())


def _check_value(what: str, value: JsonValue) -> None:
    if isinstance(value, dict):
        raise ConfigurationError(f"{what} is a place, as secrets have them, and no setting")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigurationError(f"{what} is no number")
    if isinstance(value, str) and storable_text(value) != value:
        raise ConfigurationError(f"{what} holds a character that cannot be stored")


_HOW = 'where it is must be {"env": "VARIABLE"} or {"file": "/path"}'


@dataclass(frozen=True, slots=True)
class _Candidate:
    """Provider of one connection, that is not stored yet."""

    entry: Entry
    origin: Origin = "warehouse"

    def is_configured(self) -> bool:
        return True

    def place(self) -> str:
        return PLACE

    def names(self) -> Sequence[str]:
        return [self.entry.name]

    def get(self, name: str) -> Entry:
        del name
        return self.entry

    def absence(self) -> str:
        return f"it has {self.entry.name}"


def _check_settings(planner: Planner, entry: Entry, unreadable: frozenset[str]) -> None:
    """Read the settings as a run would, with stand-ins for what cannot be read here."""
    if planner.settings is None:
        return
    candidate = dataclasses.replace(
        entry,
        literals={**entry.literals, **dict.fromkeys(unreadable, _STAND_IN)},
        references={k: v for k, v in entry.references.items() if k not in unreadable},
    )
    try:
        with provided(_Candidate(candidate)), bound(entry.source, entry.name):
            planner.settings()
    except SettingsError as error:
        # Whether a stand-in is right says nothing of what it stands for.
        if not unreadable or error.variables is None:
            raise
        if not error.variables <= _with_aliases(entry.source, unreadable):
            raise


def _with_aliases(source: str, wanted: frozenset[str]) -> frozenset[str]:
    """The settings by all names of their fields."""
    declared = declaration_of(source)
    found = set(wanted)
    for cls in () if declared is None else declared.classes:
        for name, field in cls.model_fields.items():
            aliases = variables_of(name, field)
            if wanted & {*aliases}:
                found |= {*aliases}
    return frozenset(found)
