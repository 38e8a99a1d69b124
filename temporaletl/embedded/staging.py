"""Other data staged beside what a data folder holds, and put in its place in one step.

What is staged has names of its own until it is whole. `commit` then marks it, and whoever takes the
folder next goes on where an exchange was interrupted: there is never a mixture of both.
"""

import json
import os
import shutil
from pathlib import Path

#: What is exchanged: the cluster, and Temporal's file with what SQLite has beside it.
_EXCHANGED = ("postgresql", "temporal.db", "temporal.db-wal", "temporal.db-shm")
STAGED, _REPLACED = "staged", "replaced"
STAGED_CLUSTER, STAGED_TEMPORAL = f"postgresql.{STAGED}", f"temporal.db.{STAGED}"
_READY = f"postgresql.{STAGED}.ready"


def discard(folder: Path) -> None:
    """Remove what is staged in a data folder, and not committed; the folder must be taken."""
    for path in (*folder.glob(f"postgresql.{STAGED}*"), *folder.glob(f"temporal.db.{STAGED}*")):
        remove(path)


def commit(folder: Path, *, temporal: bool) -> None:
    """Put what is staged in the place of what is there, and remove that.

    `temporal` says whether Temporal's file is exchanged, too: where none is staged, there is none
    afterwards. Must be called with the folder taken, and its servers ended.
    """
    names = _EXCHANGED if temporal else _EXCHANGED[:1]
    staged = [name for name in names if (folder / f"{name}.{STAGED}").exists()]
    plan = {"put": staged, "drop": [name for name in names if name not in staged]}
    half = folder / f"{_READY}.new"
    half.write_text(json.dumps(plan), encoding="utf-8")
    sync(half)
    half.replace(folder / _READY)
    sync(folder)
    settle(folder)


def settle(folder: Path) -> None:
    """End an exchange that was committed, and remove what was staged without that.

    Safe to repeat, and after an interruption at any point. The folder must be taken.
    """
    ready = folder / _READY
    if not ready.exists():
        _tidy(folder)
        return
    plan = json.loads(ready.read_text(encoding="utf-8"))
    for name in plan["drop"]:
        _set_aside(folder / name)
    for name in plan["put"]:
        staged = folder / f"{name}.{STAGED}"
        if staged.exists():  # else it was put there before an interruption
            _set_aside(folder / name)
            staged.rename(folder / name)
    sync(folder)
    ready.unlink()
    sync(folder)
    _tidy(folder)


def _tidy(folder: Path) -> None:
    for name in _EXCHANGED:
        remove(folder / f"{name}.{_REPLACED}")
    discard(folder)


def _set_aside(path: Path) -> None:
    if path.exists():
        replaced = path.with_name(f"{path.name}.{_REPLACED}")
        remove(replaced)
        path.rename(replaced)


def remove(path: Path) -> None:
    """Remove a file, a link, or a folder with all that it holds, where it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
