"""What workflows are written with: nothing that differs from one replay to the next."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "temporaletl"
#: Modules of clocks, chance, threads and the world outside.
_UNSTEADY = {"os", "pathlib", "random", "secrets", "socket", "subprocess", "threading", "time"}
_CALLS = {"open", "input", "datetime.now", "datetime.utcnow", "datetime.today", "uuid4", "utc_now"}


def unsteady(code: str) -> set[str]:
    """What a module's own code uses of it."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names if one.name.split(".")[0] in _UNSTEADY}
        elif isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] in _UNSTEADY:
            found.add(str(node.module))
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in _CALLS:
            found.add(ast.unparse(node.func))
    return found


def test_workflows_use_no_clock_and_no_chance_but_temporals() -> None:
    codes = {path: path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
    of_workflows = {
        path.relative_to(PACKAGE): unsteady(code)
        for path, code in codes.items()
        if "from temporalio import workflow\n" in code
    }
    assert {Path("worker/flow.py"), Path("queuer/dispatch.py")} < of_workflows.keys()
    assert {path: found for path, found in of_workflows.items() if found} == {}
    bad = "import time\nfrom random import choice\nasync def run():\n    datetime.now(UTC)\n"
    assert unsteady(bad) == {"time", "random", "datetime.now"}
