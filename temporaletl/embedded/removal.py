"""Removal of what the platform put on a machine: data, logs, caches, and completion of commands.

Only what it made goes, by its names and marks. Links are not followed, and what others put into its
folders stays there.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from temporaletl.embedded.postgres import short_socket_folder
from temporaletl.embedded.running import POSTGRES_FOLDER, end_running, left_behind, take
from temporaletl.embedded.staging import remove
from temporaletl.embedded.temporal_command import cache_folder
from temporaletl.errors import ConfigurationError, PermanentError

Report = Callable[[str], None]
#: A running stack may take so long to end.
_END_WITHIN = timedelta(minutes=2)
_CACHES = (
    *("bin/temporal", "temporal.lock", "temporal-*", "go-build", "environment.lock"),
    *("trino-*", "uv-cache", "uv", "uv-python"),
)
#: In every script of completion that typer makes for `etl`.
_COMPLETION_MARK = "_ETL_COMPLETE"
#: Kinds of what is in a data folder.
_OF_DATA = ("data", "logs")
_LINK = "it is a link to what is elsewhere"
_UNITS = ("/etc/systemd/system", "~/.config/systemd/user")
_SETTINGS = Path("/etc/temporaletl")


@dataclass(frozen=True, slots=True)
class Removable:
    """A file or folder that would be removed; `size` is in bytes, with all that it holds."""

    kind: str
    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """What is on this machine: what would be removed, and what stays, each with the reason."""

    removable: Sequence[Removable]
    staying: Sequence[tuple[Path, str]]
    data: Sequence[Path]  # the data folders among which the former are

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(found.size for found in self.removable)


def take_inventory(data: Path, *, keep_data: bool = False) -> Inventory:
    """Find what the platform put on this machine for this user; nothing is changed.

    `data` is the data folder; that of the quick start is beside it.

    Raises:
        ConfigurationError: a data folder is another user's.
    """
    beside = data.parent.glob(f"{data.name}-quickstart*") if data.name == "temporaletl" else ()
    # Whatever ran on a folder has locked it.
    folders = [folder for folder in (data, *sorted(beside)) if (folder / "lock").is_file()]
    removable: list[Removable] = []
    staying: list[tuple[Path, str]] = []
    if keep_data:
        staying += [(folder, "its data is kept") for folder in folders]
        folders = []
    for folder in folders:
        try:
            _look_into(folder, removable, staying)
        except PermissionError:
            raise ConfigurationError(f"{folder} is another user's: do this as that user") from None
    cache = cache_folder()
    for pattern in _CACHES:
        for path in sorted(cache.glob(pattern)):
            _add("cache", path, removable, staying)
    for path in _completions():
        _add("completion", path, removable, staying)
    staying += _left_to_others()
    return Inventory(removable, staying, folders)


def _look_into(folder: Path, removable: list[Removable], staying: list[tuple[Path, str]]) -> None:
    ours = {*left_behind(folder), folder / "lock", folder / "stop"}
    for path in sorted(ours):
        if path.exists() or path.is_symlink():
            kind = "logs" if path.parent != folder else "data"
            _add(kind, path, removable, staying)
    socket = short_socket_folder(folder.resolve() / POSTGRES_FOLDER)
    if socket.is_dir() and not socket.is_symlink() and socket.stat().st_uid == os.getuid():
        _add("data", socket, removable, staying)
    logs = folder / "logs"
    there = [*folder.iterdir(), *(() if logs.is_symlink() else logs.glob("*"))]
    others = {*there} - ours - (set() if logs.is_symlink() else {logs})
    staying += [(path, "it is not the platform's") for path in sorted(others)]
    if folder.is_symlink():
        staying.append((folder, _LINK))


def _add(
    kind: str, path: Path, removable: list[Removable], staying: list[tuple[Path, str]]
) -> None:
    if path.is_symlink():
        staying.append((path, _LINK))
    else:
        removable.append(Removable(kind, path, _size(path)))


def _completions() -> Iterator[Path]:
    home = Path.home()
    for name in (".bash_completions/etl.sh", ".zfunc/_etl", ".config/fish/completions/etl.fish"):
        path = home / name
        with contextlib.suppress(OSError, UnicodeDecodeError):
            if _COMPLETION_MARK in path.read_text(encoding="utf-8"):
                yield path


def _left_to_others() -> Iterator[tuple[Path, str]]:
    for folder in _UNITS:
        for unit in sorted(Path(folder).expanduser().glob("temporaletl*")):
            yield unit, "you made it: `systemctl disable --now` it, then remove it"
    if _SETTINGS.exists():
        yield _SETTINGS, "your settings"
    completion = Path.home() / ".zshrc"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if "fpath+=~/.zfunc" in completion.read_text(encoding="utf-8"):
            yield completion, "its line `fpath+=~/.zfunc …` serves other commands, too"


def remove_all(inventory: Inventory, report: Report = lambda _: None) -> None:
    """End the stacks that run, and remove what an inventory found.

    Safe to repeat after an error or an interruption.

    Raises:
        StackInUseError: a stack does not end, or another command uses a folder.
        PermanentError: something cannot be removed; says what and why.
    """
    with contextlib.ExitStack() as exits:
        for folder in inventory.data:
            if end_running(folder, _END_WITHIN):
                report(f"Ended the stack on {folder}")
            exits.enter_context(take(folder))
        # What ran may have left more, or less, since the inventory was taken.
        removable: list[Removable] = []
        for folder in inventory.data:
            _look_into(folder, removable, [])
        removable += [found for found in inventory.removable if found.kind not in _OF_DATA]
        for found in removable:
            try:
                remove(found.path)
            except OSError as error:
                raise PermanentError(
                    f"{error.filename or found.path} cannot be removed: {error.strerror}; what was "
                    "removed before stays removed, and the same command goes on with the rest"
                ) from None
    _forget_completion()
    cache = cache_folder()
    home = Path.home()
    for folder in (
        *(part for data in inventory.data for part in (data / "logs", data)),
        *(cache / "bin", cache, home / ".bash_completions", home / ".zfunc"),
    ):
        # What is not empty has others' files; a link is not ours.
        with contextlib.suppress(OSError):
            folder.rmdir()


def _forget_completion() -> None:
    """Take out of ~/.bashrc the line by which it reads the completion that is gone."""
    script = Path.home() / ".bash_completions" / "etl.sh"
    start = Path.home() / ".bashrc"
    line = f"\nsource '{script}'\n"
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = start.read_text(encoding="utf-8")
        if line in text and not script.exists():
            rest = text.replace(line, "")
            if rest or start.is_symlink():
                start.write_text(rest, encoding="utf-8")
            else:
                start.unlink()


def how_to_remove_programs() -> str:
    """The words that remove the package, in which this process runs."""
    if "uv/tools/temporaletl" in sys.prefix.replace(os.sep, "/"):
        return "uv tool uninstall temporaletl"
    package = Path(__file__).parents[2]
    if (package / "pyproject.toml").exists():
        return f"rm -r {package}"
    return f"{sys.executable} -m pip uninstall temporaletl"


def _size(path: Path) -> int:
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    total = 0
    for folder, _, files in path.walk(on_error=lambda _: None):
        for name in files:
            with contextlib.suppress(OSError):  # a running server removes files
                total += (folder / name).lstat().st_size
    return total
