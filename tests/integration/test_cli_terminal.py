"""`etl` as a process on a terminal and in a pipe: its first sign, Ctrl-C, poor character sets."""

import contextlib
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from temporaletl.control.cli.signs import SIGNS

_WITHIN_SECONDS = 180
_PROJECT = Path(__file__).parents[2]
_ETL = (sys.executable, "-m", "temporaletl.control.cli")
#: Styles, and what erases a line.
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """Takes connections, and answers none."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(_WITHIN_SECONDS)
        yield listener


def environment(folder: Path, server: socket.socket | None, **settings: str) -> dict[str, str]:
    address = f"127.0.0.1:{server.getsockname()[1] if server else 1}"
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(_PROJECT),
        "ETL_DATA_DIR": str(folder),
        "HOME": str(folder),
        "TERM": "xterm",
        "LC_ALL": "C.UTF-8",
        "DATABASE_URL": f"postgresql://u:p@{address}/w",
        "TEMPORAL_ADDRESS": address,
        "JIRA_URL": f"http://{address}",
        "JIRA_EMAIL": "me@example.com",
        "JIRA_API_TOKEN": "a-token-of-nobody",
        **settings,
    }


class Terminal:
    """A process on a terminal of its own."""

    def __init__(self, arguments: list[str], settings: dict[str, str], folder: Path) -> None:
        self._ours, theirs = pty.openpty()
        with os.fdopen(theirs, "wb", closefd=True) as end:
            self.process = subprocess.Popen(
                [*_ETL, *arguments],
                cwd=folder,
                env=settings,
                stdin=end,
                stdout=end,
                stderr=end,
                start_new_session=True,
            )
        self.text = ""

    def read_until(self, part: str | None) -> str:
        """Read until the text holds a part, or to the end."""
        deadline = time.monotonic() + _WITHIN_SECONDS
        while part is None or part not in self.text:
            ready, _, _ = select.select([self._ours], [], [], deadline - time.monotonic())
            assert ready, self.text
            try:
                read = os.read(self._ours, 4096)
            except OSError:  # its end
                break
            if not read:
                break
            self.text += read.decode("utf-8", "backslashreplace")
        return self.text

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.mark.parametrize(
    "command",
    ["status", "run jira --wait", "preview jira", "logs some", "pipeline run some --wait"],
)
@pytest.mark.parametrize("moment", ["at its sign", "while it waits"])
def test_ctrl_c_ends_a_command_with_one_line_and_130(
    silent_server: socket.socket, tmp_path: Path, command: str, moment: str
) -> None:
    terminal = Terminal(command.split(), environment(tmp_path, silent_server), tmp_path)
    with contextlib.closing(terminal), contextlib.ExitStack() as connections:
        sign = SIGNS[command.split(maxsplit=1)[0]]
        assert terminal.read_until("...").startswith(f"{sign} ...")
        if moment == "while it waits":
            connections.enter_context(silent_server.accept()[0])
        terminal.process.send_signal(signal.SIGINT)
        text = terminal.read_until(None)
        assert terminal.process.wait(_WITHIN_SECONDS) == 130
    assert "Traceback" not in text
    *_, last = _CONTROL.sub("", text).split("\n")[:-1]
    before = (f"Interrupted before the {what} was started." for what in ("run", "execution"))
    assert last.strip() in ("etl: interrupted", *before)


def test_a_sign_is_erased_before_anything_else_is_shown(tmp_path: Path) -> None:
    terminal = Terminal(["run", "nosuch"], environment(tmp_path, None), tmp_path)
    with contextlib.closing(terminal):
        text = terminal.read_until(None)
        assert terminal.process.wait(_WITHIN_SECONDS) == 2
    sign, erased, error = text.split("\r", 2)
    assert sign == "Starting the run ..."
    assert erased == " " * len(sign)
    assert error.startswith("etl: there is no source 'nosuch'")
    assert all(len(line) <= 80 for line in error.splitlines())


@pytest.mark.parametrize(
    "settings",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
    ids=["ascii", "latin-1"],
)
@pytest.mark.parametrize("command", ["--help", "sources", "check jira", "schema jira"])
def test_in_a_pipe_of_few_letters_there_is_no_traceback_and_no_escape_code(
    tmp_path: Path, command: str, settings: dict[str, str]
) -> None:
    ended = subprocess.run(
        [*_ETL, *command.split()],
        cwd=tmp_path,
        env=environment(tmp_path, None, **settings),
        capture_output=True,
        timeout=_WITHIN_SECONDS,
        check=False,
    )
    assert ended.returncode in (0, 1, 2)
    assert b"Traceback" not in ended.stdout + ended.stderr
    assert b"\x1b" not in ended.stdout + ended.stderr
    assert SIGNS.get(command.split(maxsplit=1)[0], "-- ").encode() not in ended.stderr
