"""Databases of embedded clusters, dumped and restored by PostgreSQL's own programs.

Dumps and not copies of files: they restore into any later version, indexes and collations are made
anew there, and the programs of another major version read them.
"""

import contextlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg import sql

from temporaletl.errors import PermanentError

#: Where clients begin, and nobody keeps rows.
MAINTENANCE = "postgres"
_LAST_WORDS = 4
_CHUNK_BYTES = 1 << 20
#: Made with every cluster.
_OWN_ROLE = re.compile(rb"(?m)^CREATE ROLE postgres;$")
_TABLES = """
    SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND n.nspname <> 'information_schema' AND n.nspname NOT LIKE 'pg\\_%'
    ORDER BY 1, 2
"""


class DatabaseCopyError(PermanentError):
    """A program of PostgreSQL's could not dump or restore; the message has its last words."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state of a database that other sessions can read, too, as long as the context lasts.

    `rows` counts those of each table; `migrations` are those applied, by schema.
    """

    name: str
    rows: Mapping[str, int]
    migrations: Mapping[str, list[str]]


def database_names(url: str) -> list[str]:
    """The databases that hold rows, by the URL of any."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate "
            "AND datname <> %s ORDER BY datname",
            [MAINTENANCE],
        )
        return [str(name) for (name,) in found]


@contextmanager
def snapshot(url: str) -> Iterator[Snapshot]:
    """A consistent state of a database, also while it is written; its rows are counted first."""
    with psycopg.connect(url) as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        name = _value(connection, "SELECT pg_export_snapshot()")
        yield Snapshot(name, _count_rows(connection), _migrations(connection))


def count_rows(url: str) -> dict[str, int]:
    """How many rows each table of a database has."""
    with psycopg.connect(url, autocommit=True) as connection:
        return _count_rows(connection)


def _count_rows(connection: psycopg.Connection[Any]) -> dict[str, int]:
    return {
        f"{schema}.{table}": int(
            _value(
                connection,
                sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(schema, table)),
            )
        )
        for schema, table in connection.execute(_TABLES).fetchall()
    }


def _migrations(connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    tables = connection.execute(_TABLES).fetchall()
    return {
        schema: [
            str(name)
            for (name,) in connection.execute(
                sql.SQL("SELECT name FROM {} ORDER BY name").format(sql.Identifier(schema, table))
            )
        ]
        for schema, table in tables
        if table == "etl_migrations"
    }


def _value(connection: psycopg.Connection[Any], query: str | sql.Composed) -> Any:
    row = connection.execute(query).fetchone()
    assert row is not None, "such a query has a row"  # noqa: S101
    return row[0]


@contextmanager
def dumping(programs: Path, url: str, state: Snapshot) -> Iterator[IO[bytes]]:
    """A dump of a database in that state, in PostgreSQL's custom format, as it is written.

    Raises:
        DatabaseCopyError: `pg_dump` failed, when the context ends.
    """
    command = ["--format=custom", "--create", f"--snapshot={state.name}", "--dbname", url]
    with _reading([programs / "pg_dump", *command]) as content:
        yield content


@contextmanager
def dumping_roles(programs: Path, url: str, *, passwords: bool) -> Iterator[IO[bytes]]:
    """The users and groups of a cluster as statements; raises as `dumping`."""
    hidden = () if passwords else ("--no-role-passwords",)
    with _reading([programs / "pg_dumpall", "--roles-only", *hidden, "--dbname", url]) as content:
        yield content


def restore_database(programs: Path, url: str, dump: IO[bytes]) -> None:
    """Restore a dump into a cluster, by the URL of its database `postgres`.

    A database of its name is replaced.

    Raises:
        DatabaseCopyError: `pg_restore` failed; says why.
    """
    command = ["--clean", "--if-exists", "--create", "--exit-on-error", "--dbname", url]
    _feed([programs / "pg_restore", *command], dump)


def restore_roles(programs: Path, url: str, statements: bytes) -> None:
    """Make the users and groups of another cluster in one that was just made; raises likewise."""
    command = ["--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", url]
    with tempfile.TemporaryFile() as file:
        file.write(_OWN_ROLE.sub(b"", statements))
        file.seek(0)
        _feed([programs / "psql", *command], file)


def analyze(programs: Path, url: str) -> None:
    """Have the planner know the rows of all databases; raises likewise."""
    command = ["--all", "--analyze-only", "--quiet", "--maintenance-db", url]
    with _started([programs / "vacuumdb", *command]):
        pass


@contextmanager
def _reading(command: Sequence[str | Path]) -> Iterator[IO[bytes]]:
    with _started(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None  # noqa: S101 - Popen was given PIPE
        yield process.stdout


def _feed(command: Sequence[str | Path], content: IO[bytes]) -> None:
    with _started(command, stdin=subprocess.PIPE) as process:
        assert process.stdin is not None  # noqa: S101 - Popen was given PIPE
        # It may end before, and says why.
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            shutil.copyfileobj(content, stdin, _CHUNK_BYTES)


@contextmanager
def _started(
    command: Sequence[str | Path],
    *,
    stdin: int = subprocess.DEVNULL,
    stdout: int = subprocess.DEVNULL,
) -> Iterator["subprocess.Popen[bytes]"]:
    """A program that has ended well when the context has; killed where that ends by an error."""
    with (
        tempfile.TemporaryFile() as said,
        # A terminal's Ctrl-C is ours to answer.
        subprocess.Popen(  # noqa: S603
            command, stdin=stdin, stdout=stdout, stderr=said, start_new_session=True
        ) as process,
    ):
        try:
            yield process
            process.wait()
        except BaseException:
            process.kill()
            raise
        if process.returncode:
            said.seek(0)
            lines = said.read().decode(errors="replace").strip().splitlines()[-_LAST_WORDS:]
            raise DatabaseCopyError(
                f"{Path(command[0]).name} failed with exit status {process.returncode}: "
                + "; ".join(lines)
            )
