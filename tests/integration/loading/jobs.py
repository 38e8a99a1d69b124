"""Jobs in the ledger, events to load, and a look at what came of them."""

from collections.abc import Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any, LiteralString

import msgspec
from psycopg.rows import dict_row

from temporaletl.messages import ETLInput, JobProgress, Mode, Window
from temporaletl.rows import Event, Reject, Row
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.worker.loading import Lineage, Loader, PageLoad

NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)
_seq = count(1)


def make_event(n: int = 0, **changes: Any) -> Event:
    event = Event(
        event_id=f"event-{n:06d}",
        event_type="issue_created",
        event_time_utc=NOON + timedelta(seconds=n),
        parent_item_id=f"PROJ-{n // 10}",
        employee_id="E1",
        timezone="Europe/Berlin",
        event_properties={"field": "status", "to": "Done", "n": n},
        metrics={"seconds": 1.5},
    )
    return msgspec.structs.replace(event, **changes)


class Job:
    """One running job of a batch, with its loader; counts its pages."""

    def __init__(
        self,
        warehouse: Warehouse,
        *,
        source: str = "jira",
        stream: str = "issues",
        rows: Sequence[type[Row]] = (Event,),
        mode: Mode = "full",
        window: Window | None = None,
        version: str = "1",
        batch: str | None = None,
        connection: str = "default",
    ) -> None:
        self.warehouse = warehouse
        seq = next(_seq)
        batch = batch or f"batch-{seq}"
        self.input = ETLInput(
            batch_id=batch,
            seq=seq,
            job_id=f"{source}-{stream}-{seq}",
            source=source,
            stream=stream,
            connection=connection,
            mode=mode,
            window=window or Window(),
        )
        with warehouse.connection() as session:
            session.execute(
                "INSERT INTO etl_batches (batch_id, source, mode, connection, metadata, state,"
                " workflow_id, run_id) VALUES (%s, %s, %s, %s, '{}', 'running', 'q', 'q')"
                " ON CONFLICT DO NOTHING",
                [batch, source, mode, connection],
            )
            session.execute(
                "INSERT INTO etl_jobs (batch_id, seq, job_id, source, connection, stream, input,"
                " state, started_at, touched_at) "
                "VALUES (%s, %s, %s, %s, %s, %s, %s::jsonb, 'running', now(), now())",
                [
                    *(batch, seq, self.input.job_id, source, connection, stream),
                    self.input.model_dump_json(),
                ],
            )
        self.lineage = Lineage(self.input, f"wf-{seq}", f"run-{seq}", version, f"{version}.0")
        self.loader = Loader(warehouse, rows, self.lineage)
        self.pages = 0

    def load(
        self, *rows: Row, rejects: Sequence[Reject] = (), at: datetime | None = None
    ) -> JobProgress:
        progress = self.loader.load(self.page(*rows, rejects=rejects, at=at))
        self.pages = progress.pages
        return progress

    def page(
        self, *rows: Row, rejects: Sequence[Reject] = (), at: datetime | None = None
    ) -> PageLoad:
        return self.page_of(self.pages, *rows, rejects=rejects, at=at)

    @staticmethod
    def page_of(
        number: int, *rows: Row, rejects: Sequence[Reject] = (), at: datetime | None = None
    ) -> PageLoad:
        return PageLoad(
            number=number,
            rows=rows,
            rejects=rejects,
            records=len(rows) + len(rejects),
            rejected_records=len(rejects),
            cursor_before=number or None,
            cursor=number + 1,
            extracted_at=at or datetime.now(UTC),
        )

    def end(self) -> None:
        with self.warehouse.connection() as connection:
            connection.execute(
                "UPDATE etl_jobs SET state = 'completed' WHERE seq = %s", [self.input.seq]
            )


def counts(progress: JobProgress) -> tuple[int, int, int, int]:
    """Inserted, updated, unchanged, rejected."""
    rows = progress.rows
    return rows.inserted, rows.updated, rows.unchanged, rows.rejected


def fetch(warehouse: Warehouse, query: LiteralString, *values: object) -> list[dict[str, Any]]:
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(query, values).fetchall()


def execute(warehouse: Warehouse, query: LiteralString, *values: object) -> None:
    with warehouse.connection() as connection:
        connection.execute(query, values)


@contextmanager
def holding(warehouse: Warehouse, query: LiteralString, *values: object) -> Any:
    """Run a statement and keep its transaction open inside the block."""
    with warehouse.connection() as connection:
        connection.execute(query, values)
        yield connection


def wal_position(connection: Connection) -> int:
    row = connection.execute("SELECT (pg_current_wal_insert_lsn() - '0/0')::bigint").fetchone()
    assert row is not None
    return int(str(row[0]))
