"""Reads the pages of the documentation as the tests that compare it with the code need them."""

import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def pages() -> list[Path]:
    """Every page, and the files of the repository's front that are pages as well."""
    front = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")
    return [*sorted(DOCS.rglob("*.md")), *(ROOT / name for name in front)]


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def sections(text: str) -> Iterator[tuple[str, str]]:
    """Headings of any level, each with the text up to the next one."""
    parts = re.split(r"^#+ (.*)$", text, flags=re.MULTILINE)
    yield from zip(parts[1::2], parts[2::2], strict=True)


def tables(text: str) -> Iterator[tuple[list[str], list[list[str]]]]:
    """Tables, each as its heading and its rows of cells."""
    for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE):
        head, _, *rows = (
            [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip()[1:-1])]
            for line in block.splitlines()
        )
        yield head, rows


def code_in(cell: str) -> list[str]:
    """What stands in a cell as code."""
    return re.findall(r"`([^`]+)`", cell)


@cache
def named_tests(path: str) -> Mapping[str, bool]:
    """The tests of a module, and whether each is slow."""
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    marks = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Assign)]
    all_slow = any("pytestmark" in mark and "mark.slow" in mark for mark in marks)
    return {
        node.name: all_slow or any("mark.slow" in ast.unparse(one) for one in node.decorator_list)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
    }
