"""Ownership of the local engine's runs: a lease with an epoch, which one process has at a time.

An owner renews its leases. Whoever finds a lease that has run out, or was given up, adopts the run
under the next epoch; from then on the former owner can neither end a job of the run nor close its
batch, whenever it wakes. Only the server's clock counts.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from psycopg.rows import dict_row
from pydantic import ValidationError

from temporaletl.errors import ConflictError
from temporaletl.messages import MetadataRequest, QueuerInput
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.run_control import show_wanted
from temporaletl.warehouse.runs import Wanted
from temporaletl.warehouse.stored_batches import (
    COLUMNS,
    StoredBatch,
    stored_batch,
    unreadable,
)

#: A run by its workflow id, and the epoch under which a process has it.
type RunEpoch = tuple[str, int]


class LeaseLostError(ConflictError):
    """A run belongs to another process now: nothing more is written for it from here."""


@dataclass(frozen=True, slots=True)
class Ownership:
    """A process's ownership of a run, under an epoch of it."""

    workflow_id: str
    owner: str
    epoch: int

    def hold(self, connection: Connection) -> None:
        """Keep the run from being adopted until the transaction ends.

        Raises:
            LeaseLostError: it was adopted, or has ended.
        """
        held = connection.execute(
            """
            SELECT FROM etl_runs
            WHERE workflow_id = %s AND owner = %s AND epoch = %s AND ended_at IS NULL
            FOR NO KEY UPDATE
            """,
            [self.workflow_id, self.owner, self.epoch],
        ).fetchone()
        if held is None:
            raise LeaseLostError(
                f"{self.workflow_id}: the run was adopted by another process, or has ended"
            )


@dataclass(frozen=True, slots=True)
class OwnedRun:
    """A run that this process owns, as it was when it was adopted.

    `adoptions` are the owners before that died without loading a page.
    """

    ownership: Ownership
    run_id: str
    requested_at: datetime
    wanted: Wanted
    batch_id: str | None
    adoptions: int
    #: As it was entered, maybe by another version of the platform.
    request: Any

    def requested(self) -> MetadataRequest:
        """The request, for planning.

        Raises:
            UnreadableRunError: this version of the platform cannot read it.
        """
        try:
            request = QueuerInput.model_validate(self.request)
        except ValidationError as error:
            raise unreadable("the request", error) from None
        return MetadataRequest(
            input=request,
            nominal=self.requested_at,
            workflow_id=self.ownership.workflow_id,
            run_id=self.run_id,
        )


def adopt_run(
    warehouse: Warehouse, owner: str, lease: timedelta, *, workflow_id: str | None = None
) -> OwnedRun | None:
    """Adopt the oldest run of the local engine that nobody drives; None where there is none.

    `workflow_id` names the only run to adopt. Two processes never adopt one run at once.
    """
    with warehouse.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        row: dict[str, Any] | None = cursor.execute(
            """
            UPDATE etl_runs AS r SET
                owner = %(owner)s, epoch = r.epoch + 1,
                lease_until = clock_timestamp() + %(lease)s,
                -- Who has given the run up did not die; and a run that rests kills nobody.
                adoptions = CASE WHEN found.pages > r.adopted_pages THEN 0 ELSE r.adoptions END
                    + CASE WHEN r.owner IS NULL OR r.wanted = 'pause' THEN 0 ELSE 1 END,
                adopted_pages = found.pages
            FROM (
                SELECT workflow_id,
                    (SELECT coalesce(sum(pages), 0) FROM etl_jobs AS j
                     WHERE j.batch_id = free.batch_id) AS pages
                FROM etl_runs AS free
                WHERE engine = 'local' AND ended_at IS NULL
                  AND (lease_until IS NULL OR lease_until < clock_timestamp())
                  AND (%(only)s::text IS NULL OR workflow_id = %(only)s)
                ORDER BY requested_at LIMIT 1 FOR UPDATE SKIP LOCKED
            ) AS found
            WHERE r.workflow_id = found.workflow_id
            RETURNING r.workflow_id, r.epoch, r.request, r.run_id, r.requested_at, r.wanted,
                r.batch_id, r.adoptions
            """,
            {"owner": owner, "lease": lease, "only": workflow_id},
        ).fetchone()
        if row is None:
            return None
        return OwnedRun(
            ownership=Ownership(row["workflow_id"], owner, row["epoch"]),
            run_id=row["run_id"],
            requested_at=row["requested_at"],
            request=row["request"],
            wanted=row["wanted"],
            batch_id=row["batch_id"],
            adoptions=row["adoptions"],
        )


def waits_for_owner(warehouse: Warehouse) -> datetime | None:
    """Since when there is something for the local engine to do that nobody does; None: nothing.

    That is a run that was requested, or one of a program that died with it, which is to be closed.
    """
    with warehouse.connection() as connection:
        row: Any = connection.execute(
            """
            SELECT least(
                (SELECT min(greatest(requested_at, lease_until)) FROM etl_runs
                 WHERE engine = 'local' AND ended_at IS NULL
                   AND (lease_until IS NULL OR lease_until < clock_timestamp())),
                (SELECT min(lease_until) FROM etl_batches
                 WHERE ended_at IS NULL AND lease_until < clock_timestamp()))
            """
        ).fetchone()
    found: datetime | None = row[0]
    return found


def renew_ownership(
    warehouse: Warehouse, owner: str, lease: timedelta, driven: Collection[RunEpoch]
) -> dict[RunEpoch, Wanted]:
    """Renew an owner's leases of the runs that it drives; return what is wanted of each.

    A run that is missing in the answer is not its own any more. The lease of one that it has given
    up for lost is not among them, and runs out.
    """
    with warehouse.connection() as connection:
        rows: Any = connection.execute(
            """
            UPDATE etl_runs SET lease_until = clock_timestamp() + %s
            WHERE owner = %s AND ended_at IS NULL
              AND (workflow_id, epoch) IN (SELECT * FROM unnest(%s::text[], %s::integer[]))
            RETURNING workflow_id, epoch, wanted
            """,
            [lease, owner, [run for run, _ in driven], [epoch for _, epoch in driven]],
        ).fetchall()
    return {(workflow_id, epoch): wanted for workflow_id, epoch, wanted in rows}


def read_ownership(warehouse: Warehouse, owner: str) -> dict[RunEpoch, Wanted]:
    """What is wanted of each run that an owner has, without renewing anything."""
    with warehouse.connection() as connection:
        rows: Any = connection.execute(
            """
            SELECT workflow_id, epoch, wanted FROM etl_runs
            WHERE owner = %s AND ended_at IS NULL
            """,
            [owner],
        ).fetchall()
    return {(workflow_id, epoch): wanted for workflow_id, epoch, wanted in rows}


def release_run(warehouse: Warehouse, ownership: Ownership) -> None:
    """Give a run up: the next process that looks adopts it at once. Safe to repeat."""
    with warehouse.connection() as connection:
        connection.execute(
            """
            UPDATE etl_runs SET owner = NULL, lease_until = NULL
            WHERE workflow_id = %s AND owner = %s AND epoch = %s AND ended_at IS NULL
            """,
            [ownership.workflow_id, ownership.owner, ownership.epoch],
        )


def show_control(warehouse: Warehouse, ownership: Ownership) -> None:
    """Have an owned run's batch say what is wanted of the run; raises LeaseLostError."""
    with warehouse.connection() as connection:
        ownership.hold(connection)
        show_wanted(connection, ownership.workflow_id)


def rest_jobs(warehouse: Warehouse, ownership: Ownership, batch_id: str) -> None:
    """Record that no job of an owned run's batch runs; raises LeaseLostError."""
    with warehouse.connection() as connection:
        ownership.hold(connection)
        connection.execute(
            "UPDATE etl_jobs SET state = 'paused' WHERE batch_id = %s AND state = 'running'",
            [batch_id],
        )


def stored_metadata(
    warehouse: Warehouse, batch_id: str | None
) -> tuple[StoredBatch, int | None] | None:
    """A batch as it was first resolved, and how many jobs it has, None until they are planned."""
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            f"SELECT {COLUMNS}, jobs_planned FROM etl_batches "  # noqa: S608 - constant
            "WHERE batch_id = %s",
            [batch_id],
        ).fetchone()
    return None if row is None else (stored_batch(row), row["jobs_planned"])
