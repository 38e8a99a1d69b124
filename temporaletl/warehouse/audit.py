"""Audit: who did what to what, when, why, and in which request.

The row of an effect on the warehouse is written in the transaction of that effect, so that neither
is there without the other:

    with warehouse.connection() as connection:
        revoked = revoke_token(connection, "ci")
        record(connection, author, "token.revoke", revoked.name)
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, NamedTuple

from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from pydantic import JsonValue

from temporaletl.messages import Message
from temporaletl.rows import storable_text
from temporaletl.secrets import cleaned, redacted
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.sessions import only_row

#: `refused` and `failed` had no effect, or none that is known.
Outcome = Literal["done", "refused", "failed"]


class Author(Message):
    """Who acts: `token:ci`, `cli:alice@host`; why, and in which request, where that is known."""

    name: str
    reason: str | None = None
    request_id: str | None = None


class AuditEntry(Message):
    """One row of the audit; `at` is by the warehouse's clock."""

    audit_id: int
    at: datetime
    actor: str
    action: str
    target: str
    reason: str | None
    outcome: Outcome
    request_id: str | None
    details: dict[str, JsonValue]


class AuditPosition(NamedTuple):
    """The key of an entry, behind which the next page begins."""

    at: datetime
    audit_id: int


class AuditPage(NamedTuple):
    """Entries, the latest first; `next` is where older ones go on, None where there are none."""

    entries: list[AuditEntry]
    next: AuditPosition | None


def record(
    connection: Connection,
    author: Author,
    action: str,
    target: str,
    *,
    outcome: Outcome = "done",
    details: Mapping[str, JsonValue] | None = None,
) -> int:
    """Write an audit row in the caller's transaction; return its id.

    `action` is `<noun>.<verb>`, `target` the name of what it was done to. Secrets that this process
    knows are taken out of every text.
    """
    row = only_row(
        connection.execute(
            """
            INSERT INTO etl_audit (actor, action, target, reason, outcome, request_id, details)
            VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING audit_id
            """,
            [
                _text(author.name),
                action,
                _text(target),
                author.reason and _text(author.reason),
                outcome,
                author.request_id and _text(author.request_id),
                Jsonb(cleaned(details or {}, _text)),
            ],
        )
    )
    return int(row[0])


def _text(text: str) -> str:
    return storable_text(redacted(text))


_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, AuditEntry.model_fields))


def read_audit(
    warehouse: Warehouse, *, limit: int, before: AuditPosition | None = None
) -> AuditPage:
    """A page of the audit, the latest entries first, from behind `before` on.

    Entries that are written meanwhile shift no page.
    """
    query = sql.SQL(
        "SELECT {} FROM etl_audit WHERE %(at)s::timestamptz IS NULL "
        "OR (at, audit_id) < (%(at)s, %(audit_id)s::bigint) "
        "ORDER BY at DESC, audit_id DESC LIMIT %(limit)s"
    ).format(_COLUMNS)
    values: dict[str, Any] = {
        "at": before and before.at,
        "audit_id": before and before.audit_id,
        # One more than is shown: whether there are others.
        "limit": limit + 1,
    }
    with warehouse.connection() as connection:
        rows = connection.cursor(row_factory=dict_row).execute(query, values).fetchall()
    entries = [AuditEntry.model_validate(row) for row in rows[:limit]]
    more = len(rows) > limit
    return AuditPage(entries, AuditPosition(entries[-1].at, entries[-1].audit_id) if more else None)
