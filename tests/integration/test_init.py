"""`etl init`: the dialogue on a terminal, what it writes, and the same without a terminal."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import pytest
from dotenv import dotenv_values

from tests.fakes.jira import generate, serve
from tests.fakes.server import FakeServer

_PROJECT = Path(__file__).parents[2]
_WITHIN_SECONDS = 180
_TOKEN = "a-token-that-is-a-secret"
_ETL = (sys.executable, "-m", "temporaletl.control.cli.main")


@pytest.fixture(scope="module")
def jira() -> Iterator[FakeServer]:
    """A Data Center that takes one token."""
    with serve(generate(20, seed=1, personality="server"), accepted={_TOKEN}) as server:
        yield server


def _environment(folder: Path, **more: str) -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "PYTHONPATH": str(_PROJECT),
        "ETL_DATA_DIR": str(folder / "data"),
        "LC_ALL": "C.UTF-8",
        "COLUMNS": "200",
        "TERM": "dumb",
        **more,
    }


@dataclass
class Terminal:
    """A terminal with `etl` on it; `shown` is all that a person saw."""

    folder: Path
    arguments: Sequence[str]
    environment: dict[str, str]
    shown: str = ""
    _read: int = field(default=0, repr=False)

    def __enter__(self) -> Self:
        self._screen, slave = pty.openpty()
        self._process = subprocess.Popen(
            [*_ETL, *self.arguments],
            cwd=self.folder,
            env=self.environment,
            preexec_fn=lambda: os.login_tty(slave),  # noqa: PLW1509 - no thread runs in the child
            pass_fds=(slave,),
        )
        os.close(slave)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._screen)

    def answer(self, prompt: str, text: str) -> None:
        """Wait for a prompt that was not answered yet, and answer it."""
        self._see(prompt)
        os.write(self._screen, f"{text}\n".encode())

    def interrupt(self, prompt: str) -> None:
        self._see(prompt)
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Wait for its end, and return its status."""
        self._see(None)
        return self._process.wait(_WITHIN_SECONDS)

    def _see(self, prompt: str | None) -> None:
        """Read until the prompt, or to the end."""
        deadline = time.monotonic() + _WITHIN_SECONDS
        while prompt is None or prompt not in self.shown[self._read :]:
            left = deadline - time.monotonic()
            assert left > 0, f"{prompt!r} is not in {self.shown[self._read :]!r}"
            if not select.select([self._screen], [], [], left)[0]:
                continue
            try:
                found = os.read(self._screen, 65_536)
            except OSError:  # the other end is closed
                found = b""
            if not found:
                assert prompt is None, f"{prompt!r} is not in {self.shown[self._read :]!r}"
                return
            self.shown += found.decode()
        self._read = self.shown.index(prompt, self._read) + len(prompt)


def _run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_ETL, "init", *arguments],
        cwd=folder,
        env=_environment(folder, **environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_WITHIN_SECONDS,
        check=False,
    )


def test_a_person_is_asked_until_the_source_takes_the_settings(
    jira: FakeServer, tmp_path: Path
) -> None:
    dotenv = tmp_path / ".env"
    with Terminal(tmp_path, ("init", "jira"), _environment(tmp_path)) as terminal:
        terminal.answer("Which login [1]:", "3")
        terminal.answer("Which login [1]:", "2")
        terminal.answer("JIRA_URL:", "")
        terminal.answer("JIRA_URL is not set, and is needed", "jira.example.com")
        terminal.answer("must be an address like", jira.url)  # it is asked for again
        terminal.answer("JIRA_PERSONAL_TOKEN [not shown]:", "another-token")
        terminal.answer("JIRA_JQL [Enter: none]:", "project = A ORDER BY id")
        terminal.answer("must be a filter without ORDER BY", "")
        terminal.answer("Answer again? [Y/n]:", "")
        assert not dotenv.exists()
        terminal.answer("Which login [2]:", "")
        terminal.answer(f"JIRA_URL [{jira.url}]:", "")
        terminal.answer("JIRA_PERSONAL_TOKEN [not shown, Enter keeps it]:", _TOKEN)
        terminal.answer("JIRA_JQL [Enter: none]:", "")
        assert terminal.end() == 0
    assert "3 is none of 1 to 2" in terminal.shown
    assert "wrong  account: " in terminal.shown
    assert "ok     stream issues: answers" in terminal.shown
    assert "wrote .env: JIRA_URL, JIRA_PERSONAL_TOKEN" in terminal.shown
    assert "Next: etl run jira --mode full --engine local" in terminal.shown
    assert dotenv_values(dotenv) == {"JIRA_URL": jira.url, "JIRA_PERSONAL_TOKEN": _TOKEN}
    assert dotenv.stat().st_mode & 0o777 == 0o600
    assert _TOKEN not in terminal.shown
    assert "another-token" not in terminal.shown


def test_existing_lines_are_kept_and_a_value_is_changed_only_after_asking(
    jira: FakeServer, tmp_path: Path
) -> None:
    dotenv = tmp_path / ".env"
    dotenv.write_text(f"# mine\nOTHER='a b'\nJIRA_URL={jira.url}/\nexport JIRA_JQL=project=A\n")
    with Terminal(tmp_path, ("init", "jira", "--no-check"), _environment(tmp_path)) as terminal:
        terminal.answer("Which login [1]:", "2")
        terminal.answer(f"JIRA_URL [{jira.url}/]:", jira.url)
        terminal.answer("Change JIRA_URL in .env? [y/N]:", "y")
        terminal.answer("JIRA_PERSONAL_TOKEN [not shown]:", _TOKEN)
        terminal.answer("JIRA_JQL [project=A]:", "project = B")
        terminal.answer("Change JIRA_JQL in .env? [y/N]:", "n")
        terminal.answer("JIRA_JQL [project=A]:", "")
        assert terminal.end() == 0
    assert dotenv.read_text() == (
        f"# mine\nOTHER='a b'\nJIRA_URL={jira.url}\nJIRA_JQL=project=A\n"
        f"JIRA_PERSONAL_TOKEN={_TOKEN}\n"
    )


def test_an_interrupted_dialogue_leaves_nothing(tmp_path: Path) -> None:
    with Terminal(tmp_path, ("init", "jira"), _environment(tmp_path)) as terminal:
        terminal.answer("Which login [1]:", "2")
        terminal.answer("JIRA_URL", "https://jira.example.com")
        terminal.interrupt("JIRA_PERSONAL_TOKEN [not shown]:")
        assert terminal.end() == 130
    assert "etl: interrupted" in terminal.shown
    assert [*tmp_path.iterdir()] == []


def test_a_connection_is_added_to_the_file_with_its_secret_outside(
    jira: FakeServer, tmp_path: Path
) -> None:
    arguments = ("init", "jira", "--connection", "acme")
    with Terminal(tmp_path, arguments, _environment(tmp_path)) as terminal:
        terminal.answer("Which login [1]:", "2")
        terminal.answer("JIRA_URL", jira.url)
        terminal.answer("JIRA_PERSONAL_TOKEN [not shown]:", _TOKEN)
        terminal.answer("JIRA_JQL", "")
        assert terminal.end() == 0
    file = tmp_path / "connections.toml"
    assert file.read_text() == (
        f'[acme]\nsource = "jira"\nJIRA_URL = "{jira.url}"\n'
        'JIRA_PERSONAL_TOKEN = { env = "ACME_JIRA_PERSONAL_TOKEN" }\n'
    )
    assert dotenv_values(tmp_path / ".env") == {
        "ETL_CONNECTIONS": str(file),
        "ACME_JIRA_PERSONAL_TOKEN": _TOKEN,
    }
    assert "Next: etl run jira --connection acme --mode full --engine local" in terminal.shown
    checked = subprocess.run(
        [*_ETL, "connections", "check", "acme"],
        cwd=tmp_path,
        env=_environment(tmp_path),
        capture_output=True,
        timeout=_WITHIN_SECONDS,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout

    (tmp_path / "token").write_text(_TOKEN)
    named = ("--connection", "acme", "--set", f"JIRA_URL={jira.url}")
    again = _run(tmp_path, "jira", *named, "--file", "JIRA_PERSONAL_TOKEN=token")
    assert again.returncode == 2
    assert "JIRA_PERSONAL_TOKEN would be changed in connection 'acme': add --yes" in again.stderr
    again = _run(tmp_path, "jira", *named, "--file", "JIRA_PERSONAL_TOKEN=token", "--yes")
    assert again.returncode == 0, again.stderr
    assert 'JIRA_PERSONAL_TOKEN = { file = "token" }' in file.read_text()


def test_without_a_terminal_options_and_the_environment_say_all(
    jira: FakeServer, tmp_path: Path
) -> None:
    address = ("--set", f"JIRA_URL={jira.url}")
    lacking = _run(tmp_path, "jira", *address)
    assert lacking.returncode == 2
    assert "no credentials for Jira: set JIRA_EMAIL" in lacking.stderr
    assert "--set NAME=VALUE or in the environment" in lacking.stderr
    misspelt = _run(tmp_path, "jira", "--set", "JIRA_ULR=https://jira.example.com")
    assert "JIRA_ULR is no setting of source 'jira': did you mean JIRA_URL?" in misspelt.stderr
    wrong = _run(tmp_path, "jira", "--set", "JIRA_URL=nowhere")
    assert (misspelt.returncode, wrong.returncode) == (2, 2)
    assert "JIRA_URL is wrong: must be an address like" in wrong.stderr
    refused = _run(tmp_path, "jira", *address, "--json", JIRA_PERSONAL_TOKEN="another-token")
    assert refused.returncode == 2
    assert json.loads(refused.stdout)["ok"] is False
    assert [*tmp_path.iterdir()] == []

    done = _run(tmp_path, "jira", *address, "--json", JIRA_PERSONAL_TOKEN=_TOKEN)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {check["name"] for check in document.pop("checks")} == {
        *("settings", "account", "stream issues")
    }
    assert document == {
        "source": "jira",
        "connection": "default",
        "ok": True,
        "files": [".env"],
        "settings": ["JIRA_PERSONAL_TOKEN", "JIRA_URL"],
        "next": "etl run jira --mode full --engine local",
    }
    assert _TOKEN not in done.stdout + done.stderr
    assert dotenv_values(tmp_path / ".env")["JIRA_PERSONAL_TOKEN"] == _TOKEN
    other = _run(tmp_path, "jira", "--set", "JIRA_URL=https://jira.example.com")
    assert other.returncode == 2
    assert "JIRA_URL would be changed in .env: add --yes" in other.stderr
