"""What each release leaves for later code to be tested against, in tests/releases/VERSION.

    histories/      workflow histories that no earlier release has
    bounds.json     the bounds that their workflows had, by scenario
    migrations      the warehouse's migrations, with their SHA-256
    warehouse.sql   a warehouse that the services of the release filled, as a dump

`python -m tests.releases.frozen VERSION` says what of it is not as the checkout has it.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from temporaletl.warehouse.migration import known_migrations
from tests.replay.histories import FOLDER as PRESENT_HISTORIES, Recorded, recorded
from tests.replay.scenarios import SCENARIOS

FOLDER = Path(__file__).parent
_BOUNDS = "bounds.json"


@dataclass(frozen=True)
class Release:
    """What a release left; `folder` is named by its version."""

    folder: Path

    @property
    def version(self) -> tuple[int, ...]:
        return tuple(map(int, self.folder.name.split(".")))

    @property
    def warehouse(self) -> Path:
        return self.folder / "warehouse.sql"

    def histories(self) -> list[tuple[Recorded, Mapping[str, int]]]:
        """Its histories, each with the bounds that its workflow had."""
        bounds = json.loads((self.folder / _BOUNDS).read_text())
        found = recorded(self.folder / "histories")
        return [(each, bounds.get(each.scenario, {})) for each in found]

    def migrations(self) -> dict[str, str]:
        """The SHA-256 of its migrations, by their names."""
        lines = (self.folder / "migrations").read_text().splitlines()
        return {name: digest for digest, name in map(str.split, lines)}

    def __str__(self) -> str:
        return self.folder.name


def releases(folder: Path = FOLDER) -> list[Release]:
    """All releases there are, the first one first."""
    found = [Release(path.parent) for path in folder.glob("*.*.*/migrations")]
    return sorted(found, key=lambda release: release.version)


def freeze(release: Release) -> None:
    """Write a release's histories and migrations as they are; safe to repeat."""
    shutil.rmtree(release.folder, ignore_errors=True)
    histories = release.folder / "histories"
    histories.mkdir(parents=True)
    earlier = _contents(release)
    for each in recorded():
        if each.file.read_bytes() not in earlier:
            shutil.copy(each.file, histories)
    bounds = {name: one.bounds for name, one in sorted(SCENARIOS.items()) if one.bounds}
    (release.folder / _BOUNDS).write_text(json.dumps(bounds, indent=1) + "\n")
    lines = [f"{digest}  {name}\n" for name, digest in present_migrations().items()]
    (release.folder / "migrations").write_text("".join(lines))


def present_migrations() -> dict[str, str]:
    """The SHA-256 of the migrations of today, by their names."""
    folder = files("temporaletl.warehouse") / "migrations"
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in known_migrations()
    }


def changed_migrations(release: Release) -> list[str]:
    """What of a release's migrations is not as it was, and what new ones came between them."""
    released, present = release.migrations(), present_migrations()
    changed = [name for name, digest in released.items() if present.get(name) != digest]
    return changed + [name for name in present.keys() - released if name < max(released)]


def _contents(release: Release) -> set[bytes]:
    """The histories that earlier releases hold."""
    return {
        history.file.read_bytes()
        for each in releases(release.folder.parent)
        if each.version < release.version
        for history, _ in each.histories()
    }


def stale(release: Release) -> Iterator[str]:
    """What of a release that is being made is missing, or not as it is in the checkout."""
    if release.folder not in [each.folder for each in releases(release.folder.parent)]:
        yield f"{release.folder.name} is not frozen"
        return
    if release.migrations() != present_migrations():
        yield "migrations"
    if not release.warehouse.is_file():
        yield release.warehouse.name
    frozen = _contents(release) | {each.file.read_bytes() for each, _ in release.histories()}
    yield from (
        str(each.file.relative_to(PRESENT_HISTORIES.parent))
        for each in recorded()
        if each.file.read_bytes() not in frozen
    )


if __name__ == "__main__":
    found = list(stale(Release(FOLDER / sys.argv[1])))
    sys.stdout.write("".join(f"{each}\n" for each in found))
    sys.exit(bool(found))
