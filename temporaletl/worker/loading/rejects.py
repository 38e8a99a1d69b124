"""Dead letters: rejected records in etl_rejects, whatever is in them."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import msgspec
from psycopg import sql
from xxhash import xxh3_64_intdigest

from temporaletl.messages import ETLInput
from temporaletl.rows import Reject, storable_text
from temporaletl.secrets import cleaned, redacted
from temporaletl.warehouse.connection import Connection
from temporaletl.worker.loading.payloads import beginning_of, exceeds

# A number beyond this is kept as its text: PostgreSQL's numeric ends at 131,072 digits.
_LARGEST_EXPONENT = 10_000
_MOST_NESTED = 400
_REJECTS_PER_STATEMENT = 1_000
_CHARACTERS_PER_STATEMENT = 8 << 20
_REASON_CHARACTERS = 10_000
_KEY_CHARACTERS = 4_000

#: What is kept of a payload, where no setting says so: of a larger one, its beginning.
PAYLOAD_BYTES = 1 << 20

_encode = msgspec.json.Encoder(order="sorted", decimal_format="number").encode


def storable_json(payload: Any) -> str:
    """Encode a payload as JSON that jsonb takes; equal payloads give equal text.

    Bytes and msgspec.Raw that hold JSON are kept as that JSON, other bytes as a string.
    """
    try:
        if isinstance(payload, msgspec.Raw):
            payload = bytes(payload)
        if isinstance(payload, bytes | bytearray | memoryview):
            payload = _decoded(bytes(payload))
        else:
            payload = msgspec.to_builtins(
                payload, enc_hook=repr, str_keys=True, builtin_types=(Decimal,)
            )
        return _json_without_secrets(_storable(payload, 0))
    except Exception:  # noqa: BLE001 - a payload of any kind must not cost the page
        return _json_without_secrets(storable_text(_described(payload)))


def _json_without_secrets(value: Any) -> str:
    """A value as JSON, without the secrets that a source may have put into it."""
    text = _encode(value).decode()
    if redacted(text) == text:
        return text
    text = _encode(cleaned(value)).decode()
    # One that is a number, or a name.
    return text if redacted(text) == text else _encode(redacted(text)).decode()


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
    INSERT INTO etl_rejects AS r (source, connection, stream, reject_hash, stage, reason, key,
                                  payload, times, payload_bytes, batch_id, job_id, workflow_id,
                                  run_id, extracted_at)
    SELECT %(source)s, %(connection)s, %(stream)s, hash, stage, reason, key, payload::jsonb, times,
           bytes,
           %(batch_id)s, %(job_id)s, %(workflow_id)s, %(run_id)s, %(extracted_at)s
    FROM unnest(%(hashes)s::bigint[], %(stages)s::text[], %(reasons)s::text[], %(keys)s::text[],
                %(payloads)s::text[], %(bytes)s::bigint[], %(times)s::integer[])
         AS i (hash, stage, reason, key, payload, bytes, times)
    ON CONFLICT (source, connection, stream, reject_hash) DO UPDATE SET
        times = r.times + excluded.times, last_seen = now(), reason = excluded.reason,
        batch_id = excluded.batch_id, job_id = excluded.job_id,
        workflow_id = excluded.workflow_id, run_id = excluded.run_id,
        extracted_at = greatest(r.extracted_at, excluded.extracted_at)
    """
)


@dataclass(frozen=True, slots=True)
class StoredPayload:
    """A payload as it is stored; `size` in bytes and `digest` only where it was cut."""

    text: str  # JSON
    size: int | None = None
    digest: str | None = None


def kept_payload(payload: Any, most: int) -> StoredPayload:
    """Encode a payload, or the beginning of its text where it has more than `most` bytes.

    What is too large is neither decoded nor copied as a whole.
    """
    if not exceeds(payload, most):
        return StoredPayload(storable_json(payload))
    beginning, size, digest = beginning_of(payload, most)
    return StoredPayload(_encode(storable_text(redacted(beginning))).decode(), size, digest)


def stored_key(key: object) -> str:
    """A reject's key as it is stored."""
    return storable_text(redacted(str(key)))[:_KEY_CHARACTERS]


def keep(
    connection: Connection,
    rejects: Sequence[Reject],
    job: ETLInput,
    *,
    workflow_id: str,
    run_id: str,
    extracted_at: datetime,
    payload_bytes: int = PAYLOAD_BYTES,
) -> None:
    """Write rejects in the caller's transaction; a repeated one is counted, not written again."""
    rows: dict[int, list[Any]] = {}
    for reject in rejects:
        stage, reason = storable_text(reject.stage), _storable_reason(reject.reason)
        key = None if reject.key is None else stored_key(reject.key)
        kept = kept_payload(reject.payload, payload_bytes)
        parts = [stage, key, kept.text]
        if kept.size is not None:
            parts.append(kept.digest)
            reason += (
                f" (of the payload's {kept.size:,} bytes the first {payload_bytes:,} are kept)"
            )
        number = int.from_bytes(xxh3_64_intdigest(_encode(parts)).to_bytes(8), signed=True)
        if number in rows:
            rows[number][-1] += 1
        else:
            rows[number] = [number, stage, reason, key, kept.text, kept.size, 1]
    # In one order everywhere, so that two loaders that meet the same rejects cannot deadlock.
    for some in _portions([rows[number] for number in sorted(rows)]):
        names = ("hashes", "stages", "reasons", "keys", "payloads", "bytes", "times")
        columns = zip(names, zip(*some, strict=True), strict=True)
        connection.execute(
            _UPSERT,
            {
                "source": job.source,
                "connection": job.connection,
                "stream": job.stream,
                "batch_id": job.batch_id,
                "job_id": job.job_id,
                "workflow_id": workflow_id,
                "run_id": run_id,
                "extracted_at": extracted_at,
                **{name: list(values) for name, values in columns},
            },
        )


def _storable_reason(reason: str) -> str:
    # Behind what looks for secrets: half of one is not recognised any more.
    return storable_text(redacted(reason))[:_REASON_CHARACTERS]


def _portions(rows: Sequence[list[Any]]) -> Iterator[list[list[Any]]]:
    """As many rows at once as one statement should carry."""
    some: list[list[Any]] = []
    characters = 0
    for row in rows:
        if len(some) == _REJECTS_PER_STATEMENT or (some and characters > _CHARACTERS_PER_STATEMENT):
            yield some
            some, characters = [], 0
        some.append(row)
        characters += len(row[4])
    if some:
        yield some


@dataclass(frozen=True, slots=True)
class Reprocessed:
    """Result of reprocessing one stored reject: rows, or the `reason` why not.

    `times` is its count of occurrences when it was read.
    """

    times: int
    reason: str | None


def close_reprocessed(connection: Connection, reprocessed: Mapping[int, Reprocessed]) -> None:
    """Delete the reprocessed rejects that became rows, and give the others their new reason.

    One that was met once more since it was read stays: what became rows is older than that.
    """
    done = {i: result.times for i, result in reprocessed.items() if result.reason is None}
    again = {
        i: _storable_reason(result.reason)
        for i, result in reprocessed.items()
        if result.reason is not None
    }
    if done:
        connection.execute(
            """
            DELETE FROM etl_rejects AS r
            USING unnest(%s::bigint[], %s::integer[]) AS i (reject_id, times)
            WHERE r.reject_id = i.reject_id AND r.times = i.times
            """,
            [list(done), list(done.values())],
        )
    if again:
        connection.execute(
            """
            UPDATE etl_rejects AS r SET reason = i.reason, last_seen = now(),
                times = times + (stage = 'extract')::integer
            FROM unnest(%s::bigint[], %s::text[]) AS i (reject_id, reason)
            WHERE r.reject_id = i.reject_id
            """,
            [list(again), list(again.values())],
        )
