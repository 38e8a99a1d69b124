"""A cluster of an earlier major version of PostgreSQL, moved to the one that is here.

Its databases are dumped by the new programs from a server of the old ones, and restored beside it:
indexes are built anew, for the sort order of this system, and extensions are of their new versions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql

from temporaletl.embedded.databases import (
    MAINTENANCE,
    DatabaseCopyError,
    analyze,
    count_rows,
    database_names,
    dumping,
    dumping_roles,
    restore_database,
    restore_roles,
    snapshot,
)
from temporaletl.embedded.postgres import (
    ClusterVersionError,
    EmbeddedPostgres,
    cluster_major,
    serving,
)
from temporaletl.embedded.postgres_programs import (
    major_of,
    programs,
    programs_by_major,
    version_of,
)
from temporaletl.embedded.running import POSTGRES_FOLDER, command_on, take
from temporaletl.embedded.staging import STAGED_CLUSTER, commit, discard
from temporaletl.errors import ConfigurationError, NotFoundError
from temporaletl.warehouse.connection import translated

Report = Callable[[str], None]
#: Sorted by another library's rules than when it was built, an index finds too little.
_CHANGED_COLLATIONS = """
    SELECT n.nspname, c.collname FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
    WHERE c.collversion IS NOT NULL
      AND c.collversion IS DISTINCT FROM pg_collation_actual_version(c.oid)
"""
_DATABASE_CHANGED = """
    SELECT datcollversion IS NOT NULL
       AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)
    FROM pg_database WHERE datname = current_database()
"""


@dataclass(frozen=True, slots=True)
class Upgraded:
    """What an upgrade came to: versions before and after, and rows by database.

    `sorted_anew` are the databases whose indexes were built anew as this system sorts otherwise
    than the one where they were built.
    """

    before: str
    after: str
    rows: dict[str, int]
    sorted_anew: list[str]


def upgrade(
    folder: Path, *, old_programs: Path | None = None, report: Report = lambda _: None
) -> Upgraded:
    """Bring a data folder's cluster to the version of the programs here; safe to repeat.

    `old_programs` is the folder of the old version's programs, where the wheel has none. The former
    cluster is kept until the new one holds the same rows, and removed then; after any error or
    interruption it is there.

    Raises: as `take` and `serving`; and
        NotFoundError: there is no cluster.
        ClusterVersionError: it is of a later version than the programs.
        ConfigurationError: there are no programs of its version; says how to get some.
        DatabaseCopyError: it could not be dumped or restored, or not all of it arrived.
    """
    there = cluster_major(folder / POSTGRES_FOLDER)
    if there is None:
        raise NotFoundError(f"there is nothing to upgrade: {folder} has no warehouse")
    ours = version_of(programs())
    if there > major_of(ours):
        raise ClusterVersionError(folder, there=there, ours=major_of(ours))
    with take(folder) as lock:
        if there == major_of(ours):
            return _refresh(folder, lock, ours, report)
        theirs = _programs_of(there, old_programs, folder)
        try:
            rows = _move(folder, lock, theirs, report)
        except BaseException:
            discard(folder)
            raise
        commit(folder, temporal=False)
    return Upgraded(version_of(theirs), ours, rows, [])


def _programs_of(major: int, given: Path | None, data: Path) -> Path:
    found = given or programs_by_major().get(major)
    if found is None:
        raise ConfigurationError(
            f"the warehouse in {data} is one of PostgreSQL {major}, whose programs are not here. "
            f"Either install PostgreSQL {major}, and "
            f"`{command_on(data, 'upgrade')} --old-programs FOLDER`, such as "
            f"/usr/lib/postgresql/{major}/bin; or `etl backup` with the version of temporaletl "
            f"that made it, and here `{command_on(data, 'restore')} --replace FILE`"
        )
    if major_of(version_of(found)) != major:
        raise ConfigurationError(
            f"the programs in {found} are of PostgreSQL {version_of(found)}, and the warehouse in "
            f"{data} is one of {major}"
        )
    return found


def _move(folder: Path, lock: IO[str], theirs: Path, report: Report) -> dict[str, int]:
    """Stage a cluster with all that the present one holds; returns rows by database."""
    ours, rows = programs(), dict[str, int]()
    with (
        serving(folder, lock, programs_in=theirs) as old,
        serving(folder, lock, cluster=STAGED_CLUSTER) as new,
        translated(),
    ):
        here = new.url_of(MAINTENANCE)
        with dumping_roles(ours, old.url_of(MAINTENANCE), passwords=True) as statements:
            restore_roles(ours, here, statements.read())
        for name in database_names(old.url_of(MAINTENANCE)):
            report(f"Moving {name} ...")
            with (
                snapshot(old.url_of(name)) as state,
                dumping(ours, old.url_of(name), state) as dump,
            ):
                restore_database(ours, here, dump)
                arrived = count_rows(new.url_of(name))
                if arrived != state.rows:
                    wrong = sorted(dict(arrived.items() ^ state.rows.items()))
                    raise DatabaseCopyError(
                        f"not all rows of {name} arrived, in {', '.join(wrong)}: the former data "
                        "stays"
                    )
                rows[name] = sum(arrived.values())
        analyze(ours, here)
    return rows


def _refresh(folder: Path, lock: IO[str], version: str, report: Report) -> Upgraded:
    """Build indexes anew where this system sorts otherwise than the one that built them."""
    with serving(folder, lock) as postgres, translated():
        names = database_names(postgres.url_of(MAINTENANCE))
        anew = [name for name in names if _sort_anew(postgres, name, report)]
        rows = {name: sum(count_rows(postgres.url_of(name)).values()) for name in names}
    return Upgraded(version, version, rows, anew)


def _sort_anew(postgres: EmbeddedPostgres, name: str, report: Report) -> bool:
    with psycopg.connect(postgres.url_of(name), autocommit=True) as connection:
        collations = connection.execute(_CHANGED_COLLATIONS).fetchall()
        whole = connection.execute(_DATABASE_CHANGED).fetchone() == (True,)
        if not collations and not whole:
            return False
        report(f"Building the indexes of {name} anew ...")
        database = sql.Identifier(name)
        connection.execute(sql.SQL("REINDEX DATABASE {}").format(database))
        if whole:
            connection.execute(
                sql.SQL("ALTER DATABASE {} REFRESH COLLATION VERSION").format(database)
            )
        for schema, collation in collations:
            connection.execute(
                sql.SQL("ALTER COLLATION {} REFRESH VERSION").format(
                    sql.Identifier(schema, collation)
                )
            )
    return True
