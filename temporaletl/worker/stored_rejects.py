"""Pages of stored rejects: the records that a reprocessing job or a second reading works on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import takewhile
from math import isfinite
from typing import Any

import msgspec
from psycopg import sql
from psycopg.rows import dict_row
from pydantic import JsonValue

from temporaletl.errors import ConfigurationError
from temporaletl.external.answers import DECODE_FAULTS, in_words
from temporaletl.messages import ETLInput
from temporaletl.rereading import Reread
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.cursors import unescaped

_REJECTS_PER_PAGE = 500
_CHARACTERS_PER_PAGE = 16 << 20
_IS_CUT = "it cannot be replayed, as only the beginning of its {:,} bytes is kept; "


@dataclass(frozen=True, slots=True)
class Rejected:
    """One stored reject, and the parameters of its job; None once the ledger forgot that."""

    reject_id: int
    stage: str
    times: int
    reason: str
    key: str | None
    payload: Any
    params: Mapping[str, JsonValue] | None
    #: Why only the beginning of the payload is kept, so that it cannot be reprocessed.
    cut: str | None = None
    #: The result of a second reading.
    reread: Reread | None = None


class RejectPosition(msgspec.Struct, array_like=True, frozen=True):
    """Cursor over stored rejects: timestamp (as text) and id of the last one that was read.

    `count` is how many came before.
    """

    timestamp: str = "-infinity"
    reject_id: int = 0
    count: int = 0

    @classmethod
    def of(cls, cursor: JsonValue) -> "RejectPosition":
        """Decode a cursor; None is the beginning.

        Raises:
            ConfigurationError: it stands for none.
        """
        try:
            return msgspec.convert(cursor or [], cls)
        except msgspec.ValidationError:
            raise ConfigurationError(f"{cursor!r} is no cursor over rejects") from None


@dataclass(frozen=True, slots=True)
class RejectPage:
    """One page of rejects of one stage, and the position behind them.

    `extracted_at` is no later than when any of them was extracted, or first written: a record of
    tomorrow was requested by a wrong clock.
    """

    records: list[Rejected]
    position: RejectPosition
    extracted_at: datetime


# Cut payloads are not read, but for their beginning: nothing comes of them.
_NEXT = sql.SQL(
    """
    WITH next AS (
        SELECT * FROM etl_rejects
        WHERE source = %(source)s AND connection = %(connection)s AND stream = %(stream)s
          AND batch_id <> %(batch)s AND {which}
          AND (%(only)s::bigint[] IS NULL OR reject_id = ANY (%(only)s))
          AND ({timestamp}, reject_id) > (%(timestamp)s::timestamptz, %(reject_id)s)
        ORDER BY {timestamp}, reject_id LIMIT %(most)s
    ), weighed AS (
        SELECT *, payload::text AS text,
            sum(length(payload::text))
                OVER (ORDER BY {timestamp}, reject_id
                      ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
        FROM next
    )
    SELECT r.reject_id, r.stage, r.times, r.key, r.text, j.input->'params' AS params,
           r.extracted_at,
           {timestamp}::text AS timestamp, least(r.extracted_at, r.last_seen) AS extracted,
           r.payload_bytes, r.reason
    FROM weighed AS r LEFT JOIN etl_jobs AS j USING (batch_id, job_id)
    WHERE coalesce(r.before, 0) < %(characters)s
    ORDER BY {timestamp}, r.reject_id
    """
)
_ALL = _NEXT.format(which=sql.SQL("true"), timestamp=sql.Identifier("extracted_at"))
# Each one once: whatever comes of it, it is seen later than its batch began.
_UNREAD = _NEXT.format(
    which=sql.SQL(
        "stage = 'extract' AND last_seen <= "
        "(SELECT created_at FROM etl_batches WHERE batch_id = %(batch)s)"
    ),
    timestamp=sql.Identifier("last_seen"),
)


def read_rejects(
    warehouse: Warehouse,
    job: ETLInput,
    position: RejectPosition,
    *,
    only: Sequence[int] = (),
    unread_at_once: int | None,
) -> RejectPage | None:
    """Read the next rejects of the job's stream behind a position; None behind the last.

    Those of a page have one stage; in a reprocessing job they were extracted together, oldest
    first. A second reading has what could not be read before its batch, longest untried first.
    Rejects of this batch itself are left out, and others than `only` where ids are given.
    `unread_at_once` bounds a page of what could not be
    read, where it is requested again.
    """
    with warehouse.connection() as connection, connection.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(
            _UNREAD if job.reread else _ALL,
            {
                "source": job.source,
                "connection": job.connection,
                "stream": job.stream,
                "batch": job.batch_id,
                "timestamp": position.timestamp,
                "reject_id": position.reject_id,
                "only": list(only) or None,
                "most": unread_at_once if job.reread else _REJECTS_PER_PAGE,
                "characters": _CHARACTERS_PER_PAGE,
            },
        ).fetchall()
    if not found:
        return None

    def together(row: dict[str, Any]) -> tuple[object, bool]:
        return None if job.reread else row["extracted_at"], row["stage"] == "extract"

    rows = [*takewhile(lambda row: together(row) == together(found[0]), found)]
    if rows[0]["stage"] == "extract":
        rows = rows[:unread_at_once]
    return RejectPage(
        records=[rejected_of(row) for row in rows],
        position=RejectPosition(
            rows[-1]["timestamp"], rows[-1]["reject_id"], position.count + len(rows)
        ),
        extracted_at=min(row["extracted"] for row in rows),
    )


def rejected_of(row: Mapping[str, Any]) -> Rejected:
    """Build a record from a row of etl_rejects; one that cannot be decoded says so."""
    size, reason, cut = row["payload_bytes"], row["reason"], None
    if size is not None:
        is_cut = _IS_CUT.format(size)
        cut = reason if reason.startswith(is_cut) else is_cut + reason
    payload: Any = None
    try:
        payload = _decode(row["text"] or "null")
    except DECODE_FAULTS as error:
        # One that is beyond the decoder must not keep the others from being reprocessed.
        cut = cut or f"what is kept of it cannot be decoded: {in_words(error)}"
    params: Any = unescaped(row["params"])
    return Rejected(
        row["reject_id"], row["stage"], row["times"], reason, row["key"], payload, params, cut
    )


def _exact(text: str) -> float | Decimal:
    """The number as a float where that has all of its digits."""
    number = float(text)
    exact = Decimal(text)
    return number if isfinite(number) and Decimal(repr(number)) == exact else exact


_decode = msgspec.json.Decoder(float_hook=_exact).decode
