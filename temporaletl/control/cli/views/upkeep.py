"""Backups of what `etl up` keeps, their restoration, upgrades, and removal from the machine."""

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from temporaletl.control.cli.output import (
    add_row,
    confirm,
    count,
    make_table,
    note,
    print_fields,
    print_json,
    print_table,
    say,
    show_time,
)
from temporaletl.control.cli.session import refuse_api
from temporaletl.embedded.backup import (
    Restored,
    back_up as write_backup,
    file_name,
    holds_data,
    restore as restore_backup,
)
from temporaletl.embedded.backup_file import Manifest
from temporaletl.embedded.cluster_upgrade import upgrade as upgrade_cluster
from temporaletl.embedded.removal import (
    Inventory,
    how_to_remove_programs,
    remove_all,
    take_inventory,
)
from temporaletl.embedded.running import default_data_folder
from temporaletl.errors import ConfigurationError
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.telemetry.logs import quiet_logs

_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def back_up(data: Path | None, file: Path | None, *, overwrite: bool, as_json: bool) -> None:
    """Write a backup and print what is in it; raises as `backup.back_up`."""
    folder = _begin(data)
    name = file_name(datetime.now(UTC))
    target = Path(name) if file is None else file.expanduser()
    if target.is_dir():
        target /= name
    target = target.absolute()
    with _interrupted_by_sigterm():
        manifest = write_backup(folder, target, overwrite=overwrite, report=note)
    size = target.stat().st_size
    if as_json:
        print_json({"file": str(target), "bytes": size, **_document(manifest)})
        return
    say(f"Written: {target} ({show_size(size)})")
    print_fields(_fields(manifest))
    say("Not in it: settings, logs, and the passwords of database users.")


def restore(data: Path | None, file: Path, *, replace: bool, yes: bool, as_json: bool) -> None:
    """Restore a backup and print what it brought; raises as `backup.restore`."""
    folder = _begin(data)
    if replace and not yes and holds_data(folder):
        confirm(f"Replace the data in {folder}?", meaning=f"--replace removes the data in {folder}")
    with _interrupted_by_sigterm():
        restored = restore_backup(folder, file.expanduser(), replace=replace, report=note)
    if as_json:
        print_json(
            {
                "data": str(folder),
                "migrated": restored.migrated,
                **_document(restored.manifest),
            }
        )
        return
    say(f"Restored to {folder}")
    print_fields([*_fields(restored.manifest), ("migrated", _migrated(restored))])
    say("`etl up` starts it; incremental runs continue from the restored watermarks.")


def upgrade(data: Path | None, old_programs: Path | None, *, as_json: bool) -> None:
    """Upgrade the cluster and print the versions; raises as `cluster_upgrade.upgrade`."""
    folder = _begin(data)
    given = None if old_programs is None else old_programs.expanduser().resolve()
    with _interrupted_by_sigterm():
        done = upgrade_cluster(folder, old_programs=given, report=note)
    if as_json:
        print_json({"data": str(folder), **msgspec.to_builtins(done)})
        return
    rows = count(sum(done.rows.values()), "row")
    if done.before != done.after:
        say(f"PostgreSQL {done.before} is now {done.after}, with all {rows}.")
        say("The former cluster, kept until they were counted, is removed.")
    elif done.sorted_anew:
        say(f"PostgreSQL {done.after}: the indexes of {', '.join(done.sorted_anew)} are new.")
    else:
        say(f"Nothing to upgrade: the warehouse is of PostgreSQL {done.after}, as it is here.")


def uninstall(data: Path | None, *, keep_data: bool, yes: bool) -> int:
    """Show what would be removed, ask, and remove it; raises as `removal.remove_all`."""
    quiet_logs()
    refuse_api()
    folder = (data or default_data_folder()).expanduser().absolute()
    inventory = take_inventory(folder, keep_data=keep_data)
    _print_inventory(inventory)
    if inventory.removable:
        if not yes:
            confirm(
                f"Remove this ({show_size(inventory.size)})?", meaning="this removes what is listed"
            )
        with _interrupted_by_sigterm():
            remove_all(inventory, report=note)
        say(f"Removed: {show_size(inventory.size)}.")
    say(f"The programs themselves go with `{how_to_remove_programs()}`.")
    return 0


def show_size(size: int) -> str:
    """A number of bytes as a person says it."""
    for unit, name in _UNITS:
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def _print_inventory(inventory: Inventory) -> None:
    if not inventory.removable:
        say("Nothing is here to be removed.")
    else:
        table = make_table("what", "size", "where", right=["size"])
        sizes: Counter[tuple[str, Path]] = Counter()
        for found in inventory.removable:
            sizes[found.kind, found.path.parent] += found.size
        for (kind, where), size in sizes.items():
            add_row(table, kind, show_size(size), str(where))
        print_table(table)
    for path, why in inventory.staying:
        say(f"Stays: {path} ({why})")


def _begin(data: Path | None) -> Path:
    """The data folder of a command that is about what an embedded stack keeps.

    Raises:
        ConfigurationError: the settings name another warehouse.
    """
    quiet_logs()
    refuse_api()
    if WarehouseSettings.load().is_configured:
        raise ConfigurationError(
            "the settings name a PostgreSQL of yours (DATABASE_URL or WPE_DB_HOST), and this "
            "command is for that of `etl up`: use its own means, such as pg_dump, or unset them"
        )
    return (data or default_data_folder()).expanduser().resolve()


@contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end the command as Ctrl-C does: what is half done is tidied up."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _document(manifest: Manifest) -> dict[str, object]:
    document: dict[str, object] = msgspec.to_builtins(manifest)
    return document


def _fields(manifest: Manifest) -> list[tuple[str, object]]:
    rows = sum(sum(database.rows.values()) for database in manifest.databases)
    tables = sum(len(database.rows) for database in manifest.databases)
    last = [names[-1] for one in manifest.databases for names in one.migrations.values() if names]
    return [
        ("made", show_time(datetime.fromisoformat(manifest.made_at))),
        ("by", f"temporaletl {manifest.temporaletl}, PostgreSQL {manifest.postgresql}"),
        ("warehouse", f"{count(rows, 'row')} in {count(tables, 'table')}"),
        ("migration", ", ".join(sorted(set(last)))),
        ("Temporal", "runs and schedules" if manifest.temporal else "nothing: it has no file here"),
    ]


def _migrated(restored: Restored) -> str | None:
    return ", ".join(restored.migrated) or None
