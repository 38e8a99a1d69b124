"""Data folder of a stack: its lock, and the discovery of the stack that runs there."""

import contextlib
import fcntl
import json
import os
import re
import shlex
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import IO, Any

from temporaletl.embedded.processes import ring
from temporaletl.embedded.staging import remove, settle
from temporaletl.errors import ConfigurationError
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings

#: The cluster's folder in the data folder.
POSTGRES_FOLDER = "postgresql"
_LOOK_AGAIN = timedelta(milliseconds=100)
_TRIES = 3
_OURS = (
    *("postgresql", "postgresql.access", "postgresql.password*", "postgresql.new"),
    *("postgresql.programs-*", "postgresql.programs.new", "postgresql.staged*"),
    *("postgresql.replaced", "temporal.db", "temporal.db-*", "temporal.db.staged*"),
    *("temporal.db*.replaced", "stack.json", "stack.json.new"),
)
_LOG = re.compile(
    r"(postgresql|postgresql\.staged|initdb|temporal|queuer|worker|worker-\d+|api)\.log(\.1)?"
)


class StackInUseError(ConfigurationError):
    """Another stack runs on the same data folder."""


def default_data_folder() -> Path:
    """`ETL_DATA_DIR`, else `temporaletl` in `XDG_DATA_HOME`, which is ~/.local/share if unset.

    Root's is /var/lib/temporaletl: PostgreSQL runs as another user then, who may not pass through
    root's home.
    """
    if chosen := os.environ.get("ETL_DATA_DIR"):
        return Path(chosen).expanduser()
    if base := os.environ.get("XDG_DATA_HOME"):
        return Path(base) / "temporaletl"
    share = Path("/var/lib") if os.geteuid() == 0 else Path.home() / ".local" / "share"
    return share / "temporaletl"


def has_cluster(folder: Path) -> bool:
    """Whether an embedded PostgreSQL has run on a data folder."""
    return (folder / POSTGRES_FOLDER).exists()


def command_on(folder: Path, command: str) -> str:
    """The words of an `etl` command on a data folder, as a person types them."""
    if folder == default_data_folder().expanduser().resolve():
        return f"etl {command}"
    return f"etl {command} --data {shlex.quote(str(folder))}"


def folder_mode() -> int:
    """Mode of a new folder for servers: its owner's alone, and root's may be passed through."""
    return 0o711 if os.geteuid() == 0 else 0o700


def take(folder: Path) -> IO[str]:
    """Lock the folder for one stack, until the returned file is closed in every process.

    Ends an exchange of what it holds that was interrupted; see `temporaletl.embedded.staging`.

    Raises:
        StackInUseError: another stack has it.
        ConfigurationError: the folder cannot be made or written.
    """
    try:
        if not folder.exists():
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(folder_mode())
        lock = (folder / "lock").open("a")
    except OSError as error:
        raise ConfigurationError(
            f"the data folder {folder} cannot be used: {error.strerror}"
        ) from None
    for _ in range(_TRIES):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # It may be one that only looks whether a stack runs: it lets go at once.
            time.sleep(_LOOK_AGAIN.total_seconds())
        else:
            settle(folder)
            return lock
    lock.close()
    raise StackInUseError(
        f"another stack runs on {folder}, or is just ending, or another command has it: end it "
        f"(`etl down`), or choose another folder (`--data DIR`, ETL_DATA_DIR)"
    )


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A stack that runs: the environment for its clients, and its warehouse for other programs."""

    environment: Mapping[str, str]
    loopback_url: str | None = field(default=None, repr=False)  # None: its settings name a server


def publish(folder: Path, environment: Mapping[str, str], loopback_url: str | None = None) -> None:
    """Publish the stack for other commands of this machine and user."""
    stack = {"environment": dict(environment), "loopback_url": loopback_url}
    text = json.dumps({"pid": os.getpid(), **stack}, indent=2)
    fresh = folder / "stack.json.new"
    fresh.unlink(missing_ok=True)
    fresh.touch(mode=0o600)
    fresh.write_text(f"{text}\n", encoding="utf-8")
    fresh.replace(folder / "stack.json")


def withdraw(folder: Path) -> None:
    (folder / "stack.json").unlink(missing_ok=True)


def read_running(folder: Path | None = None) -> RunningStack | None:
    """The stack that runs on a folder; None where none does.

    What a stack left that was killed is not taken for a running one.
    """
    folder = folder or default_data_folder()
    try:
        found: Any = json.loads((folder / "stack.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    running = RunningStack(found["environment"], found["loopback_url"])
    return running if _in_use(folder) else None


def end_running(folder: Path, within: timedelta) -> bool:
    """End the stack that runs on a folder, and wait until all of it has ended; False: none runs.

    Raises:
        StackInUseError: it has not ended within that time, or a command of another kind runs there.
    """
    asked, deadline = ring(folder / "stop"), time.monotonic() + within.total_seconds()
    while _in_use(folder):
        if time.monotonic() > deadline:
            raise StackInUseError(
                f"{folder} is still in use after {within.total_seconds():.0f} s: "
                + ("what runs there is ending" if asked else "a command other than `etl up` runs")
            )
        time.sleep(_LOOK_AGAIN.total_seconds())
        asked = asked or ring(folder / "stop")
    return asked


def _in_use(folder: Path) -> bool:
    try:
        with (folder / "lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


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
    for name, value in found.environment.items():
        os.environ.setdefault(name, value)
    return True


def elsewhere() -> bool:
    """Whether the settings name a Temporal or a warehouse."""
    temporal, warehouse = TemporalSettings.load(), WarehouseSettings.load()
    return any((temporal.address, temporal.host, warehouse.database_url, warehouse.host))


def left_behind(folder: Path) -> list[Path]:
    """What earlier stacks left in a data folder, and nothing else: it may be a person's own."""
    found = {path for pattern in _OURS for path in folder.glob(pattern)}
    if not (folder / "logs").is_symlink():
        found |= {path for path in (folder / "logs").glob("*") if _LOG.fullmatch(path.name)}
    cluster = folder / "postgresql"
    if cluster.is_dir() and not (cluster / "PG_VERSION").exists() and any(cluster.iterdir()):
        found.discard(cluster)  # a folder of that name, with something else in it
    return sorted(found)


def clear(folder: Path) -> None:
    """Remove what earlier stacks left; the folder must be taken."""
    for path in left_behind(folder):
        remove(path)
    with contextlib.suppress(OSError):  # it is not there, or holds what others put there
        (folder / "logs").rmdir()
