"""Backups of what an embedded stack keeps, made while it runs or is down, and their restoration.

In a backup are all databases of the cluster, its users and groups without their passwords, and
Temporal's file: runs that go on, and schedules. Logs, settings and the port's password are not.
"""

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO

from temporaletl.embedded.backup_file import (
    FORMAT,
    BackupError,
    BackupReader,
    BackupWriter,
    DatabaseContent,
    Manifest,
    reading,
    writing,
)
from temporaletl.embedded.databases import (
    MAINTENANCE,
    analyze,
    count_rows,
    database_names,
    dumping,
    dumping_roles,
    restore_database,
    restore_roles,
    snapshot,
)
from temporaletl.embedded.postgres import EmbeddedPostgres, serving
from temporaletl.embedded.postgres_programs import major_of, programs, version_of
from temporaletl.embedded.running import (
    POSTGRES_FOLDER,
    command_on,
    has_cluster,
    read_running,
    take,
)
from temporaletl.embedded.staging import STAGED_CLUSTER, STAGED_TEMPORAL, commit, discard, sync
from temporaletl.errors import ConflictError, NotFoundError
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse, translated
from temporaletl.warehouse.migration import known_migrations, migrate

TEMPORAL_FILE = "temporal.db"
Report = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restoration came to: the backup's manifest, and the migrations that it lacked."""

    manifest: Manifest
    migrated: list[str]


def file_name(at: datetime) -> str:
    """The name of a backup that is given none."""
    return f"temporaletl-{at:%Y%m%dT%H%M%SZ}.backup.zip"


def back_up(
    folder: Path, file: Path, *, overwrite: bool = False, report: Report = lambda _: None
) -> Manifest:
    """Write a backup of a data folder; it is there once it is whole, or not at all.

    Temporal's state is copied before the warehouse's: what a run does again by it is loaded to the
    same rows, and none is taken for loaded that is not.

    Raises: as `backup_file.writing`; and
        NotFoundError: there is nothing to back up.
        BackupError: Temporal's file is damaged, too.
        ETLError: the server could not be started, or it ended; as `serving`.
    """
    if not has_cluster(folder):
        raise NotFoundError(f"there is nothing to back up: {folder} has no warehouse")
    with writing(file, overwrite=overwrite) as writer, _warehouse_of(folder) as url_of:
        temporal = _add_temporal(folder, writer, report)
        report("Copying the warehouse ...")
        with translated():
            return _add_warehouse(url_of, writer, temporal)


@contextmanager
def _warehouse_of(folder: Path) -> Iterator[Callable[[str], str]]:
    """URLs of the databases, over the socket: of the stack that runs, else of a server for this."""
    running = read_running(folder)
    if running is None:
        with take(folder) as lock, serving(folder, lock) as postgres:
            yield postgres.url_of
        return
    url = running.environment.get("DATABASE_URL")
    if url is None:
        raise ConflictError(
            f"the stack that runs on {folder} uses another server's warehouse: back that up there, "
            "or end the stack (`etl down`) to back up what the folder has"
        )
    yield lambda database: url.replace("@/warehouse?", f"@/{database}?", 1)


def _add_temporal(folder: Path, writer: BackupWriter, report: Report) -> str | None:
    file = folder / TEMPORAL_FILE
    if not file.exists():
        return None
    report("Copying Temporal's state ...")
    copy = writer.folder / TEMPORAL_FILE
    copy.touch(mode=0o600)
    with (
        contextlib.closing(sqlite3.connect(f"file:{file}?mode=rw", uri=True)) as source,
        contextlib.closing(sqlite3.connect(copy)) as target,
    ):
        try:
            source.backup(target)
        except sqlite3.DatabaseError as error:
            raise BackupError(
                f"Temporal's file {file} cannot be copied: {error}. Where it is damaged, set it "
                "aside: without it, the next runs begin at their watermarks, and schedules are gone"
            ) from None
    with copy.open("rb") as content:
        writer.add(TEMPORAL_FILE, content)
    copy.unlink()
    return TEMPORAL_FILE


def _add_warehouse(
    url_of: Callable[[str], str], writer: BackupWriter, temporal: str | None
) -> Manifest:
    ours, maintenance = programs(), url_of(MAINTENANCE)
    with dumping_roles(ours, maintenance, passwords=False) as statements:
        writer.add("roles.sql", statements)
    databases = []
    for name in database_names(maintenance):
        part = f"{name.replace('/', '_')}.dump"
        with snapshot(url_of(name)) as state, dumping(ours, url_of(name), state) as dump:
            writer.add(part, dump, compressed=True)
            databases.append(
                DatabaseContent(
                    name=name,
                    part=part,
                    rows=dict(state.rows),
                    migrations=dict(state.migrations),
                )
            )
    manifest = Manifest(
        format=FORMAT,
        made_at=datetime.now(UTC).isoformat(timespec="seconds"),
        temporaletl=version("temporaletl"),
        postgresql=version_of(ours),
        databases=databases,
        roles="roles.sql",
        temporal=temporal,
        parts=writer.parts,
    )
    writer.finish(manifest)
    return manifest


def check_restorable(manifest: Manifest) -> None:
    """Check that this version can restore a backup.

    Raises:
        BackupError: it is of a later version; says which and what to do.
    """
    ours = version_of(programs())
    remedy = "install that version of temporaletl, or a later one, and restore it by that"
    if major_of(manifest.postgresql) > major_of(ours):
        raise BackupError(
            f"the backup is of PostgreSQL {manifest.postgresql}, made by temporaletl "
            f"{manifest.temporaletl}, and here is PostgreSQL {ours}: {remedy}"
        )
    known = set(known_migrations())
    for database in manifest.databases:
        for schema, names in database.migrations.items():
            if later := sorted(set(names) - known):
                raise BackupError(
                    f"the backup is newer than this version: schema {schema} of it has the "
                    f"migration {later[-1]}, made by temporaletl {manifest.temporaletl}, and here "
                    f"is {version('temporaletl')}, which ends at {max(known)}: {remedy}"
                )


def restore(
    folder: Path, file: Path, *, replace: bool = False, report: Report = lambda _: None
) -> Restored:
    """Make a data folder hold what a backup does, brought up to this version's migrations.

    It is restored beside what is there, counted, and then put in its place in one step: after any
    error or interruption, the former data is there.

    Raises: as `backup_file.reading`, `check_restorable`, `take` and `serving`; and
        ConflictError: there is data in the folder, and `replace` is not set.
        BackupError: what was restored is not what the manifest counts.
    """
    report("Checking the backup ...")
    with reading(file) as backup:
        check_restorable(backup.manifest)
        with take(folder) as lock:
            if holds_data(folder) and not replace:
                raise ConflictError(
                    f"{folder} holds data: `{command_on(folder, 'restore')} … --replace` puts the "
                    "backup in its place"
                )
            try:
                migrated = _stage(folder, lock, backup, report)
            except BaseException as error:
                discard(folder)
                if isinstance(error, OSError):
                    raise BackupError(
                        f"{folder} cannot take the backup: {error.strerror or error}. The former "
                        "data is there"
                    ) from None
                raise
            commit(folder, temporal=True)
    return Restored(backup.manifest, migrated)


def holds_data(folder: Path) -> bool:
    """Whether a data folder has a warehouse, or a state of Temporal's."""
    return any((folder / name).exists() for name in (POSTGRES_FOLDER, TEMPORAL_FILE))


def _stage(folder: Path, lock: IO[str], backup: BackupReader, report: Report) -> list[str]:
    if backup.manifest.temporal is not None:
        staged = folder / STAGED_TEMPORAL
        staged.touch(mode=0o600)
        with backup.open(backup.manifest.temporal) as content, staged.open("wb") as file:
            shutil.copyfileobj(content, file)
        if os.geteuid() == 0:  # who runs the stack may be another user
            os.chown(staged, folder.stat().st_uid, folder.stat().st_gid)
        sync(staged)
    with serving(folder, lock, cluster=STAGED_CLUSTER) as postgres, translated():
        maintenance = postgres.url_of(MAINTENANCE)
        with backup.open(backup.manifest.roles) as statements:
            restore_roles(programs(), maintenance, statements.read())
        migrated: list[str] = []
        for database in backup.manifest.databases:
            report(f"Restoring {database.name} ...")
            with backup.open(database.part) as dump:
                restore_database(programs(), maintenance, dump)
            _check_rows(database, postgres)
            for schema in database.migrations:
                migrated += _migrate(postgres.url_of(database.name), schema)
        analyze(programs(), maintenance)
    return migrated


def _check_rows(database: DatabaseContent, postgres: EmbeddedPostgres) -> None:
    found = count_rows(postgres.url_of(database.name))
    if found != database.rows:
        wrong = sorted(dict(found.items() ^ database.rows.items()))
        raise BackupError(
            f"what was restored of {database.name} is not what the backup counts, in "
            f"{', '.join(wrong)}: the former data stays"
        )


def _migrate(url: str, schema: str) -> list[str]:
    settings = WarehouseSettings.model_validate({"database_url": url, "schema_name": schema})
    with Warehouse(settings, max_connections=1) as warehouse:
        return migrate(warehouse)
