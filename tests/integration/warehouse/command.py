"""`etl` in this process, with a warehouse and without Temporal."""

from collections.abc import Callable
from pathlib import Path

import pytest

from temporaletl.command import run_command
from temporaletl.control.cli import session
from temporaletl.control.cli.main import app
from temporaletl.warehouse.connection import Warehouse

#: Answers the exit status, standard output and standard error.
Etl = Callable[..., tuple[int | str | None, str, str]]


@pytest.fixture
def etl(
    warehouse: Warehouse,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Etl:
    monkeypatch.setenv("DATABASE_URL", postgres_url)
    monkeypatch.setenv("WPE_DB_SCHEMA", warehouse.schema)
    # Nothing listens on port 1.
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    # The logs of this process are the tests'.
    monkeypatch.setattr(session, "quiet_logs", lambda: None)

    def run(*arguments: str) -> tuple[int | str | None, str, str]:
        monkeypatch.setattr("sys.argv", ["etl", *arguments])
        with pytest.raises(SystemExit) as ended:
            run_command(app, "etl")
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run
