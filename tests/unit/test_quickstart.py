"""What the quick start says; that it works is to be seen when it runs."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from temporaletl.embedded.running import take

_SCRIPT = Path(__file__).parents[2] / "scripts" / "quickstart.py"


@pytest.fixture
def quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    spec = importlib.util.spec_from_file_location("quickstart", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def said(quickstart: Any, *, keep: bool = False) -> tuple[Path, str]:
    """The folder of a quick start, and what it suggests on it."""
    with quickstart._folder() as (folder, stays):
        lines = quickstart.suggestions(Path("/root"), folder, "psql x", keep=keep, stays=stays)
    return folder, "\n".join(lines)


def test_what_stays_can_be_looked_at_later(quickstart: Any) -> None:
    folder, told = said(quickstart)
    assert folder.is_dir()
    assert f"etl up --data {folder}" in told
    assert "psql x" in told


def test_nothing_is_suggested_on_a_folder_that_goes(quickstart: Any, tmp_path: Path) -> None:
    with take(tmp_path / "temporaletl" / "quickstart"):
        folder, told = said(quickstart)
        kept, told_while_up = said(quickstart, keep=True)
    assert not folder.exists()
    assert str(folder) not in told
    assert "psql" not in told
    assert f"export ETL_DATA_DIR={kept}" in told_while_up
    assert "etl serve" in told_while_up
