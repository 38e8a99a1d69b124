"""A copy of the checkout, to write in, and commands that run there."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
_NOT_COPIED = shutil.ignore_patterns("__pycache__", ".*")
_WITHIN_SECONDS = 400


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Folder:
    """Where commands run; what is in `path` is found before what is installed."""

    home: Path
    path: Sequence[Path]
    postgres_url: str

    def python(self, *arguments: str, **settings: str) -> Ended:
        """Run this Python's modules: `python("-m", "pytest")`."""
        ended = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.home,
            env=self._environment() | settings,
            capture_output=True,
            text=True,
            timeout=_WITHIN_SECONDS,
            check=False,
        )
        return Ended(ended.returncode, ended.stdout, ended.stderr)

    def etl(self, *arguments: str, **settings: str) -> Ended:
        return self.python("-m", "temporaletl.control.cli.main", *arguments, **settings)

    @contextmanager
    def start(self, *arguments: str) -> Iterator[subprocess.Popen[str]]:
        """Run this Python's modules until the block ends."""
        process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.home,
            env=self._environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            try:
                yield process
            finally:
                process.terminate()

    def _environment(self) -> dict[str, str]:
        return {
            **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
            "PYTHONPATH": os.pathsep.join(map(str, self.path)),
            "DATABASE_URL": self.postgres_url,
            "ETL_DATA_DIR": str(self.home / "no-stack"),
            "LC_ALL": "C.UTF-8",
        }


def copy_checkout(target: Path) -> None:
    """Copy what a source is written into, and what its tests need."""
    for name in ("temporaletl", "tests"):
        shutil.copytree(PROJECT / name, target / name, ignore=_NOT_COPIED)
    for name in ("queuer", "worker"):
        (target / name).symlink_to(Path("temporaletl") / name)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, target / name)
