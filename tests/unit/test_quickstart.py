"""What the quick start says; that it works is to be seen when it runs."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from temporaletl.embedded.running import take

_SCRIPT = Path(__file__).parents[2] / "scripts" / "quickstart.py"


@pytest.fixture
def quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    spec = importlib.util.spec_from_file_location("quickstart", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def said(quickstart: Any, *, page: str | None = None) -> tuple[Path, str]:
    """The folder of a quick start, and what it suggests on it."""
    with quickstart._folder() as (folder, stays):
        lines = quickstart.suggestions(Path("/root"), folder, page=page, stays=stays)
    return folder, "\n".join(lines)


def test_what_stays_can_be_looked_at_later(quickstart: Any) -> None:
    folder, told = said(quickstart)
    assert folder.is_dir()
    assert f"ETL_DATA_DIR={folder} /root/.venv/bin/etl psql" in told


def test_nothing_is_suggested_on_a_folder_that_goes(quickstart: Any, tmp_path: Path) -> None:
    with take(tmp_path / "temporaletl-quickstart"):
        folder, told = said(quickstart)
        kept, told_while_up = said(quickstart, page="http://127.0.0.1:8080")
    assert not folder.exists()
    assert str(folder) not in told
    assert "psql" not in told
    assert f"export ETL_DATA_DIR={kept}" in told_while_up
    assert "http://127.0.0.1:8080" in told_while_up


def test_pictures_fit_80_columns_in_any_encoding(quickstart: Any) -> None:
    rows = [("under 3 months", [5.25, 4.0]), ("older", [1234.0]), ("none", [0.0, 0.0])]
    for encoding, block in (("utf-8", "█"), ("latin-1", "#"), (None, "#")):
        lines = list(quickstart.bars(rows, block=quickstart._block(encoding)))
        assert max(map(len, lines)) <= 76
        assert "".join(lines).encode(encoding or "ascii")
        assert lines[1] == f"older           {block * 48}   1,234"
    assert list(quickstart.bars([], block="#")) == []


def test_an_install_that_failed_says_once_what_failed_and_why(tmp_path: Path) -> None:
    uv, said = tmp_path / "uv", "error: no `a`\n  cause: no network\n  cause: a proxy\n\nhint: try"
    uv.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{said}\nEND\nexit 2\n")
    uv.chmod(0o755)
    command = f"source {_SCRIPT.with_name('environment.sh')}; uv={uv}; uv_quietly sync"
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "no `a`: no network: a proxy\n", "")
