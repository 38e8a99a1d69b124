"""`etl` to its end in a process of its own, forked from one that has imported what commands need.

The imports take most of a short command's time. What imports, and how a process is started and
told to end, is for tests that start `python` or `etl` themselves.
"""

import atexit
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any, NoReturn

_ROOT = Path(__file__).parents[1]
_READY = b"."
_starting = Lock()


def run_etl(
    *arguments: str,
    environment: Mapping[str, str],
    folder: Path,
    timeout_seconds: float = 180,
) -> "subprocess.CompletedProcess[str]":
    """Run `etl` as `subprocess.run` does, without input.

    Raises:
        subprocess.TimeoutExpired: it has not ended in time, and was killed.
    """
    ours, theirs = socket.socketpair()
    with ours, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        ours.settimeout(timeout_seconds)
        with theirs:
            asked = {"arguments": arguments, "environment": dict(environment), "cwd": str(folder)}
            descriptors = [theirs.fileno(), out.fileno(), err.fileno()]
            # The size of a message is limited, that of a file is not.
            with tempfile.TemporaryFile() as request:
                request.write(json.dumps(asked).encode())
                request.seek(0)
                socket.send_fds(_server(), [_READY], [*descriptors, request.fileno()])
        with ours.makefile("rb") as told:
            pid = int(told.readline())
            try:
                status = int(told.readline())
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(["etl", *arguments], timeout_seconds) from None
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(["etl", *arguments], status, *texts)


def _server() -> socket.socket:
    """The connection to this process's server, which ends with it."""
    with _starting:
        return _server_once()


@cache
def _server_once() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "tests.etl_process", str(theirs.fileno())],
            cwd=_ROOT,
            pass_fds=[theirs.fileno()],
        )
    assert ours.recv(1) == _READY
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def _serve(connection: socket.socket) -> None:
    """Fork for each request; return where the other end is closed."""
    for name in (
        "temporaletl.control.cli",
        "temporaletl.control.operations",
        "temporaletl.external",
    ):
        for found in pkgutil.walk_packages(import_module(name).__path__, f"{name}."):
            if not found.name.endswith("__main__"):
                import_module(found.name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those who wait
    connection.send(_READY)
    while True:
        message, descriptors, _, _ = socket.recv_fds(connection, 1, 4)
        if not message:
            return
        if os.fork() == 0:
            connection.close()
            _run_and_tell(*descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def _run_and_tell(teller: int, out: int, err: int, request: int) -> NoReturn:
    """Become a process that waits for the command and tells its end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with os.fdopen(request) as file:
        asked = json.load(file)
    pid = os.fork()
    if pid == 0:
        os.close(teller)
        _become(asked, out, err)
    os.write(teller, f"{pid}\n".encode())
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    os.write(teller, f"{status}\n".encode())
    os._exit(0)


def _become(asked: dict[str, Any], out: int, err: int) -> NoReturn:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(out, 1)
    os.dup2(err, 2)
    os.closerange(3, max(out, err) + 1)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    found_first = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    sys.path[:0] = [asked["cwd"], *filter(None, found_first)]
    sys.argv = ["etl", *asked["arguments"]]
    import_module("temporaletl.control.cli.main").main()
    os._exit(70)  # it never returns


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as asking:
        _serve(asking)
