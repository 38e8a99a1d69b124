"""A release is made by a script; what it leaves is upgraded from, and goes on."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from temporaletl.engine import run_batch
from temporaletl.testing.postgres import empty_warehouse
from temporaletl.warehouse import migration
from temporaletl.warehouse.connection import Warehouse
from tests.documentation import ROOT
from tests.integration.containers.engine import import_base_images, missing, running_engine
from tests.integration.temporal_server import require_temporal
from tests.integration.warehouse.batches import rows
from tests.releases.frozen import Release, releases, stale
from tests.releases.test_histories import replay
from tests.releases.upgrading import State, bring_up_to_date, restored

pytestmark = pytest.mark.timeout(2400)
_PRESENT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
#: What is released here: the version after that of the checkout.
VERSION = re.sub(r"\d+$", lambda found: str(int(found[0]) + 1), _PRESENT)
_NAME = ("-c", "user.name=test", "-c", "user.email=test@localhost")
_FILES = {
    *("NOTES.md", "SHA256SUMS", f"temporaletl-{VERSION}-py3-none-any.whl"),
    *(f"temporaletl-{VERSION}.cdx.json", f"temporaletl-{VERSION}.tar.gz"),
    *(f"temporaletl-chart-{VERSION}.tgz", f"temporaletl-rocks-{VERSION}.tar.gz"),
}


def git(folder: Path, *arguments: str) -> str:
    command = ["git", *_NAME, *arguments]
    return subprocess.run(
        command, cwd=folder, capture_output=True, check=True, text=True, timeout=60
    ).stdout


def commit(folder: Path) -> None:
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "test")


def script(folder: Path, *arguments: str | Path, **environment: str) -> tuple[int, str]:
    """Run the script of a checkout; its status, and what it says."""
    done = subprocess.run(
        [sys.executable, "scripts/release.py", *arguments],
        cwd=folder,
        env={**os.environ, "DOCKER_HOST": "unix:///nowhere", **environment},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is here, with a change to be released, committed in a repository of its own."""
    folder = tmp_path_factory.mktemp("checkout") / "temporaletl"
    listed = git(ROOT, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_symlink() or (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    changelog = folder / "CHANGELOG.md"
    entry = "## Unreleased\n\n- What this test released.\n"
    changelog.write_text(changelog.read_text().replace("## Unreleased\n", entry, 1))
    git(folder.parent, "init", "--quiet", str(folder))
    commit(folder)
    return folder


@pytest.fixture(scope="module")
def tried(checkout: Path) -> Path:
    """The files of a dry run."""
    require_temporal()
    target = checkout.parent / "tried"
    status, said = script(checkout, "dry-run", VERSION, "--to", target)
    assert status == 0, said
    assert "No images" in said
    return target


@pytest.fixture(scope="module")
def prepared(checkout: Path, tried: Path) -> Path:
    """The checkout with what the dry run entered and froze, committed."""
    with tarfile.open(tried / f"temporaletl-{VERSION}.tar.gz") as tar:
        tar.extractall(tried.parent, filter="data")
    folder, source = tried.parent / "prepared", tried.parent / f"temporaletl-{VERSION}"
    git(checkout, "clone", "--quiet", str(checkout), str(folder))
    (source / "PKG-INFO").unlink()
    shutil.copytree(source, folder, dirs_exist_ok=True)
    commit(folder)
    return folder


@pytest.fixture
def clone(prepared: Path, tmp_path: Path) -> Path:
    git(prepared, "clone", "--quiet", str(prepared), str(tmp_path / "clone"))
    return tmp_path / "clone"


def test_a_dry_run_makes_every_file_and_leaves_the_checkout_as_it_was(
    checkout: Path, tried: Path
) -> None:
    assert {file.name for file in tried.iterdir()} == _FILES
    sums = dict(line.split()[::-1] for line in (tried / "SHA256SUMS").read_text().splitlines())
    assert sums == {
        name: hashlib.sha256((tried / name).read_bytes()).hexdigest()
        for name in _FILES - {"SHA256SUMS"}
    }
    notes = (tried / "NOTES.md").read_text()
    assert notes.startswith("- What this test released.")
    assert notes in (checkout / "CHANGELOG.md").read_text()
    sbom = json.loads((tried / f"temporaletl-{VERSION}.cdx.json").read_text())
    assert sbom["metadata"]["component"]["version"] == VERSION
    with tarfile.open(tried / f"temporaletl-rocks-{VERSION}.tar.gz") as tar:
        held = {name.partition("/")[2] for name in tar.getnames()}
    assert {"temporaletl/worker/rockcraft.yaml", "scripts/start-worker.sh", "worker"} <= held
    assert git(checkout, "status", "--porcelain") + git(checkout, "tag") == ""


def test_files_of_one_commit_have_the_same_hashes(prepared: Path, clone: Path) -> None:
    for folder, environment in ((prepared, {"TZ": "Asia/Tokyo"}), (clone, {"LC_ALL": "C"})):
        status, said = script(folder, "build", **environment)
        assert status == 0, said
        assert f"`git tag --annotate v{VERSION} {git(folder, 'rev-parse', 'HEAD').strip()}`" in said
        assert git(folder, "tag") == ""
    first, second = (
        (folder / "dist" / f"temporaletl-{VERSION}" / "SHA256SUMS").read_text()
        for folder in (prepared, clone)
    )
    assert first == second
    assert "already" in script(clone, "build")[1]


def _replace(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / file).read_text()
        assert old in text
        (folder / file).write_text(text.replace(old, new))
        commit(folder)

    return change


def _add(folder: Path) -> None:
    (folder / "new").touch()


def _migrate_further(folder: Path) -> None:
    (folder / "temporaletl/warehouse/migrations/9999_later.sql").touch()
    commit(folder)


def _tag(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        git(folder, "tag", name)

    return change


@pytest.mark.parametrize(
    ("change", "command", "told"),
    [
        (_add, ("build",), "these are not: new"),
        (_add, ("dry-run",), "these are not: new"),
        (_tag(f"v{VERSION}"), ("build",), f"there is a tag v{VERSION}"),
        (_tag(f"v{VERSION}"), ("prepare", VERSION), f"there is a tag v{VERSION}"),
        (_tag("v90.10.0"), ("prepare", "90.9.0"), "90.9.0 is before v90.10.0"),
        (_tag("v0.0.1"), ("prepare", "1.0"), "1.0 is no version"),
        (
            _replace("CHANGELOG.md", f"## {VERSION} - ", "## "),
            ("build",),
            f"says nothing of {VERSION}",
        ),
        *(
            (_replace(file, f'version: "{VERSION}"', 'version: "99.9.9"'), ("build",), file)
            for file in ("queuer/rockcraft.yaml", "worker/rockcraft.yaml", "api/rockcraft.yaml")
        ),
        *(
            (_replace(file, VERSION, "99.9.9"), ("build",), f"{file}: 99.9.9")
            for file in ("deploy/chart/Chart.yaml", "docker-compose.yml", "docs/install.md")
        ),
        (
            _replace("deploy/chart/Chart.yaml", f"appVersion: {VERSION}", "appVersion: 99.9.9"),
            ("build",),
            f"deploy/chart/Chart.yaml: {VERSION}, 99.9.9",
        ),
        (_migrate_further, ("build",), "not as the checkout is (migrations)"),
    ],
)
def test_a_release_that_would_be_wrong_is_refused(
    clone: Path, change: Callable[[Path], None], command: tuple[str, ...], told: str
) -> None:
    change(clone)
    status, said = script(clone, *command)
    assert status == 2, said
    assert told in said
    assert not (clone / "dist").exists()


# -- what it leaves ----------------------------------------------------------------------------


@pytest.fixture(params=[*releases(), None], ids=lambda release: str(release or "dry-run"))
def release(request: pytest.FixtureRequest) -> Release:
    if request.param is None:
        folder: Path = request.getfixturevalue("prepared")
        return Release(folder / "tests" / "releases" / VERSION)
    left: Release = request.param
    return left


@pytest.fixture
def left(release: Release, postgres_url: str) -> Iterator[Warehouse]:
    """The warehouse that a release left."""
    with restored(postgres_url, release) as warehouse:
        yield warehouse


async def test_what_a_dry_run_freezes_replays(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = Release(prepared / "tests" / "releases" / VERSION)
    assert list(stale(release)) == []
    # What earlier releases left is replayed as theirs.
    assert await replay(release, monkeypatch) > 0 or releases()


def test_a_released_warehouse_is_migrated_without_a_loss(
    left: Warehouse, postgres_url: str
) -> None:
    before = State.of(left)
    held = {table for table, count in before.rows.items() if count}
    assert held >= {
        *("etl_audit", "etl_batches", "etl_identities", "etl_jobs", "etl_pages", "etl_rejects"),
        *(
            "etl_runs",
            "etl_sync_state",
            "etl_tokens",
            "numbers_events",
            "pipeline_results",
            "recorded",
        ),
        *("pipeline_versions", "source_connections"),
    }
    bring_up_to_date(left)
    after = State.of(left)
    assert after.harms(before) == []
    with empty_warehouse(postgres_url) as made:
        bring_up_to_date(made)
        assert after.lacks(State.of(made)) == []


async def test_a_released_warehouse_is_loaded_further(left: Warehouse) -> None:
    counted = "SELECT source_kind_id, count(*) FROM events GROUP BY 1"
    bring_up_to_date(left)
    [(_, before)] = rows(left, counted)
    result = await run_batch(left, "numbers", params={"jobs": 5, "size": 20})
    assert result.state == "completed"
    [(_, after)] = rows(left, counted)
    assert result.rows.inserted == after - before > 0
    assert result.records == 100


@pytest.mark.parametrize(
    ("migration_of_tomorrow", "harm"),
    [
        ("ALTER TABLE etl_rejects DROP COLUMN reason", r"etl_rejects\.reason text"),
        ("ALTER TABLE etl_jobs ADD COLUMN n int NOT NULL DEFAULT 1", None),
        ("ALTER TABLE etl_deletions ADD COLUMN n int NOT NULL", r"etl_deletions\.n is required"),
        ("DELETE FROM etl_pages", "rows of etl_pages"),
        ("ALTER TABLE etl_jobs ALTER COLUMN job_id TYPE varchar", r"etl_jobs\.job_id text"),
    ],
)
def test_a_migration_that_does_harm_is_noticed(
    prepared: Path,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    migration_of_tomorrow: str,
    harm: str | None,
) -> None:
    known, read = migration.known_migrations(), migration._read
    tomorrow = "9999_tomorrow.sql"
    monkeypatch.setattr(migration, "known_migrations", lambda: [*known, tomorrow])
    monkeypatch.setattr(
        migration,
        "_read",
        lambda name: migration_of_tomorrow.encode() if name == tomorrow else read(name),
    )
    with restored(postgres_url, Release(prepared / "tests/releases" / VERSION)) as warehouse:
        before = State.of(warehouse)
        migration.migrate(warehouse)
        harms = State.of(warehouse).harms(before)
    assert len(harms) == (harm is not None)
    assert all(re.match(str(harm), each) for each in harms), harms


@pytest.mark.slow
def test_images_are_built_and_listed(clone: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    if reason := missing():
        pytest.skip(f"no container engine: {reason}")
    folder = tmp_path_factory.mktemp("engine")
    with running_engine(folder) as engine:
        import_base_images(engine, folder)
        build = ("build", "--", "--network=host", "--build-arg=UV_SYSTEM_CERTS=true")
        path = f"/usr/bin:{os.environ['PATH']}"
        status, said = script(clone, *build, DOCKER_HOST=engine.address, PATH=path)
        assert status == 0, said
        made = clone / "dist" / f"temporaletl-{VERSION}"
        listed = [line.split() for line in (made / "images.txt").read_text().splitlines()]
        assert [name for name, _ in listed] == [
            f"temporaletl-{service}:{VERSION}" for service in ("queuer", "worker", "api")
        ]
        for name, image in listed:
            shown = json.loads(engine.docker("image", "inspect", image))[0]
            assert [f"temporaletl-{each}:{VERSION}" for each in shown["Config"]["Cmd"]] == [name]
            assert shown["RepoTags"] == [name]
            revision = shown["Config"]["Labels"]["org.opencontainers.image.revision"]
            assert revision == git(clone, "rev-parse", "HEAD").strip()
