"""Replays rejects: a job that reads its source's rejects in place of the source.

Each record goes through the present transform with the query of the job that once extracted it.
What becomes rows leaves the table in the transaction that holds them; what fails again stays,
with the new reason.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec
from pydantic import JsonValue

from temporaletl.errors import ConfigurationError, RecordError
from temporaletl.messages import ETLInput
from temporaletl.rows import Reject, Row, Whole
from temporaletl.strategies import Page, PageRequest, Query, Strategies, TransformContext
from temporaletl.warehouse.connection import Warehouse

_REJECTS_PER_PAGE = 500


class ReplayQuery(Query):
    """A replay takes no parameters: each record brings its job's."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """One reject, and the job that met it; None once the ledger has forgotten that."""

    reject_id: int
    stage: str
    key: str | None
    payload: Any
    params: Mapping[str, JsonValue] | None


def replaying(warehouse: Warehouse, strategies: Strategies) -> Strategies:
    """Strategies of a stream whose records are its rejects."""

    async def extract(request: PageRequest) -> AsyncGenerator[Page]:
        cursor = request.cursor
        while True:
            page = await asyncio.to_thread(_read, warehouse, request.job, cursor)
            if page is None:
                return
            cursor = page.cursor
            yield page

    def transform(record: Any, context: TransformContext) -> Sequence[Row | Reject | Whole]:
        return _transform(strategies, record, context)

    class Versioned(ReplayQuery):
        VERSION = strategies.query.version()
        SPECIFIC_VERSION = strategies.query.specific_version()

    return Strategies(Versioned, extract, transform, strategies.rows)


def _read(warehouse: Warehouse, job: ETLInput, cursor: JsonValue) -> Page | None:
    """The next rejects that were extracted together, oldest first.

    Rejects of the replay's own are not met again: they belong to its batch.
    """
    match cursor:
        case None:
            after: tuple[str, int] = ("-infinity", 0)
        case [str(moment), int(reject_id)]:
            after = (moment, reject_id)
        case _:
            raise ConfigurationError(f"{cursor!r} is no cursor of a replay")
    with warehouse.connection() as connection:
        found = connection.execute(
            """
            SELECT r.reject_id, r.stage, r.key, r.payload::text, j.input->'params', r.extracted_at,
                   r.extracted_at::text
            FROM etl_rejects AS r LEFT JOIN etl_jobs AS j USING (batch_id, job_id)
            WHERE r.source = %s AND r.stream = %s AND r.batch_id <> %s
              AND (r.extracted_at, r.reject_id) > (%s::timestamptz, %s)
            ORDER BY r.extracted_at, r.reject_id LIMIT %s
            """,
            [job.source, job.stream, job.batch_id, *after, _REJECTS_PER_PAGE],
        ).fetchall()
    rows: list[Sequence[Any]] = [row for row in found if row[5] == found[0][5]]
    if not rows:
        return None
    moment_: datetime = rows[0][5]
    return Page(
        records=[
            Rejected(row[0], row[1], row[2], msgspec.json.decode(row[3] or "null"), row[4])
            for row in rows
        ],
        cursor=[rows[-1][6], rows[-1][0]],
        extracted_at=moment_,
    )


def _transform(
    strategies: Strategies, record: Rejected, context: TransformContext
) -> Sequence[Row | Reject | Whole]:
    if record.stage == "load":
        return [_row(strategies.rows, record)]
    if record.params is None:
        raise RecordError("the ledger no longer knows the job that extracted it, nor its query")
    try:
        query = strategies.query.from_dict(record.params)
    except ConfigurationError as error:
        raise RecordError(f"its job's parameters are no longer valid: {error}") from None
    return list(strategies.transform(record.payload, replace(context, query=query)))


def _row(classes: Sequence[type[Row]], record: Rejected) -> Row:
    """Make a row again of what the load refused."""
    payload = record.payload
    if not isinstance(payload, dict):
        raise RecordError("what is kept of it is no row")
    for kind in classes:
        if {field.name for field in msgspec.structs.fields(kind)} >= payload.keys():
            try:
                return msgspec.convert(payload, kind, strict=False)
            except msgspec.ValidationError as error:
                raise RecordError(f"as {kind.__name__}: {error}") from None
    names = " or ".join(kind.__name__ for kind in classes)
    raise RecordError(f"what is kept of it is no {names}")
