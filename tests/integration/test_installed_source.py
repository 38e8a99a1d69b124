"""A source that another wheel brings: written, built, installed, found, planned and run."""

import json
import os
import subprocess
import sysconfig
import zipfile
from pathlib import Path
from venv import EnvBuilder

import pytest

from tests.integration.checkout import PROJECT, Folder

#: A process that never saw the source's folder loads it in the services' own functions.
_LOAD = """
import asyncio, sys
from temporaletl.engine import run_batch
from temporaletl.testing.contents import read_content
from temporaletl.testing.postgres import empty_warehouse
from temporaletl.testing.fakes import FakeServer
sys.path.insert(0, sys.argv[1])
from fixture_kiosk import KioskFixture
import contextlib, os
fixture = KioskFixture()
with contextlib.contextmanager(fixture.serve)() as environment:
    os.environ.update(environment)
    with empty_warehouse(os.environ["DATABASE_URL"]) as warehouse:
        summary = asyncio.run(run_batch(warehouse, "kiosk", scheduled=fixture.now))
        found = read_content(warehouse, "kiosk")["events"]
        assert summary.state == "completed", summary
        assert set(found) == fixture.expected()["items"]
print(len(found), "events")
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Folder:
    """The package that `etl new-source kiosk` writes outside of a checkout."""
    outside = Folder(tmp_path_factory.mktemp("elsewhere"), [PROJECT], postgres_url)
    written = outside.etl("new-source", "kiosk")
    assert written.status == 0, written.err
    assert "temporaletl_kiosk.py" in written.out
    return Folder(outside.home / "temporaletl-kiosk", [PROJECT], postgres_url)


@pytest.fixture(scope="module")
def installed(project: Folder, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """An environment in which the package's wheel is installed, and its project is not."""
    wheels = tmp_path_factory.mktemp("wheels")
    built = project.python("-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels))
    assert built.status == 0, built.err
    (wheel,) = wheels.glob("*.whl")
    target = tmp_path_factory.mktemp("installed")
    with zipfile.ZipFile(wheel) as archive:
        assert {name for name in archive.namelist() if "dist-info" not in name} == {
            "temporaletl_kiosk.py"
        }
        archive.extractall(target)
    return Folder(tmp_path_factory.mktemp("home"), [target, PROJECT], project.postgres_url)


def test_it_passes_the_standard_suite_in_its_own_project(
    project: Folder, installed: Folder
) -> None:
    there = Folder(project.home, installed.path, project.postgres_url)
    passed = there.python("-m", "pytest", "-q", "-p", "no:cacheprovider")
    assert passed.status == 0, passed.out[-5000:]
    assert "skipped" not in passed.out


def test_it_is_formatted_and_clean_in_its_own_project(project: Folder) -> None:
    for command in (("format", "--check"), ("check",)):
        done = project.python("-m", "ruff", *command, "--no-cache")
        assert done.status == 0, done.out + done.err


def test_its_suite_says_what_is_missing_where_it_is_not_installed(project: Folder) -> None:
    failed = project.python(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider"),
        *("tests", "-k", "test_its_names_are_plain"),
    )
    assert failed.status == 1
    assert "source 'kiosk' is not registered: is its package installed" in failed.out


def test_both_services_find_plan_and_run_it(project: Folder, installed: Folder) -> None:
    done = installed.python("-c", _LOAD, str(project.home / "tests"))
    assert done.status == 0, done.err
    assert done.out.split()[-2:] == ["90", "events"]


def test_it_is_listed_with_the_place_where_it_is_defined(installed: Folder) -> None:
    listed = installed.etl("sources", "--json")
    assert listed.status == 0, listed.err
    (kiosk,) = [each for each in json.loads(listed.out) if each["source"] == "kiosk"]
    assert kiosk["place"].startswith("temporaletl_kiosk.KioskSettings")
    (stream,) = kiosk["streams"]
    assert (stream["stream"], stream["tables"], stream["fault"]) == ("items", ["events"], None)
    assert stream["place"].startswith("temporaletl_kiosk.pages:")


def test_a_name_that_an_installed_source_has_is_taken(installed: Folder) -> None:
    again = installed.etl("new-source", "kiosk")
    assert again.status == 2
    assert again.err == "etl: there is a source 'kiosk' already; choose another name\n"


def test_a_folder_that_holds_something_is_no_place_for_a_package(
    installed: Folder, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    done = installed.etl("new-source", "other", "--folder", str(tmp_path))
    assert done.status == 2
    assert "is no checkout of TemporalETL, nor an empty folder" in done.err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def commands_of(said: str) -> list[str]:
    """The next steps that the command prints."""
    steps = said.partition("next:\n")[2].splitlines()
    return [step.partition("  # ")[0].strip() for step in steps]


@pytest.mark.timeout(600)
def test_the_printed_commands_install_it_where_the_command_runs(
    tmp_path: Path, postgres_url: str
) -> None:
    """In an environment that sees all of this one's packages, as quickstart installs them."""
    EnvBuilder(with_pip=False, symlinks=True).create(tmp_path / "env")
    python = tmp_path / "env/bin/python"
    (site_packages,) = (tmp_path / "env/lib").glob("python*/site-packages")
    (site_packages / "project.pth").write_text(f"{sysconfig.get_path('purelib')}\n{PROJECT}\n")
    kept = ("PATH", "HOME", "SSL_", "HTTP", "http", "ALL_PROXY", "NO_PROXY", "PIP_")
    environment = {
        **{name: os.environ[name] for name in os.environ if name.startswith(kept)},
        "DATABASE_URL": postgres_url,
        "LC_ALL": "C.UTF-8",
    }
    environment["PATH"] = f"{python.parent}:{environment['PATH']}"

    def run(command: str, folder: Path) -> str:
        ended = subprocess.run(
            ["bash", "-c", command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=400,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr[-3000:]
        return ended.stdout + ended.stderr

    said = run("python -m temporaletl.control.cli.main new-source booth", tmp_path)
    change, install, *_ = commands_of(said)
    assert install == "python -m pip install -e . --group dev"
    assert install in (tmp_path / "temporaletl-booth/README.md").read_text()
    run(f"{change} && {install}", tmp_path)
    listed = json.loads(
        run("python -m temporaletl.control.cli.main sources --json 2>/dev/null", tmp_path)
    )
    assert "booth" in {each["source"] for each in listed}
