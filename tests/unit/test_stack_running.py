import json
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from temporaletl.embedded import stack
from temporaletl.embedded.processes import Stop, StoppedError
from temporaletl.embedded.running import (
    RunningStack,
    StackInUseError,
    clear,
    default_data_folder,
    end_running,
    left_behind,
    publish,
    read_running,
    take,
    use_running,
    withdraw,
)
from temporaletl.errors import ConfigurationError

SOON = timedelta(seconds=20)
ELSEWHERE = ("TEMPORAL_ADDRESS", "TEMPORAL_HOST", "DATABASE_URL", "WPE_DB_HOST")


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*ELSEWHERE, "ETL_DATA_DIR", "MADE_UP"):
        # Set first, so that what a test puts there is taken away after it.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_a_running_stack_is_found(tmp_path: Path) -> None:
    with take(tmp_path):
        publish(tmp_path, {"TEMPORAL_ADDRESS": "127.0.0.1:1"}, "postgresql://a:secret@b/c")
        found = read_running(tmp_path)
        assert found == RunningStack(
            {"TEMPORAL_ADDRESS": "127.0.0.1:1"}, "postgresql://a:secret@b/c"
        )
        assert "secret" not in repr(found)
        withdraw(tmp_path)
        assert read_running(tmp_path) is None


def test_what_a_killed_stack_left_is_not_taken_for_running(tmp_path: Path) -> None:
    with take(tmp_path):
        publish(tmp_path, {"TEMPORAL_ADDRESS": "127.0.0.1:1"})
    assert read_running(tmp_path) is None


def test_a_folder_is_one_stacks_at_a_time(tmp_path: Path) -> None:
    with take(tmp_path), pytest.raises(StackInUseError, match=str(tmp_path)):
        take(tmp_path)
    take(tmp_path).close()


def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="file/data cannot be used"):
        take(tmp_path / "file" / "data")


def test_only_its_user_may_read_what_is_published(tmp_path: Path) -> None:
    publish(tmp_path, {})
    assert (tmp_path / "stack.json").stat().st_mode & 0o777 == 0o600
    assert json.loads((tmp_path / "stack.json").read_text())["pid"] == os.getpid()


@pytest.mark.parametrize("variable", ELSEWHERE)
def test_servers_that_the_user_names_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "postgresql://elsewhere")
    with take(tmp_path):
        publish(tmp_path, {"MADE_UP": "from the stack"})
        assert not use_running(tmp_path)
    assert "MADE_UP" not in os.environ


def test_a_command_uses_the_running_stack(tmp_path: Path) -> None:
    with take(tmp_path):
        publish(tmp_path, {"MADE_UP": "from the stack"})
        assert use_running(tmp_path)
    assert os.environ["MADE_UP"] == "from the stack"


def test_the_stack_on_a_folder_is_ended_and_waited_for(tmp_path: Path) -> None:
    at_once = timedelta(0)
    assert not end_running(tmp_path, at_once)
    with take(tmp_path), pytest.raises(StackInUseError, match="other than `etl up`"):
        end_running(tmp_path, at_once)
    stop, lock = Stop(), take(tmp_path)
    stop.listen(tmp_path / "stop")

    def end_when_asked() -> None:
        stop.wait(SOON)
        lock.close()
        stop.close()

    with ThreadPoolExecutor() as threads:
        ended = threads.submit(end_when_asked)
        assert end_running(tmp_path, SOON)
        ended.result()
    assert not (tmp_path / "stop").exists()
    # What a killed stack left is nobody's.
    os.mkfifo(tmp_path / "stop")
    assert not end_running(tmp_path, at_once)


def test_a_start_that_is_stopped_exits_as_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stopped(_stack: stack.Stack) -> stack.Stack:
        raise StoppedError

    monkeypatch.setattr(stack.Stack, "__enter__", stopped)
    said: list[str] = []
    assert stack.up(stack.StackOptions(data=tmp_path), report=said.append) == 130
    assert said == ["Ended before everything had started."]


def test_what_is_deleted_is_the_stacks_alone(tmp_path: Path) -> None:
    (tmp_path / "letters").mkdir()
    assert not left_behind(tmp_path)
    (tmp_path / "postgresql").mkdir()
    for name in ("postgresql.password", "temporal.db-wal"):
        (tmp_path / name).touch()
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_the_data_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_data_folder() == Path("/data/temporaletl")
    monkeypatch.setenv("ETL_DATA_DIR", "/else where")
    assert default_data_folder() == Path("/else where")


@pytest.mark.parametrize(
    ("user", "folder"),
    [(0, "/var/lib/temporaletl"), (1000, "/home/me/.local/share/temporaletl")],
)
def test_roots_data_is_where_other_users_may_pass(
    monkeypatch: pytest.MonkeyPatch, user: int, folder: str
) -> None:
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(os, "geteuid", lambda: user)
    assert default_data_folder() == Path(folder)
