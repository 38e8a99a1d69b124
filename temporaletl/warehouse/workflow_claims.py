"""Claims of runs by their workflows, and the scheduled runs that others make needless."""

from datetime import datetime

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from temporaletl import names
from temporaletl.errors import ConflictError
from temporaletl.messages import MetadataRequest, QueuerInput
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.open_batches import Namespace
from temporaletl.warehouse.runs import (
    RUN_COLUMNS,
    RequestedRun,
    SupersededRunError,
    claim_in,
    insert_run,
    lock_connection,
)


class SkippedRunError(ConflictError):
    """A scheduled run that is skipped, since another one loads the same already."""


def claim_for_temporal(
    warehouse: Warehouse,
    requested: MetadataRequest,
    namespace: Namespace | None = None,
    *,
    since: datetime | None = None,
) -> list[RequestedRun]:
    """Claim a run whose workflow is there, and enter it where a schedule started it.

    `since` is when it was started, where that is not now.

    Returns what it is skipped for, where it shall be: the runs that were entered before, have not
    ended, and load all that it would in the same mode. Of two that are due at once, one has
    nothing before it. Safe to repeat.

    Raises:
        SupersededRunError: it is the local engine's, or was given up.
        SkippedRunError: it was skipped before.
    """
    request, workflow_id = requested.input, requested.workflow_id
    with warehouse.connection() as connection:
        if request.only:
            lock_connection(connection, request)
        insert_run(
            connection,
            request,
            workflow_id=workflow_id,
            run_id=requested.run_id,
            engine="temporal",
            by=request.schedule and f"schedule {request.schedule}",
            since=since,
        )
        if not claim_in(connection, workflow_id, "temporal", namespace):
            raise SupersededRunError(
                f"superseded: {workflow_id} is executed by the local engine, or was "
                "given up when nobody knew that it had been started here"
            )
        return _covering(connection, request, workflow_id) if request.only else []


def _covering(connection: Connection, request: QueuerInput, workflow_id: str) -> list[RequestedRun]:
    cursor = connection.cursor(row_factory=class_row(RequestedRun))
    [own] = cursor.execute(
        f"SELECT {RUN_COLUMNS} FROM etl_runs WHERE workflow_id = %s",  # noqa: S608 - constant
        [workflow_id],
    ).fetchall()
    if own.error_type == names.SKIPPED:
        raise SkippedRunError(own.error or "skipped")
    return cursor.execute(
        f"SELECT {RUN_COLUMNS} FROM etl_runs "  # noqa: S608 - constant
        """
        WHERE source = %(source)s AND connection = %(connection)s AND ended_at IS NULL
          AND workflow_id <> %(workflow_id)s AND requested_at < %(requested_at)s
          AND request->>'mode' = %(mode)s AND request->>'retries' IS NULL
          AND coalesce(request->'params', '{}') = %(params)s
          AND (coalesce(request->'streams', '[]') = '[]'
               OR (%(streams)s <> '[]'::jsonb AND request->'streams' @> %(streams)s))
        ORDER BY requested_at
        """,
        {
            "source": request.source,
            "connection": request.connection,
            "workflow_id": workflow_id,
            "requested_at": own.requested_at,
            "mode": request.mode,
            "params": Jsonb(request.params),
            "streams": Jsonb([*request.streams]),
        },
    ).fetchall()
