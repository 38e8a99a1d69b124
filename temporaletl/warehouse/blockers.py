"""Inspection of a session over another connection: what it does, and which sessions block it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import psycopg

from temporaletl.telemetry.logs import get_logger

log = get_logger("temporaletl.warehouse")

#: A client that has said nothing for so long, and is waited for, is not merely between two calls.
_SILENT = timedelta(seconds=5)
#: Between two heartbeats that are missed and the attempt that replaces a dead one there is time.
_LEASE_MARGIN = 1.25

#: SQLSTATEs of connections that broke, and of poolers.
_CONNECTION = "08"

#: `working` on a statement, or waiting for a lock; `done`: waiting for its client, or ended;
#: `unreachable`: no answer came from there; `unknown`: the server did not say.
State = Literal["working", "done", "unreachable", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """State of a session; `obstacle` is the session that blocks it."""

    state: State
    obstacle: str | None = None


@dataclass(frozen=True, slots=True)
class Backend:
    """A server process, identified by its pid and its server's start."""

    pid: int
    server: str


#: As a row that makes a `Backend`.
BACKEND = "pg_backend_pid(), extract(epoch FROM pg_postmaster_start_time())::text"
#: Of two servers that write, behind one address, the one that started later replaced the other.
_STATE = """
    SELECT state, wait_event, pg_blocking_pids(pid), started::text = %(server)s,
        started > %(server)s::numeric AND NOT pg_is_in_recovery()
    FROM (SELECT extract(epoch FROM pg_postmaster_start_time()) AS started) AS here
    LEFT JOIN pg_stat_activity ON pid = %(pid)s AND started::text = %(server)s
"""
# Those at the head of the queue: who waits himself is not the cause.
_BLOCKERS = """
    WITH RECURSIVE chain (pid) AS (
        SELECT unnest(pg_blocking_pids(%(pid)s))
        UNION SELECT unnest(pg_blocking_pids(chain.pid)) FROM chain WHERE chain.pid <> 0
    )
    SELECT c.pid, a.application_name, a.usename, host(a.client_addr), a.state,
           clock_timestamp() - a.xact_start, clock_timestamp() - a.state_change,
           coalesce(a.application_name LIKE 'temporaletl %%' AND a.usename = current_user
               AND (a.state <> 'active' OR a.wait_event = 'ClientRead')
               AND clock_timestamp() - a.xact_start > %(lease)s::interval
               AND clock_timestamp() - a.state_change > %(silent)s::interval, false)
    FROM chain AS c LEFT JOIN pg_stat_activity AS a USING (pid)
    WHERE c.pid = 0 OR pg_blocking_pids(c.pid) = '{}'
"""


def look_into(conninfo: str, backend: Backend | None, *, lease: timedelta | None) -> Finding:
    """Inspect a server process; raises nothing.

    Where it waits for sessions of the platform whose `lease` is over, ends those, and logs it.
    Without a backend it only finds out whether the server can be reached.
    """
    try:
        connection = psycopg.connect(conninfo, autocommit=True)
    except psycopg.Error as error:
        # It answers, if only to refuse us.
        return Finding("unknown" if "FATAL" in str(error) else "unreachable")
    try:
        with connection:
            return _look(connection, backend, lease)
    except psycopg.Error as error:
        # A pooler that waited in vain for the server says so with a class of its own.
        lost = error.sqlstate is None or error.sqlstate.startswith(_CONNECTION)
        return Finding("unreachable" if lost else "unknown")


def _look(
    connection: psycopg.Connection[Any], backend: Backend | None, lease: timedelta | None
) -> Finding:
    if backend is None:
        connection.execute("SELECT 1")  # a pooler lets us in before it has a server
        return Finding("unknown")
    row: Any = connection.execute(_STATE, {"pid": backend.pid, "server": backend.server}).fetchone()
    state, waits_for, blockers_of_it, same, replaced = row
    # Another server that shares the address, or one that keeps no books of what its sessions do.
    if not replaced and (not same or state == "disabled"):
        return Finding("unknown")
    if state != "active" or waits_for == "ClientRead":
        return Finding("done")
    if not blockers_of_it:
        return Finding("working")
    values = {
        "pid": backend.pid,
        "lease": None if lease is None else lease * _LEASE_MARGIN,
        "silent": None if lease is None else min(lease, _SILENT),
    }
    blockers = [(_described(row), row) for row in connection.execute(_BLOCKERS, values).fetchall()]
    for described, row in blockers:
        if row[-1] and connection.execute("SELECT pg_terminate_backend(%s)", [row[0]]).fetchone():
            log.warning("session_ended", ended=described, waited=backend.pid)
    return Finding("working", "; ".join(described for described, _ in blockers) or None)


def _described(row: Any) -> str:
    pid, application, user, address, state, age, silence, _ = row
    if not pid:
        return "a prepared transaction (pg_prepared_xacts)"
    if age is None:
        return f"server process {pid}" + (f" of user {user}" if user else "")
    by = f"{application or 'a session'} of user {user}" + (f" from {address}" if address else "")
    return (
        f"{by}, server process {pid}, {state} for {silence.total_seconds():.0f} s in a "
        f"transaction of {age.total_seconds():.0f} s"
    )
