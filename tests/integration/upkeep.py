"""What tests of backups and upgrades of `etl up`'s data share."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from temporaletl.embedded.postgres import running_postgres, temporary_folder

WITHIN_SECONDS = 200
OWN = ("TEMPORAL_ADDRESS", "TEMPORAL_HOST", "DATABASE_URL", "WPE_DB_HOST", "ETL_DATA_DIR")
#: Rows, indexes, an extension with its index, a user, and who may read what.
CONTENT = """
    CREATE TABLE kept AS SELECT g AS number, 'text ' || g AS text FROM generate_series(1, 5000) g;
    CREATE INDEX kept_number ON kept (number);
    CREATE INDEX kept_text ON kept (text COLLATE "C");
    CREATE ROLE reporter LOGIN PASSWORD 'a-password';
    GRANT SELECT ON kept TO reporter
"""
VECTORS = """
    CREATE EXTENSION vector; CREATE TABLE vectors (v vector(2));
    INSERT INTO vectors VALUES ('[1,2]'); CREATE INDEX ON vectors USING hnsw (v vector_l2_ops)
"""
QUESTIONS = {
    "rows": "SELECT count(*), sum(number), md5(string_agg(text, ',' ORDER BY number)) FROM kept",
    "indexes": "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
    "extensions": "SELECT extname FROM pg_extension ORDER BY 1",
    "grants": "SELECT has_table_privilege('reporter', 'kept', 'SELECT')",
    "invalid": "SELECT count(*) FROM pg_index WHERE NOT indisvalid",
}


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A data folder that is not there yet, and no setting that names other servers."""
    for variable in OWN:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.chdir(tmp_path)
    # Not below `tmp_path`: as root the server runs as somebody else, who may not pass there.
    with temporary_folder("etl upkeep ") as name:
        yield name / "data"


def etl(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "temporaletl.control.cli", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=WITHIN_SECONDS
    )
    assert done.returncode == status, done.stderr
    return done


def answers(url: str) -> dict[str, Any]:
    with psycopg.connect(url) as connection:
        return {name: connection.execute(sql).fetchall() for name, sql in QUESTIONS.items()}


def fill(folder: Path, *statements: str) -> dict[str, Any]:
    with running_postgres(folder) as url:
        with psycopg.connect(url, autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)
        return answers(url)


def found_in(folder: Path) -> dict[str, Any]:
    with running_postgres(folder) as url:
        return answers(url)
