"""What `etl uninstall` finds and removes, without servers."""

import os
import pwd
from pathlib import Path

import pytest

from temporaletl.embedded.postgres import cluster_major, temporary_folder
from temporaletl.embedded.removal import Inventory, remove_all, take_inventory
from temporaletl.embedded.running import default_data_folder
from temporaletl.errors import ConfigurationError
from tests.tree import tree

LINE = "source '{}/.bash_completions/etl.sh'"


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The home of a user who is not root."""
    for name in ("ETL_DATA_DIR", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (".local/share", ".cache", ".config/fish/completions"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


def make(folder: Path, *names: str, text: str = "made") -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def make_data(folder: Path) -> None:
    make(folder, "lock", "postgresql/PG_VERSION", "postgresql.access", "postgresql.password")
    make(folder, "postgresql.programs-0.6.0-pginstall18/bin/postgres", "stack.json")
    make(folder, "temporal.db", "temporal.db-wal", "logs/worker-2.log", "logs/postgresql.log.1")


def uninstall(*, keep_data: bool = False) -> Inventory:
    found = take_inventory(default_data_folder(), keep_data=keep_data)
    remove_all(found)
    return found


def test_all_that_was_made_goes_and_nothing_else(home: Path) -> None:
    make(home, ".bashrc", text="alias a=b\n")
    make(home, ".cache/other/file", ".bash_completions/other.sh")
    before = tree(home)
    make_data(home / ".local/share/temporaletl")
    make_data(home / ".local/share/temporaletl-quickstart")
    make(home / ".cache/temporaletl", "bin/temporal", "temporal.lock", "uv/bin/uv", "trino-1/a")
    script = "complete … _ETL_COMPLETE"
    make(home, ".bash_completions/etl.sh", ".config/fish/completions/etl.fish", text=script)
    make(home, ".zfunc/_etl", text=script)
    make(home, ".bashrc", text=f"alias a=b\n\n{LINE.format(home)}\n")
    found = uninstall()
    assert tree(home) == before
    assert found.staying == []
    assert uninstall().removable == []


def test_what_others_put_there_and_links_stay_and_are_named(home: Path) -> None:
    data, cache = home / ".local/share/temporaletl", home / ".cache/temporaletl"
    make(home, "disk/precious", ".zfunc/_etl", text="mine")
    make(data, "letters", "postgresql.conf", "logs/mine.log", "postgresql/recipes")
    make(cache, "notes")
    (data / "temporal.db").symlink_to(home / "disk" / "precious")
    (cache / "go-build").symlink_to(home / "disk")
    before = tree(home)
    make(data, "lock", "logs/api.log")
    found = uninstall()
    assert tree(home) == before
    assert {path.relative_to(home).as_posix() for path, _ in found.staying} == {
        *(f".local/share/temporaletl/{name}" for name in ("letters", "postgresql.conf")),
        *(f".local/share/temporaletl/{name}" for name in ("logs/mine.log", "postgresql")),
        *(".local/share/temporaletl/temporal.db", ".cache/temporaletl/go-build"),
    }


def test_logs_behind_a_link_and_a_linked_data_folder_are_not_followed_out(home: Path) -> None:
    make(home, "elsewhere/worker.log", "real/.keep")
    (home / ".local/share/temporaletl").symlink_to(home / "real")
    (home / "real" / "logs").symlink_to(home / "elsewhere")
    before = tree(home)
    make(home / "real", "lock", "temporal.db")
    uninstall()
    assert tree(home) == before


def test_a_folder_on_which_nothing_ever_ran_is_not_touched(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_DATA_DIR", str(home / "mine"))
    make(home / "mine", "temporal.db", "logs/api.log")
    before = tree(home)
    assert uninstall().removable == []
    assert tree(home) == before


def test_data_that_is_to_be_kept_stays(home: Path) -> None:
    data = home / ".local/share/temporaletl"
    make_data(data)
    before = tree(home)
    make(home / ".cache/temporaletl", "bin/temporal")
    found = uninstall(keep_data=True)
    assert tree(home) == before
    assert found.staying == [(data, "its data is kept")]


def test_the_data_of_another_user_is_refused() -> None:
    with temporary_folder("etl-removal-") as folder:
        make(folder, "lock", "postgresql/PG_VERSION", text="18")
        user = os.geteuid()
        (folder / "postgresql").chmod(0o000)
        folder.chmod(0o311)
        try:
            if user == 0:  # whom no mode keeps out
                os.seteuid(pwd.getpwnam("nobody").pw_uid)
            with pytest.raises(ConfigurationError, match="another user's"):
                take_inventory(folder)
            with pytest.raises(ConfigurationError, match="another user's"):
                cluster_major(folder / "postgresql")
        finally:
            if user == 0:
                os.seteuid(0)
            folder.chmod(0o700)
            (folder / "postgresql").chmod(0o700)
