"""Plans of batches: their jobs, written to the ledger in blocks."""

import json
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from operator import attrgetter

from psycopg.errors import UniqueViolation

from temporaletl.errors import ConfigurationError, RetryableError
from temporaletl.ids import coverage_of, job_id_of
from temporaletl.messages import ETLInput, RunPolicy
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.cursors import escaped

#: A job travels through workflow history twice; this keeps 2,000 of them small.
MAX_JOB_BYTES = 16 * 1024
#: Where no policy is at hand.
_LEASE = RunPolicy().heartbeat_timeout
_COPY = """
    COPY etl_jobs
        (batch_id, seq, job_id, source, connection, stream, window_start, window_end, windowless,
         input)
    FROM STDIN
"""
#: In JSON of ASCII: what jsonb may refuse. Text in UTF-8 is shorter, too.
_UNSAFE = ("\\u", "NaN", "Infinity")
#: What each job has of its own, and the values of the others.
_OWN = {"seq", "job_id", "window", "params"}
_shared = attrgetter(*(name for name in ETLInput.model_fields if name not in _OWN))

type _JobRow = tuple[
    str, int, str, str, str, str, datetime | None, datetime | None, bool, str
]  # the columns of _COPY


class SupersededPlanError(RetryableError):
    """Another attempt writes the batch's jobs; this one must not."""


class JobWriter:
    """Writer of a batch's jobs to the ledger, numbered from 0 in the order they come.

    A second writer begins anew, forgets what the first one planned, and shuts it out: the
    batch never mixes jobs of two attempts, which may have met different backlogs. Once planning is
    `complete` no writer changes the plan any more: the jobs may be running. Holds one block of jobs
    in memory, whatever their number.
    """

    def __init__(self, warehouse: Warehouse, batch_id: str, *, lease: timedelta = _LEASE) -> None:
        self._warehouse = warehouse
        self._batch_id = batch_id
        self._planner = uuid.uuid4().hex
        self._texts = _JobTexts()
        self.count = 0
        self.complete = False
        with warehouse.connection(lease=lease) as connection:
            planned = connection.execute(
                """
                UPDATE etl_batches
                SET planner = CASE WHEN jobs_planned IS NULL THEN %s ELSE planner END
                WHERE batch_id = %s AND ended_at IS NULL RETURNING jobs_planned
                """,
                [self._planner, batch_id],
            ).fetchone()
            if planned is not None and planned[0] is not None:
                self.count, self.complete = int(str(planned[0])), True
                return
            connection.execute(
                "DELETE FROM etl_jobs WHERE batch_id = %s AND state = 'planned'", [batch_id]
            )

    def write(self, jobs: Iterable[ETLInput]) -> None:
        """Enter a block of jobs: all of them, or none.

        Raises:
            ConfigurationError: a job's parameters weigh more than `MAX_JOB_BYTES`, or a job is
                the same as one before.
            SupersededPlanError: another attempt plans this batch now.
        """
        rows = list(self._rows(jobs))
        with self._warehouse.connection() as connection:
            self._hold(connection)
            try:
                with connection.cursor().copy(_COPY) as copy:
                    for row in rows:
                        copy.write_row(row)
            except UniqueViolation:
                # They would have one workflow id, and run one after the other or not at all.
                raise ConfigurationError(
                    f"source {rows[0][3]!r} plans one job of {self._batch_id} twice: two of its "
                    "jobs have the same stream, window and parameters"
                ) from None
        self.count += len(rows)

    def _rows(self, jobs: Iterable[ETLInput]) -> Iterator[_JobRow]:
        for seq, job in enumerate(jobs, self.count):
            job_id, text = self._texts.of(job, seq)
            if (size := len(text.encode())) > MAX_JOB_BYTES:
                raise ConfigurationError(
                    f"job {seq} of {self._batch_id} weighs {size} bytes, more than "
                    f"{MAX_JOB_BYTES}: plan smaller slices"
                )
            window = job.window
            yield (
                self._batch_id,
                seq,
                job_id,
                job.source,
                job.connection,
                job.stream,
                window.start,
                window.end,
                job.windowless,
                text,
            )

    def close(self) -> int:
        """Record that planning is complete; return the number of jobs.

        Raises:
            SupersededPlanError: another attempt plans this batch now.
        """
        with self._warehouse.connection() as connection:
            self._hold(connection)
            connection.execute(
                "UPDATE etl_batches SET jobs_planned = %s WHERE batch_id = %s",
                [self.count, self._batch_id],
            )
        return self.count

    def _hold(self, connection: Connection) -> None:
        planner = connection.execute(
            "SELECT planner FROM etl_batches WHERE batch_id = %s FOR NO KEY UPDATE",
            [self._batch_id],
        ).fetchone()
        if planner != (self._planner,):
            raise SupersededPlanError(
                f"batch {self._batch_id} has ended, or another attempt plans it now"
            )


class _JobTexts:
    """Ids and JSON of jobs; what jobs that follow each other have in common is encoded once."""

    def __init__(self) -> None:
        self._values: tuple[object, ...] = ()
        self._beginning = ""

    def of(self, job: ETLInput, seq: int) -> tuple[str, str]:
        """The id of a job that is to have this number, and it as JSON that jsonb takes."""
        coverage = coverage_of(job)
        job_id = job_id_of(job, coverage)
        values = _shared(job)
        if values != self._values:
            self._beginning = job.model_dump_json(exclude=_OWN)[:-1]
            self._values = values
        text = (
            f'{self._beginning},"seq":{seq},"job_id":{json.dumps(job_id)},'
            f'"window":{coverage.window},"params":{coverage.params}}}'
        )
        if len(text) > MAX_JOB_BYTES or any(map(text.__contains__, _UNSAFE)):
            text = _as_text(job.model_copy(update={"seq": seq, "job_id": job_id}))
        return job_id, text


def _as_text(job: ETLInput) -> str:
    """The job as JSON that jsonb takes: its parameters may hold a source's cursor."""
    text = job.model_dump_json()
    if "\\u0000" not in text:
        return text
    return json.dumps(escaped(json.loads(text)), separators=(",", ":"), ensure_ascii=False)
