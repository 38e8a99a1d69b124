"""Data folder of a stack: its lock, and the discovery of the stack that runs there."""

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from temporaletl.errors import ConfigurationError
from temporaletl.settings import TemporalSettings, WarehouseSettings


class StackInUseError(ConfigurationError):
    """Another stack runs on the same data folder."""


def default_data_folder() -> Path:
    """`ETL_DATA_DIR`, else `temporaletl` in `XDG_DATA_HOME`, which is ~/.local/share if unset."""
    if chosen := os.environ.get("ETL_DATA_DIR"):
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "temporaletl"


def take(folder: Path) -> IO[str]:
    """Lock the folder for one stack, until the returned file is closed in every process.

    Raises:
        StackInUseError: another stack has it.
        ConfigurationError: the folder cannot be made or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a")
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {folder} cannot be used: {error.strerror}"
        ) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise StackInUseError(
            f"another stack runs on {folder}, or is just ending: stop it, or choose another "
            f"folder (`etl up --data DIR`)"
        ) from None
    return lock


def publish(folder: Path, environment: Mapping[str, str]) -> None:
    """Publish the stack for other commands of this machine and user."""
    text = json.dumps({"pid": os.getpid(), "environment": dict(environment)}, indent=2)
    fresh = folder / "stack.json.new"
    fresh.touch(mode=0o600)
    fresh.write_text(f"{text}\n", encoding="utf-8")
    fresh.replace(folder / "stack.json")


def withdraw(folder: Path) -> None:
    (folder / "stack.json").unlink(missing_ok=True)


def read_running(folder: Path | None = None) -> dict[str, str] | None:
    """The environment for clients of the stack that runs on a folder; None where none runs.

    What a stack left that was killed is not taken for a running one.
    """
    folder = folder or default_data_folder()
    try:
        found: Any = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
        with (folder / "lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return {str(name): str(value) for name, value in found["environment"].items()}
    except (OSError, ValueError):
        pass
    return None


def use_running(folder: Path | None = None) -> bool:
    """Use the stack that runs on a folder, unless the settings name other servers.

    Its variables go to this process's environment, so that settings loaded from now on find it;
    what the user set stays as it is. Returns whether the stack's are used.
    """
    if elsewhere():
        return False
    found = read_running(folder)
    if found is None:
        return False
    for name, value in found.items():
        os.environ.setdefault(name, value)
    return True


def elsewhere() -> bool:
    """Whether the settings name a Temporal or a warehouse."""
    temporal, warehouse = TemporalSettings.load(), WarehouseSettings.load()
    return any((temporal.address, temporal.host, warehouse.database_url, warehouse.host))
