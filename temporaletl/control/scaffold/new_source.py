"""The skeleton of `etl new-source`: a source that runs and passes the standard suite."""

import keyword
import pkgutil
import re
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import NoReturn

from temporaletl.control.scaffold.installation import install_steps, installers
from temporaletl.errors import ConfigurationError
from temporaletl.queuer import sources as queuer_sources
from temporaletl.strategies import ENTRY_POINT_GROUP
from temporaletl.worker import sources as worker_sources

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_QUEUER_SOURCES = Path("temporaletl/queuer/sources")
_WORKER_SOURCES = Path("temporaletl/worker/sources")
#: Longer ones would not fit the lines of the templates.
_LONGEST_NAME = 18
#: Prefixes of the platform's own variables.
_TAKEN = frozenset({"temporal", "etl", "wpe", "wpe_db", "database", "source", "notify"})


@dataclass(frozen=True, slots=True)
class Written:
    """The files that were written, and the next steps: commands and their meaning."""

    folder: Path
    paths: tuple[Path, ...]  # below the folder
    steps: tuple[tuple[str, str], ...]


def new_source(name: str, folder: Path | None, *, wheel: bool = False) -> Written:
    """Write the skeleton of a source: into the checkout that holds the folder, else as a package.

    Without a folder the checkout is looked for around the current one; a package goes to
    `temporaletl-<name>` there. Existing files are never touched: it is all of them or none.

    Raises:
        ConfigurationError: the name cannot be one, is taken, or a file is there already.
    """
    _check_name(name)
    checkout = None if wheel else _checkout(folder or Path.cwd())
    if folder is not None and not wheel and checkout is None and _holds_files(folder):
        raise ConfigurationError(
            f"{folder} is no checkout of TemporalETL, nor an empty folder for a package of its own"
        )
    if checkout is not None:
        _write(checkout, _in_checkout(name))
        return Written(checkout, tuple(_in_checkout(name)), _steps_in_checkout(name))
    home = folder or Path.cwd() / f"temporaletl-{name.replace('_', '-')}"
    _write(home, _as_package(name))
    return Written(home, tuple(_as_package(name)), _steps_of_package(name, home))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or keyword.iskeyword(name) or len(name) > _LONGEST_NAME:
        raise ConfigurationError(
            f"{name!r} cannot name a source: it takes lower-case letters, digits and single "
            f"underscores, begins with a letter, has at most {_LONGEST_NAME} characters, and is "
            f"no word of Python"
        )
    known = _known_sources()
    if name in known:
        raise ConfigurationError(f"there is a source {name!r} already; choose another name")
    if name in _TAKEN:
        raise ConfigurationError(
            f"{name!r} cannot name a source: variables {name.upper()}_… are the platform's own"
        )


def _known_sources() -> set[str]:
    """The names of all sources, without importing any, as one may be broken."""
    paths: Iterable[str] = (
        *queuer_sources.__path__,
        *worker_sources.__path__,
    )
    modules = {module.name for module in pkgutil.iter_modules(paths)}
    return modules | {entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)}


def _checkout(folder: Path) -> Path | None:
    """The checkout of TemporalETL that a folder is in."""
    for parent in (folder.resolve(), *folder.resolve().parents):
        project = parent / "pyproject.toml"
        if project.is_file() and (parent / _QUEUER_SOURCES).is_dir():
            try:
                found = tomllib.loads(project.read_text(encoding="utf-8"))
            except (tomllib.TOMLDecodeError, UnicodeDecodeError):
                continue
            if found.get("project", {}).get("name") == "temporaletl":
                return parent
    return None


def _holds_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _in_checkout(name: str) -> dict[Path, str]:
    names = _names(name) | {"fake": f"tests.fakes.{name}"}
    return {
        Path("temporaletl/external") / f"{name}.py": _filled("checkout/settings.py", names),
        _QUEUER_SOURCES / f"{name}.py": _filled("checkout/queuer.py", names),
        _WORKER_SOURCES / f"{name}.py": _filled("checkout/worker.py", names),
        Path("tests/fakes") / f"{name}.py": _filled("checkout/fake.py", names),
        Path("tests/source_fixtures") / f"{name}.py": _filled("checkout/source_fixture.py", names),
        Path("tests/integration") / f"test_{name}_source.py": _filled("checkout/test.py", names),
    }


def _as_package(name: str) -> dict[Path, str]:
    names = _names(name) | {"fake": f"fake_{name}"}
    return {
        Path("pyproject.toml"): _filled("wheel/pyproject.toml", names),
        Path("README.md"): _filled("wheel/README.md", names),
        Path(f"temporaletl_{name}.py"): _filled("wheel/source.py", names),
        Path("tests") / f"fake_{name}.py": _filled("checkout/fake.py", names).replace(
            f"python -m tests.fakes.{name} ", f"python tests/fake_{name}.py "
        ),
        Path("tests") / f"fixture_{name}.py": _filled("checkout/source_fixture.py", names),
        Path("tests") / f"test_{name}.py": _filled("wheel/test.py", names),
    }


def _names(name: str) -> dict[str, str]:
    return {
        "name": name,
        "NAME": name.upper(),
        "Name": "".join(part.capitalize() for part in name.split("_")),
        "dashed": name.replace("_", "-"),
    }


def _filled(template: str, names: Mapping[str, str]) -> str:
    templates = files("temporaletl.control.scaffold") / "templates"
    text = (templates / f"{template}.tmpl").read_text(encoding="utf-8")
    return _sorted_imports(Template(text).substitute(names))


def _sorted_imports(text: str) -> str:
    """Sort adjacent import lines, whose order depends on the source's name."""
    lines = text.splitlines(keepends=True)
    first = 0
    while first < len(lines):
        end = first
        while end < len(lines) and lines[end].startswith("from ") and " import (" not in lines[end]:
            end += 1
        lines[first:end] = sorted(lines[first:end], key=lambda line: line.split()[1])
        first = max(end, first + 1)
    return "".join(lines)


def _write(folder: Path, contents: Mapping[Path, str]) -> None:
    for path in contents:
        # A package of the same name would hide the module, a file in the way its folder.
        for taken in (path, path.with_suffix("")):
            if (folder / taken).exists():
                _refuse(folder / taken)
        for parent in path.parents:
            if (folder / parent).exists() and not (folder / parent).is_dir():
                _refuse(folder / parent)
    for path, text in contents.items():
        try:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(
                f"{folder / path} cannot be written: {error.strerror}"
            ) from None


def _refuse(taken: Path) -> NoReturn:
    raise ConfigurationError(f"{taken} is there already: nothing was written")


def _steps_in_checkout(name: str) -> tuple[tuple[str, str], ...]:
    return (
        (f"scripts/test tests/integration/test_{name}_source.py", "it passes the standard suite"),
        (f"python -m tests.fakes.{name} --port 8090", "serve the fake, then in another terminal:"),
        (
            f"{name.upper()}_URL=http://127.0.0.1:8090 {name.upper()}_TOKEN=any etl preview {name}",
            "its first rows",
        ),
        (f"edit {_WORKER_SOURCES}/{name}.py", "what is read, and what becomes of it"),
    )


def _steps_of_package(name: str, home: Path) -> tuple[tuple[str, str], ...]:
    return (
        (f"cd {shlex.quote(str(home))}", ""),
        *install_steps(installers()),
        ("pytest", "it passes the standard suite"),
        (f"python tests/fake_{name}.py --port 8090", "serve the fake, then in another terminal:"),
        (
            f"{name.upper()}_URL=http://127.0.0.1:8090 {name.upper()}_TOKEN=any etl preview {name}",
            "its first rows; services that run already know it after a restart",
        ),
        (f"edit temporaletl_{name}.py", "what is read, and what becomes of it"),
    )
