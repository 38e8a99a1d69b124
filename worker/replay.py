"""Replays rejects: a job that reads its source's rejects in place of the source.

Each record goes through the present transform with the query of the job that once extracted it.
What becomes rows leaves the table in the transaction that holds them; what fails again stays,
with the new reason.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from math import isfinite
from typing import Any

import msgspec
from pydantic import JsonValue

from temporaletl.errors import ConfigurationError, RecordError
from temporaletl.external.answers import DECODE_FAULTS, in_words
from temporaletl.messages import ETLInput
from temporaletl.rows import Reject, Row, Whole
from temporaletl.strategies import Page, PageRequest, Query, Strategies, TransformContext
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.cursors import unescaped

_REJECTS_PER_PAGE = 500
_CHARACTERS_PER_PAGE = 16 << 20
_IS_CUT = "it cannot be replayed, as only the beginning of its {:,} bytes is kept; "


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
    #: Why only the beginning of the payload is kept, and nothing can be made of it.
    cut: str | None = None


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
            WITH next AS (
                SELECT * FROM etl_rejects
                WHERE source = %s AND stream = %s AND batch_id <> %s
                  AND (extracted_at, reject_id) > (%s::timestamptz, %s)
                ORDER BY extracted_at, reject_id LIMIT %s
            ), weighed AS (
                -- Cut ones are not read: nothing comes of them.
                SELECT *, CASE WHEN payload_bytes IS NULL THEN payload::text END AS text,
                    sum(CASE WHEN payload_bytes IS NULL THEN length(payload::text) ELSE 0 END)
                        OVER (ORDER BY extracted_at, reject_id
                              ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
                FROM next
            )
            SELECT r.reject_id, r.stage, r.key, r.text, j.input->'params', r.extracted_at,
                   r.extracted_at::text, least(r.extracted_at, r.last_seen), r.payload_bytes,
                   r.reason
            FROM weighed AS r LEFT JOIN etl_jobs AS j USING (batch_id, job_id)
            WHERE coalesce(r.before, 0) < %s
            ORDER BY r.extracted_at, r.reject_id
            """,
            [job.source, job.stream, job.batch_id, *after, _REJECTS_PER_PAGE, _CHARACTERS_PER_PAGE],
        ).fetchall()
    rows: list[Sequence[Any]] = [row for row in found if row[5] == found[0][5]]
    if not rows:
        return None
    return Page(
        records=[_rejected(row) for row in rows],
        cursor=[rows[-1][6], rows[-1][0]],
        # A record of tomorrow was asked for by a wrong clock: no later than it was first written.
        extracted_at=min(row[7] for row in rows),
    )


def _rejected(row: Sequence[Any]) -> Rejected:
    reject_id, stage, key, text, params, _, _, _, size, reason = row
    cut = None
    if size is not None:
        told = _IS_CUT.format(size)
        cut = reason if reason.startswith(told) else told + reason
    payload: Any = None
    try:
        payload = _decode(text or "null")
    except DECODE_FAULTS as error:
        # One that is beyond the decoder must not cost the replay of all others.
        cut = cut or f"what is kept of it cannot be decoded: {in_words(error)}"
    return Rejected(reject_id, stage, key, payload, unescaped(params), cut)  # type: ignore[arg-type]


def _exact(text: str) -> float | Decimal:
    """The number as a float where that has all of its digits."""
    number = float(text)
    exact = Decimal(text)
    return number if isfinite(number) and Decimal(repr(number)) == exact else exact


_decode = msgspec.json.Decoder(float_hook=_exact).decode


def _transform(
    strategies: Strategies, record: Rejected, context: TransformContext
) -> Sequence[Row | Reject | Whole]:
    if record.cut is not None:
        raise RecordError(record.cut)
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
