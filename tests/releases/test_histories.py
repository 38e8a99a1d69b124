"""Workflows that a released version began go on with the code of today."""

from pathlib import Path

import pytest

from tests.releases import frozen
from tests.releases.frozen import Release, changed_migrations, freeze, releases, stale
from tests.replay.histories import read, recorded
from tests.replay.scenarios import set_bounds
from tests.replay.test_replay import replayer


async def replay(release: Release, monkeypatch: pytest.MonkeyPatch) -> int:
    """Replay a release's histories, of which there may be none that earlier ones have not."""
    found = release.histories()
    for history, bounds in found:
        with monkeypatch.context() as patched:
            set_bounds(bounds, patched)
            await replayer().replay_workflow(read(history))
    return len(found)


async def test_histories_of_every_release_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    for release in releases():
        await replay(release, monkeypatch)


def test_released_migrations_stay_as_they_are_and_new_ones_come_after_them() -> None:
    assert {str(release): changed_migrations(release) for release in releases()} == {
        str(release): [] for release in releases()
    }


@pytest.fixture
def first(tmp_path: Path) -> Release:
    """What is now, frozen as a release but for its warehouse."""
    release = Release(tmp_path / "9.9.0")
    freeze(release)
    return release


def test_a_release_holds_what_no_earlier_one_does(first: Release) -> None:
    (first.folder / "histories" / f"{recorded()[0]}.json").unlink()
    tenth = Release(first.folder.parent / "9.10.0")
    freeze(tenth)
    assert [str(release) for release in releases(first.folder.parent)] == ["9.9.0", "9.10.0"]
    assert [str(history) for history, _ in tenth.histories()] == [str(recorded()[0])]
    assert list(stale(tenth)) == ["warehouse.sql"]
    assert list(stale(first)) == ["warehouse.sql", f"histories/{recorded()[0]}.json"]


def test_a_migration_that_changed_or_came_between_is_noticed(
    first: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    present = first.migrations()
    assert changed_migrations(first) == []
    changed, *_, last = present
    between, after = last.replace(".sql", "") + ".", "9999_later.sql"
    other = {**present, changed: "", between: "", after: ""}
    monkeypatch.setattr(frozen, "present_migrations", lambda: other)
    assert changed_migrations(first) == [changed, between]
    assert "migrations" in stale(first)
    del other[last]
    assert last in changed_migrations(first)
