"""What processes and tables hold at the end of a round, and whether that stays within bounds."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.acceptance.stored_rows import Query
from tests.process_figures import Held, held_by

#: What a process may come to hold above what it held at the end of its first whole round.
MOST_MEMORY_SHARE = 1.5
MOST_MEMORY_BYTES = 64_000_000
MOST_DESCRIPTORS = 40
MOST_THREADS = 40
#: Of one process at rest: its pool's, two more than it has activities at once, and two apart.
MOST_SESSIONS_EACH = 12
#: Dead rows that autovacuum may not have come to, besides as many as there are live ones.
MOST_DEAD = 5_000
#: What a table may weigh, with its indexes, in terms of its rows, and besides.
MOST_TABLE_SHARE = 6
MOST_TABLE_BYTES = 4_000_000


@dataclass(frozen=True)
class Process:
    name: str
    pid: int
    held: Held


@dataclass(frozen=True)
class Table:
    name: str
    rows: int
    dead: int
    live_bytes: int
    bytes: int


@dataclass(frozen=True)
class Footprint:
    processes: tuple[Process, ...]
    sessions: int
    tables: tuple[Table, ...]


def take_footprint(query: Query, pids: Mapping[str, int]) -> Footprint:
    tables = query(
        """
        SELECT c.relname, s.n_dead_tup, pg_total_relation_size(c.oid)
        FROM pg_class AS c JOIN pg_stat_all_tables AS s ON s.relid = c.oid
        WHERE c.relnamespace = 'workplace'::regnamespace AND c.relkind = 'r' ORDER BY 1
        """
    )
    counted = {}
    for name, _, _ in tables:
        [counted[name]] = query(
            "SELECT count(*), coalesce(sum(pg_column_size(t)), 0)::bigint "
            f'FROM workplace."{name}" AS t'
        )
    [(sessions,)] = query(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    return Footprint(
        processes=tuple(Process(name, pid, held_by(pid)) for name, pid in pids.items()),
        sessions=sessions,
        tables=tuple(
            Table(name, rows, dead, live, size)
            for name, dead, size in tables
            for rows, live in [counted[name]]
        ),
    )


class Bounds:
    """Compares footprints with the first of the same process."""

    def __init__(self) -> None:
        self._processes: dict[int, Held] = {}

    def exceeded(self, footprint: Footprint, services: int) -> list[str]:
        """What is above its bound; the first footprint of a process becomes its measure."""
        found: list[str] = []
        for process in footprint.processes:
            first = self._processes.setdefault(process.pid, process.held)
            held = process.held
            for what, value, most in (
                (
                    "bytes of memory",
                    held.memory_bytes,
                    first.memory_bytes * MOST_MEMORY_SHARE + MOST_MEMORY_BYTES,
                ),
                ("descriptors", held.descriptors, first.descriptors + MOST_DESCRIPTORS),
                ("threads", held.threads, first.threads + MOST_THREADS),
            ):
                if value > most:
                    found.append(f"{process.name} holds {value:,} {what}, more than {most:,.0f}")
        if footprint.sessions > services * MOST_SESSIONS_EACH:
            found.append(f"{footprint.sessions} sessions are open for {services} services")
        for table in footprint.tables:
            if table.dead > table.rows + MOST_DEAD:
                found.append(f"{table.name} has {table.dead} dead rows for {table.rows} live ones")
            most = MOST_TABLE_BYTES + MOST_TABLE_SHARE * table.live_bytes
            if table.bytes > most:
                found.append(
                    f"{table.name} has {table.bytes:,} bytes for {table.rows:,} rows, "
                    f"more than {most:,.0f}"
                )
        return found
