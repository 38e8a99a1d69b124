"""The structure of the code: short modules, and imports that go one way."""

from graphlib import TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[2]
_MOST_LINES = 400


def test_no_module_is_long() -> None:
    folders = [ROOT / name for name in ("temporaletl", "tests", "scripts")]
    lengths = {
        str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines())
        for folder in folders
        for path in folder.rglob("*.py")
    }
    assert len(lengths) > 500
    assert {name: lines for name, lines in lengths.items() if lines > _MOST_LINES} == {}


def test_no_modules_import_each_other() -> None:
    graph = grimp.build_graph("temporaletl", exclude_type_checking_imports=True, cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    assert sum(map(len, imports.values())) > 1_000
    TopologicalSorter(imports).prepare()  # raises CycleError, with the cycle


def test_nothing_hands_an_exception_to_structlog() -> None:
    """The host's renderer may print locals, which hold secrets."""
    for path in (ROOT / "temporaletl").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if path.name != "logs.py":
            for way in ("structlog.get_logger", "exc_info=", "log.exception("):
                assert way not in text, path
