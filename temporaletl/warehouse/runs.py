"""Requests for runs: entered before any engine is asked, and claimed by one engine for good.

Whoever starts a run enters it first. Then the engine is decided by a claim, which one of them wins:
a start whose answer was lost cannot run in two engines. Every function runs in one short
transaction of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from temporaletl import names
from temporaletl.errors import ConflictError
from temporaletl.messages import BatchSummary, Mode, QueuerInput
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.ledger import without_secrets
from temporaletl.warehouse.open_batches import Namespace

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
    mode: Mode
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
    temporal_address: str | None
    temporal_namespace: str | None
    temporal_namespace_id: str | None

    @property
    def namespace(self) -> Namespace | None:
        """Where its workflow is; None where that was not recorded."""
        if self.temporal_address is None or self.temporal_namespace is None:
            return None
        return Namespace(self.temporal_address, self.temporal_namespace, self.temporal_namespace_id)

    @property
    def skipped(self) -> bool:
        """Whether a schedule started it, and another run made it needless."""
        return self.error_type == names.SKIPPED

    @property
    def summary(self) -> BatchSummary:
        """The summary of one that ended without a batch: it has loaded nothing."""
        seconds = (
            0.0 if self.ended_at is None else (self.ended_at - self.requested_at).total_seconds()
        )
        return BatchSummary(
            batch_id=self.batch_id or "",
            workflow_id=self.workflow_id,
            source=self.source,
            connection=self.connection,
            mode=self.mode,
            state="cancelled" if self.wanted == "cancel" or self.skipped else "failed",
            seconds=round(seconds, 3),
            error=self.error,
        )


RUN_COLUMNS = """
    workflow_id, source, connection, request->>'mode' AS mode, run_id, engine, requested_at,
    clock_timestamp() - requested_at AS age, wanted, batch_id, error, error_type, ended_at,
    owner IS NOT NULL AND coalesce(lease_until > clock_timestamp(), false) AS owned,
    temporal_address, temporal_namespace, temporal_namespace_id
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
            lock_connection(connection, request)
            cursor = connection.cursor(row_factory=class_row(RequestedRun))
            open_run = cursor.execute(
                f"SELECT {RUN_COLUMNS} FROM etl_runs "  # noqa: S608 - constant
                "WHERE source = %s AND connection = %s AND ended_at IS NULL "
                "ORDER BY requested_at LIMIT 1",
                [request.source, request.connection],
            ).fetchone()
            if open_run is not None:
                return open_run
        insert_run(
            connection, request, workflow_id=workflow_id, run_id=run_id, engine=engine, by=by
        )
    return None


def lock_connection(connection: Connection, request: QueuerInput) -> None:
    """Let no other run of the source and connection be entered in the meantime."""
    connection.execute(
        "SELECT pg_advisory_xact_lock(%s, hashtext(%s))",
        [_LOCK, f"{request.source} {request.connection}"],
    )


def insert_run(
    connection: Connection,
    request: QueuerInput,
    *,
    workflow_id: str,
    run_id: str,
    engine: Engine | None,
    by: str | None = None,
    since: datetime | None = None,
) -> None:
    """Enter a run, unless it is there."""
    connection.execute(
        """
        INSERT INTO etl_runs
            (workflow_id, source, connection, request, run_id, engine, requested_by, requested_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, coalesce(%s, clock_timestamp()))
        ON CONFLICT (workflow_id) DO NOTHING
        """,
        [
            workflow_id,
            request.source,
            request.connection,
            Jsonb(request.model_dump(mode="json")),
            run_id,
            engine,
            by,
            since,
        ],
    )


def claim_run(
    warehouse: Warehouse, workflow_id: str, engine: Engine, namespace: Namespace | None = None
) -> bool:
    """Claim a run for an engine; return whether it has it. Safe to repeat.

    A run that was given up before any engine had it is claimed by none any more. `namespace` is
    where Temporal has it.
    """
    with warehouse.connection() as connection:
        return claim_in(connection, workflow_id, engine, namespace)


def claim_in(
    connection: Connection, workflow_id: str, engine: Engine, namespace: Namespace | None
) -> bool:
    """As `claim_run`, in the caller's transaction."""
    connection.execute(
        """
        UPDATE etl_runs SET engine = %(engine)s,
            temporal_address = coalesce(%(address)s, temporal_address),
            temporal_namespace = coalesce(%(name)s, temporal_namespace),
            temporal_namespace_id = coalesce(%(id)s, temporal_namespace_id)
        WHERE workflow_id = %(workflow_id)s AND ended_at IS NULL
          AND coalesce(engine, %(engine)s) = %(engine)s
        """,
        {
            "workflow_id": workflow_id,
            "engine": engine,
            "address": namespace and namespace.address,
            "name": namespace and namespace.name,
            "id": namespace and namespace.id,
        },
    )
    row = connection.execute(
        "SELECT engine FROM etl_runs WHERE workflow_id = %s", [workflow_id]
    ).fetchone()
    return row == (engine,)


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
    cancelled: bool = False,
    at: datetime | None = None,
) -> bool:
    """Record that a run has ended; the first end stands. Return whether it was this one.

    With an `owner` and its epoch, only while that process owns it. `at` is when it ended, where
    that is not now.
    """
    with warehouse.connection() as connection:
        ended = connection.execute(
            """
            UPDATE etl_runs SET ended_at = coalesce(%(at)s, clock_timestamp()), error = %(error)s,
                error_type = %(error_type)s, owner = NULL, lease_until = NULL,
                wanted = CASE WHEN %(cancelled)s THEN 'cancel' ELSE wanted END
            WHERE workflow_id = %(workflow_id)s AND ended_at IS NULL
              AND (%(owner)s::text IS NULL OR (owner = %(owner)s AND epoch = %(epoch)s))
            """,
            {
                "workflow_id": workflow_id,
                "error": without_secrets(error),
                "error_type": error_type,
                "owner": owner and owner[0],
                "epoch": owner and owner[1],
                "cancelled": cancelled,
                "at": at,
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
            f"SELECT {RUN_COLUMNS} FROM etl_runs "  # noqa: S608 - constant
            "WHERE workflow_id = %(name)s OR batch_id = %(name)s "
            "ORDER BY workflow_id = %(name)s DESC, requested_at DESC LIMIT 1",
            {"name": name},
        ).fetchone()


def read_run(connection: Connection, workflow_id: str) -> RequestedRun | None:
    """The run of that workflow id; nobody else changes it before the transaction ends."""
    return (
        connection.cursor(row_factory=class_row(RequestedRun))
        .execute(
            f"SELECT {RUN_COLUMNS} FROM etl_runs WHERE workflow_id = %s FOR UPDATE",  # noqa: S608
            [workflow_id],
        )
        .fetchone()
    )


def open_requests(warehouse: Warehouse, source: str, connection_name: str) -> list[RequestedRun]:
    """The runs of a connection that have not ended, the first first."""
    with (
        warehouse.connection() as connection,
        connection.cursor(row_factory=class_row(RequestedRun)) as cursor,
    ):
        return cursor.execute(
            f"SELECT {RUN_COLUMNS} FROM etl_runs "  # noqa: S608 - constant
            "WHERE source = %s AND connection = %s AND ended_at IS NULL ORDER BY requested_at",
            [source, connection_name],
        ).fetchall()


def runs_without_batch(
    warehouse: Warehouse,
    *,
    ended: bool,
    limit: int,
    after: tuple[datetime, str] | None = None,
    source: str | None = None,
    connection_name: str | None = None,
    mode: str | None = None,
    state: str | None = None,
) -> list[RequestedRun]:
    """Runs without a batch, the latest first: those that wait, or that `ended` before planning.

    Behind one, given by when it was requested and its workflow id. A run that ended before any
    engine had it was never started, and is not listed.
    """
    values = {
        "ended": ended,
        "limit": limit,
        "requested_at": after and after[0],
        "workflow_id": after and after[1],
        "source": source,
        "connection": connection_name,
        "mode": mode,
        "state": state,
        "skipped": names.SKIPPED,
    }
    with (
        warehouse.connection() as connection,
        connection.cursor(row_factory=class_row(RequestedRun)) as cursor,
    ):
        return cursor.execute(
            f"SELECT {RUN_COLUMNS} FROM etl_runs "  # noqa: S608 - constant
            "WHERE batch_id IS NULL AND (ended_at IS NOT NULL) = %(ended)s "
            "AND (ended_at IS NULL OR engine IS NOT NULL) "
            "AND (%(requested_at)s::timestamptz IS NULL "
            "OR (requested_at, workflow_id) < (%(requested_at)s, %(workflow_id)s)) "
            "AND (%(source)s::text IS NULL OR source = %(source)s) "
            "AND (%(connection)s::text IS NULL OR connection = %(connection)s) "
            "AND (%(mode)s::text IS NULL OR request->>'mode' = %(mode)s) "
            "AND (%(state)s::text IS NULL "
            "OR CASE WHEN error_type = %(skipped)s THEN 'skipped' "
            "WHEN wanted = 'cancel' THEN 'cancelled' ELSE 'failed' END = %(state)s) "
            "ORDER BY requested_at DESC, workflow_id DESC LIMIT %(limit)s",
            values,
        ).fetchall()


def entered_runs(warehouse: Warehouse, workflow_ids: Sequence[str]) -> dict[str, str | None]:
    """Which of these runs are entered, each with the run id of its batch, None without one."""
    with warehouse.connection() as connection:
        rows: Any = connection.execute(
            """
            SELECT r.workflow_id, b.run_id FROM etl_runs AS r LEFT JOIN etl_batches AS b
            USING (batch_id) WHERE r.workflow_id = ANY (%s)
            """,
            [list(workflow_ids)],
        ).fetchall()
    return dict(rows)
