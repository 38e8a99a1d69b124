"""The way to a source of one's own, as the author's guide shows it, in a copy of the checkout."""

import zipfile
from pathlib import Path

import pytest

from tests.integration.checkout import PROJECT, Folder, copy_checkout

#: The shortest and the longest name a source can have: lines are wrapped and sorted by it.
NAMES = ["z", "rehearsal", "microsoft_dynamics"]
WRITTEN = [
    "temporaletl/external/{}.py",
    "temporaletl/queuer/sources/{}.py",
    "temporaletl/worker/sources/{}.py",
    "tests/fakes/{}.py",
    "tests/source_fixtures/{}.py",
    "tests/integration/test_{}_source.py",
]


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, postgres_url: str) -> Folder:
    home = tmp_path_factory.mktemp("checkout")
    copy_checkout(home)
    folder = Folder(home, [home], postgres_url)
    for name in NAMES:
        written = folder.etl("new-source", name)
        assert written.status == 0, written.err
        assert written.out.split() == [path.format(name) for path in WRITTEN]
        assert f"scripts/test tests/integration/test_{name}_source.py" in written.err
    return folder


def files_of(name: str) -> list[str]:
    return [path.format(name) for path in WRITTEN]


def test_a_new_source_passes_the_standard_suite_at_once(checkout: Folder) -> None:
    passed = checkout.python(
        *("-m", "pytest", "-q", "-p", "no:cacheprovider"),
        "tests/integration/test_rehearsal_source.py",
    )
    assert passed.status == 0, passed.out[-5000:]
    assert "skipped" not in passed.out


@pytest.mark.parametrize("name", NAMES)
def test_a_new_source_is_formatted_and_clean(checkout: Folder, name: str) -> None:
    for command in (("format", "--check"), ("check",)):
        done = checkout.python("-m", "ruff", *command, "--no-cache", *files_of(name))
        assert done.status == 0, done.out + done.err


def test_a_new_source_is_typed(checkout: Folder) -> None:
    done = checkout.python("-m", "mypy", *(path for name in NAMES for path in files_of(name)))
    assert done.status == 0, done.out + done.err


def test_a_new_source_keeps_to_the_layers(checkout: Folder) -> None:
    done = checkout.python(
        "-c", "from importlinter.cli import lint_imports_command as c; c(['--no-cache'])"
    )
    assert done.status == 0, done.out + done.err


def test_a_new_source_is_listed_where_it_is_written(checkout: Folder) -> None:
    listed = checkout.etl("sources")
    assert listed.status == 0, listed.err
    assert "temporaletl.worker.sources.rehearsal.pages:" in listed.out


def test_nothing_is_written_over(checkout: Folder) -> None:
    files = [checkout.home / path for path in files_of("rehearsal")]
    before = [path.stat().st_mtime_ns for path in files]
    again = checkout.etl("new-source", "rehearsal")
    assert (again.status, again.out) == (2, "")
    assert again.err == "etl: there is a source 'rehearsal' already; choose another name\n"
    taken = checkout.etl("new-source", "http")
    assert taken.status == 2
    assert taken.err.endswith(
        "temporaletl/external/http.py is there already: nothing was written\n"
    )
    assert [path.stat().st_mtime_ns for path in files] == before
    assert not (checkout.home / "temporaletl/queuer/sources/http.py").exists()


def test_the_folder_may_be_named_from_elsewhere(
    tmp_path: Path, checkout: Folder, postgres_url: str
) -> None:
    elsewhere = Folder(tmp_path, [checkout.home], postgres_url)
    done = elsewhere.etl(
        "new-source", "other", "--folder", str(checkout.home / "temporaletl/worker")
    )
    assert done.status == 0, done.err
    assert (checkout.home / "temporaletl/worker/sources/other.py").is_file()
    assert list(tmp_path.iterdir()) == []


def test_the_wheel_carries_the_templates_and_the_suite(checkout: Folder, tmp_path: Path) -> None:
    built = checkout.python("-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    assert built.status == 0, built.err
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    templates = (PROJECT / "temporaletl/control/scaffold/templates").rglob("*.tmpl")
    assert {str(path.relative_to(PROJECT)) for path in templates} <= names
    assert {"temporaletl/testing/suite.py", "temporaletl/testing/fakes/server.py"} <= names
    assert "temporaletl/py.typed" in names


def test_the_fake_runs_alone_and_the_source_reads_it(checkout: Folder) -> None:
    with checkout.start("-m", "tests.fakes.rehearsal", "--port", "0", "--items", "5") as fake:
        assert fake.stdout is not None
        url = fake.stdout.readline().removeprefix("listening on ").strip()
        read = checkout.etl(
            *("preview", "rehearsal", "--limit", "3", "--json"),
            REHEARSAL_URL=url,
            REHEARSAL_TOKEN="any",
        )
    assert read.status == 0, read.err
    assert "item_created" in read.out


@pytest.mark.parametrize(("put", "missing"), [("queuer", "worker"), ("worker", "queuer")])
def test_the_example_among_the_modules_of_one_service_is_refused(
    tmp_path: Path, postgres_url: str, put: str, missing: str
) -> None:
    copy_checkout(tmp_path)
    example = (PROJECT / "tests/examples/shop.py").read_text()
    (tmp_path / f"temporaletl/{put}/sources/shop.py").write_text(example)
    folder = Folder(tmp_path, [tmp_path], postgres_url)
    shop = {"SHOP_URL": "http://127.0.0.1:1", "SHOP_TOKEN": "any"}
    for command in ("check", "preview", "run"):
        done = folder.etl(command, "shop", **shop)
        assert (done.status, done.out) == (2, "")
        assert f" is in temporaletl.{put}.sources.shop, which only the {put} imports" in done.err
        assert f" belongs in temporaletl.{missing}.sources.shop;" in done.err
    assert f"which only the {put} imports" in folder.etl("sources", "--json").out
