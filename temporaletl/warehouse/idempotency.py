"""Idempotency keys: a request that is sent again gets the answer of the first time.

Whoever serves a request claims its key before, and stores the answer, or releases the key where
nothing was done:

    if (known := claim(warehouse, key, body)) is not None:
        return known
    answer = serve(body)
    store_answer(warehouse, key, answer)
"""

import hashlib
from datetime import timedelta
from typing import Any, NamedTuple

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from temporaletl.errors import ConfigurationError, ConflictError
from temporaletl.rows import storable_text
from temporaletl.secrets import cleaned, redacted
from temporaletl.warehouse.connection import Warehouse

#: How long an answer is kept.
KEPT = timedelta(days=7)
#: How long a request may run: its process is then taken for dead, and its key can be claimed anew.
ABANDONED_AFTER = timedelta(minutes=10)
_LONGEST_KEY = 255
_PRUNED_AT_ONCE = 1_000


class ReusedKeyError(ConflictError):
    """An idempotency key came with another request than the first time."""


class RequestRunningError(ConflictError):
    """The first request with this idempotency key still runs."""


class RequestKey(NamedTuple):
    """An idempotency key, which is of one token and one route alone; its hash is what is stored."""

    token_id: str
    route: str
    key: str

    @property
    def stored(self) -> dict[str, Any]:
        """The columns that are its row's key."""
        digest = hashlib.sha256(self.key.encode()).digest()
        return {"token_id": self.token_id, "route": self.route, "key_sha256": digest}


class Answer(NamedTuple):
    """An answer over HTTP: its status, and its body as JSON."""

    status: int
    body: JsonValue


def claim(warehouse: Warehouse, key: RequestKey, request: bytes) -> Answer | None:
    """Claim a key for a request; the answer of the first time where there is one already.

    Of several at once, one claims it. `request` is the body, or what else makes two requests the
    same. Keys older than `KEPT` are deleted; one whose request began `ABANDONED_AFTER` ago and has
    no answer can be claimed again, by the same request.

    Raises:
        ReusedKeyError: the key was used for another request.
        RequestRunningError: the first request has no answer yet.
        ConfigurationError: the key is empty, too long, or not printable.
    """
    if not key.key or len(key.key) > _LONGEST_KEY or not key.key.isprintable():
        raise ConfigurationError(
            f"an idempotency key has from 1 to {_LONGEST_KEY} printable characters"
        )
    digest = hashlib.sha256(request).digest()
    values: dict[str, Any] = {
        **key.stored,
        "digest": digest,
        "kept": KEPT,
        "abandoned": ABANDONED_AFTER,
        "at_once": _PRUNED_AT_ONCE,
    }
    with warehouse.connection() as connection:
        # By itself: who claims a key waits for whoever holds its row, and must hold no other.
        connection.execute(_PRUNE, values)
    with warehouse.connection() as connection:
        if connection.execute(_CLAIM, values).rowcount == 1:
            return None
        row = connection.cursor(row_factory=dict_row).execute(_FIND, values).fetchone()
    if row is not None and bytes(row["request_sha256"]) != digest:
        raise ReusedKeyError(
            f"the idempotency key {key.key!r} was used for another request: each needs its own"
        )
    if row is None or row["status"] is None:
        # Without a row it was released just now.
        raise RequestRunningError(
            f"the first request with the idempotency key {key.key!r} still runs: send it again soon"
        )
    return Answer(row["status"], row["body"])


# Requests that prune at once take different rows, and wait for none.
_PRUNE = """
    DELETE FROM etl_idempotency_keys WHERE (token_id, route, key_sha256) IN (
        SELECT token_id, route, key_sha256 FROM etl_idempotency_keys
        WHERE created_at < clock_timestamp() - %(kept)s
        ORDER BY created_at LIMIT %(at_once)s FOR UPDATE SKIP LOCKED)
"""
_CLAIM = """
    INSERT INTO etl_idempotency_keys AS k (token_id, route, key_sha256, request_sha256)
    VALUES (%(token_id)s, %(route)s, %(key_sha256)s, %(digest)s)
    ON CONFLICT (token_id, route, key_sha256) DO UPDATE
    SET request_sha256 = excluded.request_sha256, status = NULL, body = NULL,
        created_at = excluded.created_at
    WHERE k.created_at < clock_timestamp() - %(kept)s
       OR (k.status IS NULL AND k.request_sha256 = excluded.request_sha256
           AND k.created_at < clock_timestamp() - %(abandoned)s)
"""
_FIND = """
    SELECT request_sha256, status, body FROM etl_idempotency_keys
    WHERE token_id = %(token_id)s AND route = %(route)s AND key_sha256 = %(key_sha256)s
"""


def store_answer(warehouse: Warehouse, key: RequestKey, answer: Answer) -> None:
    """Store the answer of a claimed key; the first one stands. Safe to repeat.

    Secrets that this process knows are taken out of the body: an answer with a new token's text is
    not given twice.
    """
    with warehouse.connection() as connection:
        connection.execute(
            """
            UPDATE etl_idempotency_keys SET status = %(status)s, body = %(body)s
            WHERE token_id = %(token_id)s AND route = %(route)s AND key_sha256 = %(key_sha256)s
              AND status IS NULL
            """,
            {
                **key.stored,
                "status": answer.status,
                "body": Jsonb(cleaned(answer.body, lambda text: storable_text(redacted(text)))),
            },
        )


def release(warehouse: Warehouse, key: RequestKey) -> None:
    """Give a claimed key back, because nothing was done: the request may be sent again.

    Does nothing where it has an answer. Safe to repeat.
    """
    with warehouse.connection() as connection:
        connection.execute(
            """
            DELETE FROM etl_idempotency_keys
            WHERE token_id = %(token_id)s AND route = %(route)s AND key_sha256 = %(key_sha256)s
              AND status IS NULL
            """,
            key.stored,
        )
