"""Connections that are stored in the warehouse, and their provider.

A row says what a section of the connections file says: settings, and where the secrets are. It is
parsed as one, wherever it is read.
"""

import os.path
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import Any
from uuid import UUID

from psycopg import errors, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from pydantic import Field, JsonValue

from temporaletl.bound_connection import DEFAULT
from temporaletl.connections.entries import Connection as Entry, Origin, Reference, parse_connection
from temporaletl.errors import ConfigurationError, ConflictError, NotFoundError
from temporaletl.messages import Message
from temporaletl.rows import storable_text
from temporaletl.settings.platform import Settings
from temporaletl.warehouse.connection import Connection, Warehouse

#: How messages name the place.
PLACE = "the warehouse"
#: What only the platform itself reads: a connection could send it to an address of its own.
_OWN_VARIABLES = (
    *("DATABASE_URL", "WPE_*", "PG*", "TEMPORAL_*", "ETL_*"),
    *("SLACK_WEBHOOK_URL", "NOTIFY_URLS"),
)


class VersionConflictError(ConflictError):
    """What is replaced is not the version that was seen: somebody else replaced it before."""


class StoredConnection(Message):
    """A connection of the warehouse; `secrets` are places, `{"env": …}` or `{"file": …}`."""

    connection_id: UUID
    name: str
    source: str
    settings: dict[str, JsonValue]
    secrets: dict[str, dict[str, str]]
    created_at: datetime
    updated_at: datetime
    version: int

    @property
    def section(self) -> dict[str, Any]:
        """The declaration, as the connections file would have it."""
        return {"source": self.source, **self.settings, **self.secrets}


_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, StoredConnection.model_fields))


class _SecretFolders(Settings):
    """The folders in which files of secrets may be, for connections of the warehouse."""

    folders: str = Field(
        "/run/secrets",
        validation_alias="ETL_SECRET_FOLDERS",
        description="comma-separated folders for the secrets of connections in the warehouse",
    )


def parse_stored(name: str, section: Mapping[str, Any]) -> Entry:
    """Check a declaration for the warehouse, or from it; `section` as the file would have it.

    Unlike the file's, it is written by whoever may use the API. So it can name no variable of the
    platform's own, and no file outside of ETL_SECRET_FOLDERS.

    Raises:
        ConfigurationError: something is wrong; names the connection and the key, prints no value.
    """
    entry = parse_connection(section, name=name, origin="warehouse", place=PLACE)
    for key, reference in entry.references.items():
        _check_reference(f"{entry.what}: {key}", reference)
    return entry


def _check_reference(what: str, reference: Reference) -> None:
    if reference.kind == "env":
        if any(fnmatchcase(reference.location.upper(), own) for own in _OWN_VARIABLES):
            raise ConfigurationError(f"{what}: {reference.location} is a variable of the platform")
        return
    folders = [folder.strip() for folder in _SecretFolders.load().folders.split(",")]
    # Not resolved: what is mounted there may be links.
    path = PurePath(os.path.normpath(reference.location))
    if not any(folder and path.is_relative_to(os.path.normpath(folder)) for folder in folders):
        raise ConfigurationError(
            f"{what}: files of secrets are in {', '.join(filter(None, folders)) or 'no folder'} "
            "(ETL_SECRET_FOLDERS)"
        )


@dataclass(frozen=True, slots=True)
class StoredConnections:
    """Provider of the warehouse's connections, as they were when they were read.

    `fault` says why they could not be read; it then has none, and says so where one is missed.
    """

    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fault: str | None = None
    origin: Origin = "warehouse"

    def is_configured(self) -> bool:
        return bool(self.sections) or self.fault is not None

    def place(self) -> str:
        return PLACE

    def names(self) -> Sequence[str]:
        return sorted(self.sections)

    def get(self, name: str) -> Entry:
        return parse_stored(name, self.sections[name])

    def absence(self) -> str:
        if self.fault is not None:
            return f"its connections cannot be read: {self.fault}"
        return f"it has {', '.join(self.names()) or 'none'}"


def stored_connections(warehouse: Warehouse) -> StoredConnections:
    """The warehouse's connections, as they are now; none where its tables are older than these."""
    try:
        return StoredConnections({one.name: one.section for one in list_stored(warehouse)})
    except errors.UndefinedTable:
        return StoredConnections()


def connections_for(warehouse: Warehouse, name: str) -> StoredConnections | None:
    """The same for work that concerns one connection; None for `default`, which needs none."""
    return None if name == DEFAULT else stored_connections(warehouse)


def list_stored(warehouse: Warehouse) -> list[StoredConnection]:
    """All connections of the warehouse, by name."""
    query = sql.SQL("SELECT {} FROM source_connections ORDER BY name").format(_COLUMNS)
    with warehouse.connection() as connection:
        rows = connection.cursor(row_factory=dict_row).execute(query)
        return [StoredConnection.model_validate(row) for row in rows]


def find_stored(warehouse: Warehouse, key: str | UUID) -> StoredConnection:
    """The connection of that name or id.

    Raises:
        NotFoundError: there is none in the warehouse.
    """
    with warehouse.connection() as connection:
        return _find(connection, key, lock=False)


def lock_stored(connection: Connection, key: str | UUID) -> StoredConnection:
    """The same, until the caller's transaction ends changed by nobody else."""
    return _find(connection, key, lock=True)


def _find(connection: Connection, key: str | UUID, *, lock: bool) -> StoredConnection:
    query = sql.SQL("SELECT {} FROM source_connections WHERE {} = %s {}").format(
        _COLUMNS,
        sql.Identifier("connection_id" if isinstance(key, UUID) else "name"),
        sql.SQL("FOR UPDATE" if lock else ""),
    )
    row = connection.cursor(row_factory=dict_row).execute(query, [_storable(key)]).fetchone()
    if row is None:
        raise NotFoundError(
            f"the warehouse has no connection '{_storable(key)}' (`etl connections list`)"
        )
    return StoredConnection.model_validate(row)


def create_stored(
    connection: Connection,
    name: str,
    source: str,
    settings: Mapping[str, JsonValue],
    secrets: Mapping[str, Mapping[str, str]],
) -> StoredConnection:
    """Store a connection that was checked, in the caller's transaction.

    Raises:
        ConflictError: there is one of that name.
    """
    query = sql.SQL(
        """
        INSERT INTO source_connections (name, source, settings, secrets) VALUES (%s, %s, %s, %s)
        ON CONFLICT (name) DO NOTHING RETURNING {}
        """
    ).format(_COLUMNS)
    values = [name, source, Jsonb(dict(settings)), Jsonb({k: dict(v) for k, v in secrets.items()})]
    row = connection.cursor(row_factory=dict_row).execute(query, values).fetchone()
    if row is None:
        raise ConflictError(f"the warehouse has a connection {name!r} already: replace that one")
    return StoredConnection.model_validate(row)


def replace_stored(
    connection: Connection,
    present: StoredConnection,
    settings: Mapping[str, JsonValue],
    secrets: Mapping[str, Mapping[str, str]],
) -> StoredConnection:
    """Replace what a locked connection declares, in the caller's transaction."""
    query = sql.SQL(
        """
        UPDATE source_connections SET settings = %s, secrets = %s, updated_at = now(),
            version = version + 1
        WHERE connection_id = %s RETURNING {}
        """
    ).format(_COLUMNS)
    declared = [Jsonb(dict(settings)), Jsonb({k: dict(v) for k, v in secrets.items()})]
    row = (
        connection.cursor(row_factory=dict_row)
        .execute(query, [*declared, present.connection_id])
        .fetchone()
    )
    return StoredConnection.model_validate(row)


def delete_stored(connection: Connection, present: StoredConnection) -> list[str]:
    """Delete a locked connection, in the caller's transaction; return the streams it had loaded.

    Its watermarks go with it: another connection of that name begins at the beginning. So does its
    membership in collections. Rows and rejects stay.
    """
    of_it = [present.source, present.name]
    connection.execute(
        "DELETE FROM source_connections WHERE connection_id = %s", [present.connection_id]
    )
    connection.execute(
        """
        WITH gone AS (
            DELETE FROM collection_members WHERE source = %s AND connection = %s
            RETURNING collection_id)
        UPDATE collections SET version = version + 1, updated_at = now()
        WHERE collection_id IN (SELECT collection_id FROM gone)
        """,
        of_it,
    )
    loaded = connection.execute(
        "DELETE FROM etl_sync_state WHERE source = %s AND connection = %s RETURNING stream", of_it
    )
    return sorted(str(stream) for (stream,) in loaded)


def open_runs(connection: Connection, source: str, name: str) -> list[str]:
    """The workflow ids of a connection's runs that have not ended, the latest first."""
    found = connection.execute(
        """
        SELECT workflow_id, created_at AS since FROM etl_batches
        WHERE source = %(source)s AND connection = %(name)s AND ended_at IS NULL
        UNION ALL
        SELECT workflow_id, requested_at FROM etl_runs
        WHERE source = %(source)s AND connection = %(name)s AND ended_at IS NULL
          AND batch_id IS NULL
        ORDER BY since DESC
        """,
        {"source": source, "name": name},
    )
    return [str(workflow_id) for workflow_id, _ in found]


def _storable(key: str | UUID) -> str | UUID:
    return key if isinstance(key, UUID) else storable_text(key)
