"""The exchange of a data folder's content, interrupted at each of its steps."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from temporaletl.embedded import staging
from temporaletl.embedded.running import take

BEFORE = {"postgresql/PG_VERSION": "old", "temporal.db": "old", "temporal.db-wal": "old"}
NEW = {"postgresql/PG_VERSION": "new"}


class PoweredOffError(Exception):
    pass


def content(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "lock"
    }


def fill(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)


def stage(folder: Path, *, temporal: bool) -> None:
    fill(folder, {"postgresql.staged/PG_VERSION": "new", "postgresql.staged.access": ""})
    if temporal:
        fill(folder, {"temporal.db.staged": "new"})


@pytest.mark.parametrize(
    ("staged", "exchanged", "after"),
    [
        (True, True, NEW | {"temporal.db": "new"}),
        (False, True, NEW),  # a backup without Temporal's file: none must be newer than the rows
        (False, False, BEFORE | NEW),  # an upgrade, which is PostgreSQL's alone
    ],
)
def test_after_any_interruption_a_folder_holds_what_it_did_or_what_was_staged(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    staged: bool,
    exchanged: bool,
    after: dict[str, str],
) -> None:
    outcomes = []
    for last in range(1, 100):
        folder = tmp_path / str(last)
        folder.mkdir()
        fill(folder, BEFORE)
        stage(folder, temporal=staged)
        with monkeypatch.context() as patched:
            steps = iter(range(last))
            for where, name in (
                (Path, "rename"),
                (Path, "replace"),
                (Path, "unlink"),
                (os, "fsync"),
                (shutil, "rmtree"),
            ):
                patched.setattr(where, name, ending(getattr(where, name), steps))
            try:
                staging.commit(folder, temporal=exchanged)
                interrupted = False
            except PoweredOffError:
                interrupted = True
        take(folder).close()
        outcomes.append(content(folder))
        if not interrupted:
            break
    assert not interrupted
    changed = outcomes.index(after)
    assert outcomes == [BEFORE] * changed + [after] * (len(outcomes) - changed)
    assert 0 < changed < len(outcomes) - 1


def ending[**P, T](step: Callable[P, T], steps: Iterator[int]) -> Callable[P, T]:
    def do(*args: P.args, **kwargs: P.kwargs) -> T:
        if next(steps, None) is None:
            raise PoweredOffError
        return step(*args, **kwargs)

    return do


def test_what_is_staged_and_not_committed_goes_when_the_folder_is_taken(tmp_path: Path) -> None:
    fill(tmp_path, BEFORE)
    stage(tmp_path, temporal=True)
    take(tmp_path).close()
    assert content(tmp_path) == BEFORE
