"""Requests for runs: entered before any engine is asked, and claimed by one engine for good.

Whoever starts a run enters it first. Then the engine is decided by a claim, which one of them wins:
a start whose answer was lost cannot run in two engines. Every function runs in one short
transaction of its own.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from temporaletl.errors import ConflictError
from temporaletl.messages import MetadataRequest, QueuerInput
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.ledger import without_secrets

#: What runs a batch: the two services over Temporal, or a process of this platform by itself.
Engine = Literal["temporal", "local"]
Wanted = Literal["run", "pause", "cancel"]


class SupersededRunError(ConflictError):
    """A run that is executed by another engine, or was given up before any had it."""


#: Names the locks of sources and connections among the advisory locks of a database.
_LOCK = 7_233_315


@dataclass(frozen=True, slots=True)
class RequestedRun:
    """A run that was requested. `owned`: a process of the local engine drives it, and lives."""

    workflow_id: str
    source: str
    connection: str
    mode: str
    run_id: str
    engine: Engine | None
    requested_at: datetime
    age: timedelta
    wanted: Wanted
    batch_id: str | None
    error: str | None
    error_type: str | None
    ended_at: datetime | None
    owned: bool


_COLUMNS = """
    workflow_id, source, connection, request->>'mode' AS mode, run_id, engine, requested_at,
    clock_timestamp() - requested_at AS age, wanted, batch_id, error, error_type, ended_at,
    owner IS NOT NULL AND coalesce(lease_until > clock_timestamp(), false) AS owned
"""


def enter_run(
    warehouse: Warehouse,
    request: QueuerInput,
    *,
    workflow_id: str,
    run_id: str,
    engine: Engine | None = None,
    by: str | None = None,
    only: bool = True,
) -> RequestedRun | None:
    """Enter a run, and return None; or return the run that goes on, and enter nothing.

    Of two processes that enter a run of one source and connection at once, one succeeds. Without
    `only`, runs that go on do not matter.
    """
    with warehouse.connection() as connection:
        if only:
            connection.execute(
                "SELECT pg_advisory_xact_lock(%s, hashtext(%s))",
                [_LOCK, f"{request.source} {request.connection}"],
            )
            cursor = connection.cursor(row_factory=class_row(RequestedRun))
            open_run = cursor.execute(
                f"SELECT {_COLUMNS} FROM etl_runs "  # noqa: S608 - constant
                "WHERE source = %s AND connection = %s AND ended_at IS NULL "
                "ORDER BY requested_at LIMIT 1",
                [request.source, request.connection],
            ).fetchone()
            if open_run is not None:
                return open_run
        _insert(connection, request, workflow_id=workflow_id, run_id=run_id, engine=engine, by=by)
    return None


def _insert(
    connection: Connection,
    request: QueuerInput,
    *,
    workflow_id: str,
    run_id: str,
    engine: Engine | None,
    by: str | None,
) -> None:
    connection.execute(
        """
        INSERT INTO etl_runs
            (workflow_id, source, connection, request, run_id, engine, requested_by)
        VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (workflow_id) DO NOTHING
        """,
        [
            workflow_id,
            request.source,
            request.connection,
            Jsonb(request.model_dump(mode="json")),
            run_id,
            engine,
            by,
        ],
    )


def claim_run(warehouse: Warehouse, workflow_id: str, engine: Engine) -> bool:
    """Claim a run for an engine; return whether it has it. Safe to repeat.

    A run that was given up before any engine had it is claimed by none any more.
    """
    with warehouse.connection() as connection:
        return _claim(connection, workflow_id, engine)


def _claim(connection: Connection, workflow_id: str, engine: Engine) -> bool:
    connection.execute(
        """
        UPDATE etl_runs SET engine = %s
        WHERE workflow_id = %s AND engine IS NULL AND ended_at IS NULL
        """,
        [engine, workflow_id],
    )
    row = connection.execute(
        "SELECT engine FROM etl_runs WHERE workflow_id = %s", [workflow_id]
    ).fetchone()
    return row == (engine,)


def claim_for_temporal(warehouse: Warehouse, requested: MetadataRequest) -> None:
    """Claim a run whose workflow has begun, and enter it where a schedule started it.

    Safe to repeat.

    Raises:
        SupersededRunError: it is the local engine's, or was given up.
    """
    with warehouse.connection() as connection:
        _insert(
            connection,
            requested.input,
            workflow_id=requested.workflow_id,
            run_id=requested.run_id,
            engine="temporal",
            by=None,
        )
        if not _claim(connection, requested.workflow_id, "temporal"):
            raise SupersededRunError(
                f"superseded: {requested.workflow_id} is executed by the local engine, or was "
                "given up when nobody knew that it had been started here"
            )


def give_up(warehouse: Warehouse, workflow_id: str, error: str) -> bool:
    """End a run that no engine has claimed; return whether no engine had. Safe to repeat."""
    with warehouse.connection() as connection:
        ended = connection.execute(
            """
            UPDATE etl_runs SET ended_at = clock_timestamp(), error = %s
            WHERE workflow_id = %s AND engine IS NULL AND ended_at IS NULL
            """,
            [without_secrets(error), workflow_id],
        )
        return ended.rowcount == 1


def end_run(
    warehouse: Warehouse,
    workflow_id: str,
    *,
    error: str | None = None,
    error_type: str | None = None,
    owner: tuple[str, int] | None = None,
) -> bool:
    """Record that a run has ended; the first end stands. Return whether it was this one.

    With an `owner` and its epoch, only while that process owns it.
    """
    with warehouse.connection() as connection:
        ended = connection.execute(
            """
            UPDATE etl_runs SET ended_at = clock_timestamp(), error = %(error)s,
                error_type = %(error_type)s, owner = NULL, lease_until = NULL
            WHERE workflow_id = %(workflow_id)s AND ended_at IS NULL
              AND (%(owner)s::text IS NULL OR (owner = %(owner)s AND epoch = %(epoch)s))
            """,
            {
                "workflow_id": workflow_id,
                "error": without_secrets(error),
                "error_type": error_type,
                "owner": owner and owner[0],
                "epoch": owner and owner[1],
            },
        )
        return ended.rowcount == 1


def find_run(warehouse: Warehouse, name: str) -> RequestedRun | None:
    """The run of that workflow id or batch id; None where none was entered."""
    with (
        warehouse.connection() as connection,
        connection.cursor(row_factory=class_row(RequestedRun)) as cursor,
    ):
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM etl_runs "  # noqa: S608 - constant
            "WHERE workflow_id = %(name)s OR batch_id = %(name)s "
            "ORDER BY workflow_id = %(name)s DESC, requested_at DESC LIMIT 1",
            {"name": name},
        ).fetchone()


def open_requests(warehouse: Warehouse, source: str, connection_name: str) -> list[RequestedRun]:
    """The runs of a connection that have not ended, the first first."""
    with (
        warehouse.connection() as connection,
        connection.cursor(row_factory=class_row(RequestedRun)) as cursor,
    ):
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM etl_runs "  # noqa: S608 - constant
            "WHERE source = %s AND connection = %s AND ended_at IS NULL ORDER BY requested_at",
            [source, connection_name],
        ).fetchall()


def local_runs_without_batch(
    warehouse: Warehouse, *, limit: int, only_open: bool = False
) -> list[RequestedRun]:
    """The latest runs of the local engine that have no batch: they wait, or could not be begun."""
    with (
        warehouse.connection() as connection,
        connection.cursor(row_factory=class_row(RequestedRun)) as cursor,
    ):
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM etl_runs "  # noqa: S608 - constant
            "WHERE engine = 'local' AND batch_id IS NULL AND (ended_at IS NULL OR NOT %s) "
            "ORDER BY requested_at DESC LIMIT %s",
            [only_open, limit],
        ).fetchall()


def ended_without_batch(
    warehouse: Warehouse,
    *,
    limit: int,
    after: tuple[datetime, str] | None = None,
    source: str | None = None,
    connection_name: str | None = None,
    mode: str | None = None,
    state: str | None = None,
) -> list[RequestedRun]:
    """Runs that ended before they were planned, the latest first.

    Behind one, given by when it was requested and its workflow id. A run that no engine claimed was
    never started.
    """
    values = {
        "limit": limit,
        "requested_at": after and after[0],
        "workflow_id": after and after[1],
        "source": source,
        "connection": connection_name,
        "mode": mode,
        "state": state,
    }
    with (
        warehouse.connection() as connection,
        connection.cursor(row_factory=class_row(RequestedRun)) as cursor,
    ):
        return cursor.execute(
            f"SELECT {_COLUMNS} FROM etl_runs "  # noqa: S608 - constant
            "WHERE batch_id IS NULL AND ended_at IS NOT NULL AND engine IS NOT NULL "
            "AND (%(requested_at)s::timestamptz IS NULL "
            "OR (requested_at, workflow_id) < (%(requested_at)s, %(workflow_id)s)) "
            "AND (%(source)s::text IS NULL OR source = %(source)s) "
            "AND (%(connection)s::text IS NULL OR connection = %(connection)s) "
            "AND (%(mode)s::text IS NULL OR request->>'mode' = %(mode)s) "
            "AND (%(state)s::text IS NULL "
            "OR CASE wanted WHEN 'cancel' THEN 'cancelled' ELSE 'failed' END = %(state)s) "
            "ORDER BY requested_at DESC, workflow_id DESC LIMIT %(limit)s",
            values,
        ).fetchall()


@dataclass(frozen=True, slots=True)
class RunControl:
    """What was wanted of a run before, and how it stands after the request."""

    run: RequestedRun
    before: Wanted
    planned: bool
    jobs_running: int
    accepted: bool  # False: it has ended, or is being cancelled


def want(warehouse: Warehouse, name: str, wanted: Wanted, by: str | None) -> RunControl | None:
    """Record what the local engine shall do with a run; None where it has no run of that name.

    Its batch says so at once, and whoever drives it follows; it holds when nobody does. A run that
    has ended, or is being cancelled, is not changed. Safe to repeat.
    """
    found = find_run(warehouse, name)
    if found is None or found.engine != "local":
        return None
    with warehouse.connection() as connection:
        cursor = connection.cursor(row_factory=class_row(RequestedRun))
        run = cursor.execute(
            f"SELECT {_COLUMNS} FROM etl_runs "  # noqa: S608 - constant
            "WHERE workflow_id = %s FOR UPDATE",
            [found.workflow_id],
        ).fetchone()
        if run is None:
            return None
        accepted = run.ended_at is None and (run.wanted != "cancel" or wanted == "cancel")
        if accepted and run.wanted != wanted:
            connection.execute(
                """
                UPDATE etl_runs SET wanted = %s, wanted_by = %s, wanted_at = clock_timestamp()
                WHERE workflow_id = %s
                """,
                [wanted, by, run.workflow_id],
            )
            show_wanted(connection, run.workflow_id)
        row: Any = connection.execute(
            """
            SELECT jobs_planned IS NOT NULL,
                (SELECT count(*) FROM etl_jobs AS j
                 WHERE j.batch_id = b.batch_id AND j.state = 'running')
            FROM etl_batches AS b WHERE batch_id = %s
            """,
            [run.batch_id],
        ).fetchone() or (False, 0)
    return RunControl(run, run.wanted, planned=row[0], jobs_running=row[1], accepted=accepted)


def show_wanted(connection: Connection, workflow_id: str) -> None:
    """Have a run's batch say what is wanted of it: running, pausing or cancelling."""
    connection.execute(
        """
        UPDATE etl_batches AS b SET state = CASE
            WHEN r.wanted = 'run' THEN 'running'
            WHEN r.wanted = 'cancel' THEN 'cancelling'
            WHEN b.state = 'paused' THEN 'paused' ELSE 'pausing' END
        FROM etl_runs AS r
        WHERE r.workflow_id = %s AND b.batch_id = r.batch_id AND b.ended_at IS NULL
        """,
        [workflow_id],
    )
