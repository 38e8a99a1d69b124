import json
import os
from pathlib import Path

import pytest

from temporaletl.embedded.running import (
    StackInUseError,
    default_data_folder,
    publish,
    read_running,
    take,
    use_running,
    withdraw,
)
from temporaletl.errors import ConfigurationError

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
        publish(tmp_path, {"TEMPORAL_ADDRESS": "127.0.0.1:1"})
        assert read_running(tmp_path) == {"TEMPORAL_ADDRESS": "127.0.0.1:1"}
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


def test_the_data_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert default_data_folder() == Path("/data/temporaletl")
    monkeypatch.setenv("ETL_DATA_DIR", "/else where")
    assert default_data_folder() == Path("/else where")
