"""Keeps the records that could not become rows, whatever is in them."""

import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from psycopg import sql
from xxhash import xxh3_64_intdigest

from temporaletl.messages import ETLInput
from temporaletl.rows import Reject, storable_text
from temporaletl.secrets import redacted
from temporaletl.warehouse.connection import Connection

# A number beyond this is kept as its text: PostgreSQL's numeric ends at 131,072 digits.
_LARGEST_EXPONENT = 10_000
_MOST_NESTED = 400
_REJECTS_PER_STATEMENT = 1_000

_encode = msgspec.json.Encoder(order="sorted", decimal_format="number").encode


def storable_json(payload: Any) -> str:
    """The payload as JSON that jsonb takes; equal payloads give equal text.

    Bytes and msgspec.Raw that hold JSON are kept as that JSON, other bytes as a string.
    """
    try:
        if isinstance(payload, msgspec.Raw):
            payload = bytes(payload)
        if isinstance(payload, bytes | bytearray | memoryview):
            payload = _decoded(bytes(payload))
        else:
            payload = msgspec.to_builtins(payload, enc_hook=repr, str_keys=True)
        return _encode(_storable(payload, 0)).decode()
    except Exception:  # noqa: BLE001 - a payload of any kind must not cost the page
        return _encode(storable_text(_described(payload))).decode()


def _described(payload: Any) -> str:
    try:
        return repr(payload)
    except Exception as error:  # noqa: BLE001 - as above
        return f"<{type(payload).__name__} that cannot be shown: {type(error).__name__}>"


def _decoded(raw: bytes) -> Any:
    text = raw.decode(errors="replace")
    try:
        # Not msgspec: it would refuse large numbers, and lone surrogates.
        return json.loads(text, parse_float=Decimal, parse_int=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError, ArithmeticError):
        return text


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")


def _storable(value: Any, depth: int) -> Any:
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, float | Decimal):
        return value if _fits(value) else str(value)
    if depth > _MOST_NESTED and isinstance(value, dict | list | tuple):
        return storable_text(_described(value))
    if isinstance(value, dict):
        return {storable_text(str(k)): _storable(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_storable(v, depth + 1) for v in value]
    return value


def _fits(number: float | Decimal) -> bool:
    if isinstance(number, Decimal):
        return number.is_finite() and abs(number.adjusted()) <= _LARGEST_EXPONENT
    return math.isfinite(number)


# Parameters as arrays: one plan, however many rejects.
_UPSERT = sql.SQL(
    """
    INSERT INTO etl_rejects AS r (source, stream, reject_hash, stage, reason, key, payload, times,
                                  batch_id, job_id, workflow_id, run_id, extracted_at)
    SELECT %(source)s, %(stream)s, hash, stage, reason, key, payload::jsonb, times,
           %(batch_id)s, %(job_id)s, %(workflow_id)s, %(run_id)s, %(extracted_at)s
    FROM unnest(%(hashes)s::bigint[], %(stages)s::text[], %(reasons)s::text[], %(keys)s::text[],
                %(payloads)s::text[], %(times)s::integer[])
         AS i (hash, stage, reason, key, payload, times)
    ON CONFLICT (source, stream, reject_hash) DO UPDATE SET
        times = r.times + excluded.times, last_seen = now(), reason = excluded.reason,
        batch_id = excluded.batch_id, job_id = excluded.job_id,
        workflow_id = excluded.workflow_id, run_id = excluded.run_id,
        extracted_at = greatest(r.extracted_at, excluded.extracted_at)
    """
)


def keep(
    connection: Connection,
    rejects: Sequence[Reject],
    job: ETLInput,
    *,
    workflow_id: str,
    run_id: str,
    extracted_at: datetime,
) -> None:
    """Write rejects in the caller's transaction; one met before is counted, not repeated."""
    rows: dict[int, list[Any]] = {}
    for reject in rejects:
        stage, reason = storable_text(reject.stage), storable_text(redacted(reject.reason))
        key = None if reject.key is None else storable_text(str(reject.key))
        payload = storable_json(reject.payload)
        hashed = _encode([stage, key, payload])
        number = int.from_bytes(xxh3_64_intdigest(hashed).to_bytes(8), signed=True)
        if number in rows:
            rows[number][-1] += 1
        else:
            rows[number] = [number, stage, reason, key, payload, 1]
    # In one order everywhere, so that two loaders that meet the same rejects cannot deadlock.
    ordered = [rows[number] for number in sorted(rows)]
    for first in range(0, len(ordered), _REJECTS_PER_STATEMENT):
        some = zip(*ordered[first : first + _REJECTS_PER_STATEMENT], strict=True)
        names = ("hashes", "stages", "reasons", "keys", "payloads", "times")
        connection.execute(
            _UPSERT,
            {
                "source": job.source,
                "stream": job.stream,
                "batch_id": job.batch_id,
                "job_id": job.job_id,
                "workflow_id": workflow_id,
                "run_id": run_id,
                "extracted_at": extracted_at,
                **{name: list(values) for name, values in zip(names, some, strict=True)},
            },
        )


def settle(connection: Connection, replayed: Mapping[int, str | None]) -> None:
    """Delete the rejects that became rows, and give the others their new reason."""
    done = [reject_id for reject_id, reason in replayed.items() if reason is None]
    again = {
        i: storable_text(redacted(reason)) for i, reason in replayed.items() if reason is not None
    }
    if done:
        connection.execute("DELETE FROM etl_rejects WHERE reject_id = ANY (%s)", [done])
    if again:
        connection.execute(
            """
            UPDATE etl_rejects AS r SET reason = i.reason
            FROM unnest(%s::bigint[], %s::text[]) AS i (reject_id, reason)
            WHERE r.reject_id = i.reject_id
            """,
            [list(again), list(again.values())],
        )
