"""Wrong input of every kind: one clear line on standard error, and exit status 2."""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.acceptance.platform import Platform, platform_in
from tests.etl_process import run_etl
from tests.fakes.jira import generate, serve


def run(
    *command: str | Path, environment: Mapping[str, str], folder: Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def assert_refused(done: subprocess.CompletedProcess[str], *says: str) -> None:
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2, done.stderr
    assert len(lines) == 1, done.stderr
    for text in says:
        assert text in lines[0]
    assert "secret" not in done.stderr


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """An environment without any settings."""
    foreign = ("TEMPORAL_", "WPE_DB_", "DATABASE_URL", "JIRA_", "ETL_", "SOURCE_")
    own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    return {**own, "ETL_DATA_DIR": str(tmp_path / "none")}


@pytest.mark.parametrize("service", ["queuer", "worker"])
def test_a_service_without_a_warehouse(service: str, bare: dict[str, str], tmp_path: Path) -> None:
    done = run(sys.executable, "-m", service, environment=bare, folder=tmp_path)
    assert_refused(done, "no warehouse is configured", "WPE_DB_HOST", "DATABASE_URL")


def test_a_setting_that_cannot_be(bare: dict[str, str], tmp_path: Path) -> None:
    environment = {**bare, "WPE_DB_HOST": "localhost", "WPE_DB_PORT": "many"}
    done = run(sys.executable, "-m", "worker", environment=environment, folder=tmp_path)
    assert_refused(done, "WPE_DB_PORT")


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """Services without settings for Jira."""
    with platform_in(tmp_path_factory.mktemp("bare"), {}) as running:
        yield running


def test_missing_credentials(platform: Platform) -> None:
    assert_refused(platform.etl("run", "jira"), "JIRA_URL is not set")
    checked = platform.etl("check", "jira")
    assert checked.returncode == 2
    assert "JIRA_URL is not set" in checked.stdout + checked.stderr


def test_credentials_without_a_token(platform: Platform) -> None:
    given = {"JIRA_URL": "http://127.0.0.1:1", "JIRA_EMAIL": "me@example.com"}
    checked = run_etl(
        *("check", "jira"),
        environment={**platform.environment, **given},
        folder=platform.folder,
    )
    assert checked.returncode == 2
    assert "JIRA_API_TOKEN" in checked.stdout + checked.stderr


def test_refused_credentials(platform: Platform) -> None:
    site = generate(3, seed=1, personality="cloud")
    with serve(site, accepted=["me@example.com:right"]) as server:
        given = {
            "JIRA_URL": server.url,
            "JIRA_EMAIL": "me@example.com",
            "JIRA_API_TOKEN": "a-wrong-secret",
        }
        checked = run_etl(
            *("check", "jira"),
            environment={**platform.environment, **given},
            folder=platform.folder,
        )
    assert checked.returncode == 2
    assert "401" in checked.stdout + checked.stderr
    assert "a-wrong-secret" not in checked.stdout + checked.stderr


@pytest.fixture
def clerk(platform: Platform) -> Iterator[str]:
    """A database user with the permission to connect only."""
    name = sql.Identifier("clerk")
    with psycopg.connect(platform.postgres.url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE ROLE {} LOGIN").format(name))
        yield make_conninfo(platform.postgres.url, user="clerk", password="its-secret")
        connection.execute(sql.SQL("DROP ROLE {}").format(name))


@pytest.mark.parametrize("service", ["queuer", "worker"])
def test_a_database_user_without_create(service: str, platform: Platform, clerk: str) -> None:
    environment = {**platform.environment, "DATABASE_URL": clerk, "WPE_DB_SCHEMA": "elsewhere"}
    done = run(sys.executable, "-m", service, environment=environment, folder=platform.folder)
    assert done.returncode == 2
    assert "clerk lacks CREATE" in done.stderr
    assert "GRANT CREATE ON DATABASE warehouse TO clerk" in done.stderr
    assert "its-secret" not in done.stderr


def test_a_check_by_a_database_user_without_create(platform: Platform, clerk: str) -> None:
    environment = {**platform.environment, "DATABASE_URL": clerk, "WPE_DB_SCHEMA": "elsewhere"}
    done = run_etl("check", "temporal", environment=environment, folder=platform.folder)
    assert done.returncode == 2
    assert "CREATE" in done.stdout + done.stderr
    assert "its-secret" not in done.stdout + done.stderr
