"""Names that are refused, and files that are not written over."""

import ast
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from temporaletl.control.cli.main import app
from temporaletl.control.scaffold.installation import Installers, install_steps
from temporaletl.control.scaffold.new_source import new_source
from temporaletl.errors import ConfigurationError

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """As little as makes a folder a checkout."""
    (tmp_path / "temporaletl" / "queuer" / "sources").mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "temporaletl"\n')
    return tmp_path


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "cannot name a source"),
        ("Shop", "cannot name a source"),
        ("web-shop", "cannot name a source"),
        ("web shop", "cannot name a source"),
        ("1shop", "cannot name a source"),
        ("_shop", "cannot name a source"),
        ("shop_", "cannot name a source"),
        ("web__shop", "cannot name a source"),
        ("../shop", "cannot name a source"),
        ("läden", "cannot name a source"),
        ("class", "no word of Python"),
        ("a" * 19, "at most 18 characters"),
        ("jira", "there is a source 'jira' already"),
        ("etl", "variables ETL_… are the platform's own"),
    ],
)
def test_a_name_that_cannot_be_one_is_refused(checkout: Path, name: str, told: str) -> None:
    before = files_of(checkout)
    with pytest.raises(ConfigurationError, match=told) as refused:
        new_source(name, checkout)
    assert "\n" not in str(refused.value)
    assert files_of(checkout) == before


def test_in_a_checkout_a_source_stands_beside_the_others(checkout: Path) -> None:
    written = new_source("web_shop", checkout / "temporaletl/queuer")
    assert written.folder == checkout
    assert files_of(checkout) - {"pyproject.toml"} == {
        "temporaletl/external/web_shop.py",
        "temporaletl/queuer/sources/web_shop.py",
        "temporaletl/worker/sources/web_shop.py",
        "tests/fakes/web_shop.py",
        "tests/source_fixtures/web_shop.py",
        "tests/integration/test_web_shop_source.py",
    }
    worker = (checkout / "temporaletl/worker/sources/web_shop.py").read_text()
    assert "class WebShopQuery(Query):" in worker
    assert '@extract_method("web_shop-items")' in worker


@pytest.mark.parametrize("where", ["checkout", "elsewhere"])
def test_what_is_written_is_whole(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory, where: str
) -> None:
    home = checkout if where == "checkout" else tmp_path_factory.mktemp("elsewhere")
    written = new_source("shop", home)
    for path in written.paths:
        text = (written.folder / path).read_text()
        assert "$" not in text.replace("$ ", "")
        assert "TODO" not in text
        if path.suffix == ".py":
            ast.parse(text)
            assert len(text.splitlines()) < 120
        elif path.suffix == ".toml":
            tomllib.loads(text)


def test_elsewhere_a_source_is_a_package_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written = new_source("web_shop", None)
    assert written.folder == tmp_path / "temporaletl-web-shop"
    project = tomllib.loads((written.folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "temporaletl-web-shop"
    assert project["entry-points"]["temporaletl.sources"] == {"web_shop": "temporaletl_web_shop"}
    assert (written.folder / "temporaletl_web_shop.py").is_file()


def test_a_package_may_be_asked_for_within_a_checkout(checkout: Path) -> None:
    written = new_source("shop", checkout / "mine", wheel=True)
    assert written.folder == checkout / "mine"
    assert "temporaletl/queuer/sources/shop.py" not in files_of(checkout)


def block_file(folder: Path) -> Path:
    path = folder / "tests/source_fixtures/shop.py"
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    return path


def block_package(folder: Path) -> Path:
    path = folder / "temporaletl/worker/sources/shop"
    path.mkdir(parents=True)
    return path


def block_folder(folder: Path) -> Path:
    path = folder / "tests"
    path.write_text("mine")
    return path


@pytest.mark.parametrize("block", [block_file, block_package, block_folder])
def test_it_is_all_files_or_none(checkout: Path, block: Callable[[Path], Path]) -> None:
    path = block(checkout)
    before = files_of(checkout)
    with pytest.raises(ConfigurationError, match=f"{path}.*nothing was written"):
        new_source("shop", checkout)
    assert files_of(checkout) == before


def test_the_command_lists_what_it_wrote_and_what_to_do_next(checkout: Path) -> None:
    done = CliRunner().invoke(app, ["new-source", "shop", "--folder", str(checkout)])
    assert done.exit_code == 0
    assert done.stdout.splitlines() == [
        "temporaletl/external/shop.py",
        "temporaletl/queuer/sources/shop.py",
        "temporaletl/worker/sources/shop.py",
        "tests/fakes/shop.py",
        "tests/source_fixtures/shop.py",
        "tests/integration/test_shop_source.py",
    ]
    assert "scripts/test tests/integration/test_shop_source.py" in done.stderr


@pytest.mark.parametrize(
    ("there", "commands"),
    [
        (Installers("python", "/v/bin/python", pip="25.1"), ["python -m pip"]),
        (Installers("/v/bin/python", "/v/bin/python", pip="26.3.1"), ["/v/bin/python -m pip"]),
        (Installers("python", "/v/bin/python", uv=True), ["uv pip install --python /v/bin/python"]),
        (Installers("python", "/v/bin/python", pip="24.3", uv=True), ["uv pip install"]),
        (
            Installers("python", "/v/bin/python", pip="24.3"),
            ["python -m pip install --upgrade 'pip>=25.1'", "python -m pip"],
        ),
        (
            Installers("python", "/v/bin/python", ensurepip=True),
            ["python -m ensurepip", "python -m pip install --upgrade", "python -m pip"],
        ),
        (Installers("python", "/v/bin/python"), ["install uv", "uv pip install --python"]),
    ],
)
def test_a_package_is_installed_by_what_its_python_has(
    there: Installers, commands: list[str]
) -> None:
    steps = [command for command, _ in install_steps(there)]
    assert len(steps) == len(commands)
    assert all(step.startswith(command) for step, command in zip(steps, commands, strict=True))
    assert steps[-1].endswith(" -e . --group dev")


def test_the_example_source_is_short() -> None:
    lines = (PROJECT / "tests/examples/shop.py").read_text().splitlines()
    assert len(lines) < 60
