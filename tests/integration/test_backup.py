"""Backups of what `etl up` keeps, their restoration, and its removal, with real servers."""

import contextlib
import json
import os
import pwd
import signal
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from temporaletl.embedded import databases
from temporaletl.embedded.backup import back_up, restore
from temporaletl.embedded.backup_file import BackupError, reading
from temporaletl.embedded.postgres import (
    running_postgres,
)
from temporaletl.embedded.running import end_running, read_running
from temporaletl.embedded.temporal_command import find_temporal
from temporaletl.errors import ConflictError, NotFoundError
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import known_migrations, migrate
from tests.fakes.jira.expected_counts import expected_counts
from tests.fakes.jira.generate import generate
from tests.fakes.jira.service import JiraService
from tests.fakes.server import FakeServer
from tests.integration.flows.own_postgres import small_disk
from tests.integration.old_warehouse import migrate_before
from tests.integration.upkeep import (
    CONTENT,
    VECTORS,
    WITHIN_SECONDS,
    etl,
    fill,
    folder,
    found_in,
)
from tests.tree import tree

__all__ = ["folder"]

COUNT = ("psql", "-tAc", "SELECT count(*), count(DISTINCT event_id) FROM workplace.events")


@contextlib.contextmanager
def open_warehouse(folder: Path) -> Iterator[Warehouse]:
    with running_postgres(folder) as url:
        settings = WarehouseSettings.model_validate({"database_url": url})
        with Warehouse(settings, max_connections=1) as warehouse:
            yield warehouse


@contextlib.contextmanager
def migrated(folder: Path) -> Iterator[Warehouse]:
    with open_warehouse(folder) as warehouse:
        migrate(warehouse)
        yield warehouse


def test_an_incremental_run_continues_from_the_watermark_that_was_restored(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = generate(5, seed=3)
    project = site.rows[0].project
    with FakeServer(JiraService(site)) as jira:
        account = {"JIRA_EMAIL": "me@example.com", "JIRA_API_TOKEN": "a-token"}
        for name, value in {"JIRA_URL": jira.url, **account}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("ETL_DATA_DIR", str(folder))
        etl("run", "jira", "--mode", "full", "--engine", "local")
        document = json.loads(etl("backup", "a.zip", "--json").stdout)
        assert document["databases"][0]["rows"]["workplace.events"] == expected_counts(site).events
        for number in range(3):
            site.edit.add_comment(site.edit.add_issue(project).id, f"later {number}")
        etl("run", "jira", "--engine", "local")
        etl("restore", "a.zip", "--replace", "--yes")
        assert etl(*COUNT).stdout.split("|")[0] == str(
            document["databases"][0]["rows"]["workplace.events"]
        )
        etl("run", "jira", "--engine", "local")
    rows = expected_counts(site).events
    assert etl(*COUNT).stdout == f"{rows}|{rows}\n"


def test_a_running_stack_is_backed_up_and_then_removed_without_a_trace(
    folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if find_temporal() is None:
        pytest.skip("no Temporal server: no `temporal` command on PATH or in the cache")
    home = tmp_path / "home"
    home.mkdir()
    for name, value in {
        "HOME": home,
        "XDG_CACHE_HOME": home / "cache",
        "ETL_DATA_DIR": folder,
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    before = tree(home), tree(folder.parent)
    program = Path(sys.executable).with_name("etl")
    subprocess.run([program, "--install-completion", "bash"], check=True, capture_output=True)
    assert tree(home) != before[0]
    ports = ("--temporal-port", "0", "--postgres-port", "0")
    command = [sys.executable, "-m", "temporaletl.control.cli", "up", *ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as stack:
        assert stack.stdout is not None
        assert any(line.startswith("Ready") for line in stack.stdout), "it ended before"
        assert read_running(folder) is not None
        refused = etl("upgrade", status=2).stderr
        assert "another stack runs" in refused
        etl("backup", "a.zip")
        with reading(tmp_path / "a.zip") as backup:
            names = {database.name for database in backup.manifest.databases}
            assert backup.manifest.temporal is not None
            (tmp_path / "copy.db").write_bytes(backup.open(backup.manifest.temporal).read())
        assert names == {"warehouse"}
        with contextlib.closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            assert copy.execute("SELECT count(*) FROM namespaces").fetchone()[0] >= 1
        etl("restore", "a.zip", "--replace", "--yes", status=2)
        assert "add --yes" in etl("uninstall", status=2).stderr
        said = etl("uninstall", "--yes").stdout
        assert stack.wait(WITHIN_SECONDS) == 0
    assert "Removed" in said
    assert (tree(home), tree(folder.parent)) == before


def test_users_grants_extensions_and_other_databases_are_restored_elsewhere(
    folder: Path, tmp_path: Path
) -> None:
    kept = fill(folder, CONTENT, VECTORS, "CREATE DATABASE other")
    (folder / "temporal.db").write_bytes(b"no database")
    with pytest.raises(BackupError, match="file is not a database"):
        back_up(folder, tmp_path / "a.zip")
    (folder / "temporal.db").write_bytes(b"")
    manifest = back_up(folder, tmp_path / "a.zip")
    assert [database.name for database in manifest.databases] == ["other", "warehouse"]
    assert manifest.databases[1].rows == {"public.kept": 5000, "public.vectors": 1}
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert b"a-password" not in archive.read("roles.sql")
        assert b"SCRAM-SHA-256" not in archive.read("roles.sql")
    other = folder.with_name("other")
    restore(other, tmp_path / "a.zip")
    assert found_in(other) == kept
    assert (other / "temporal.db").exists()
    if os.geteuid() == 0:  # a user's data stays the user's
        daemon = pwd.getpwnam("daemon").pw_uid
        for path in (other, *other.rglob("*")):
            os.chown(path, daemon, -1, follow_symlinks=False)
        restore(other, tmp_path / "a.zip", replace=True)
        owned = (other / "temporal.db", other / "postgresql", other / "postgresql" / "PG_VERSION")
        assert [path.stat().st_uid for path in owned] == [daemon] * 3
    with pytest.raises(ConflictError, match=r"holds data: `etl restore --data .* --replace`"):
        restore(other, tmp_path / "a.zip")
    with pytest.raises(NotFoundError, match="nothing to back up"):
        back_up(folder.with_name("none"), tmp_path / "b.zip")


def test_rows_that_are_written_meanwhile_are_not_half_in_a_backup(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(folder, CONTENT)
    counted = databases._count_rows

    def then_written(connection: psycopg.Connection[Any]) -> dict[str, int]:
        found = counted(connection)
        with psycopg.connect(connection.info.dsn, dbname="warehouse") as other:
            other.execute("INSERT INTO kept VALUES (0, 'written meanwhile')")
        return found

    with monkeypatch.context() as patched:
        patched.setattr(databases, "_count_rows", then_written)
        back_up(folder, tmp_path / "a.zip")
    assert found_in(folder)["rows"][0][0] == 5001
    restore(folder, tmp_path / "a.zip", replace=True)
    assert found_in(folder)["rows"][0][0] == 5000


def test_an_older_backup_is_migrated_and_a_later_one_is_refused_over_data_that_stays(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = known_migrations()[-1]
    with open_warehouse(folder) as warehouse:
        migrate_before(last, warehouse, monkeypatch)
    back_up(folder, tmp_path / "old.zip")
    assert restore(folder, tmp_path / "old.zip", replace=True).migrated == [last]
    with migrated(folder) as warehouse, warehouse.connection() as connection:
        connection.execute("INSERT INTO etl_migrations (name) VALUES ('9999_later.sql')")
    back_up(folder, tmp_path / "later.zip")
    kept = tree(folder / "postgresql")
    with pytest.raises(BackupError, match=r"9999_later\.sql"):
        restore(folder, tmp_path / "later.zip", replace=True)
    assert tree(folder / "postgresql") == kept


@pytest.mark.parametrize("fault", ["damaged", "interrupted", "fewer rows"])
def test_after_a_restoration_that_fails_the_former_data_is_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    fill(folder, CONTENT)
    file = tmp_path / "a.zip"
    back_up(folder, file)
    (folder / "temporal.db").write_text("former")
    if fault == "damaged":
        file.write_bytes(b"PK")
    kept = fill(folder, "INSERT INTO kept VALUES (0, 'later')")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    if fault == "interrupted":
        monkeypatch.setattr("temporaletl.embedded.backup.analyze", fail)
    elif fault == "fewer rows":
        monkeypatch.setattr("temporaletl.embedded.backup.count_rows", lambda _: {})
    with pytest.raises((KeyboardInterrupt, BackupError)):
        restore(folder, file, replace=True)
    monkeypatch.undo()
    assert found_in(folder) == kept
    assert (folder / "temporal.db").read_text() == "former"
    assert [path.name for path in folder.glob("*.staged*")] == []


def test_a_backup_for_which_there_is_no_room_leaves_nothing(folder: Path) -> None:
    fill(folder, CONTENT, "CREATE TABLE more AS SELECT md5(g::text) FROM generate_series(1, 9e4) g")
    with small_disk() as disk:
        if disk is None:
            pytest.skip("no file system can be mounted here")
        (disk.folder / "room").write_bytes(bytes(1_000_000))
        disk.fill()
        (disk.folder / "room").unlink()
        with pytest.raises(BackupError, match="there is no room for the backup in"):
            back_up(folder, disk.folder / "a.zip")
        assert [path.name for path in disk.folder.iterdir()] == ["ballast"]


def test_a_terminated_backup_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    fill(folder, CONTENT)
    command = [sys.executable, "-m", "temporaletl.control.cli", "backup", "--data", str(folder)]
    with subprocess.Popen([*command, "a.zip"], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "Copying" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        assert process.wait(WITHIN_SECONDS) == 130
    assert list(tmp_path.iterdir()) == []
    assert not end_running(folder, timedelta(seconds=WITHIN_SECONDS)), "no server is left"
