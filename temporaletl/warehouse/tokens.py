"""Bearer tokens of the API: created, listed, revoked, and checked.

A token is `etl_<id>_<secret>`, the secret 256 random bits in 43 characters. The warehouse keeps its
SHA-256 alone; its text is known to whoever created it, once.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, get_args

from psycopg import errors, sql
from psycopg.rows import dict_row
from pydantic import SecretStr

from temporaletl.credentials import check_title
from temporaletl.errors import ConfigurationError, ConflictError, CredentialsError, NotFoundError
from temporaletl.messages import Message
from temporaletl.rows import storable_text
from temporaletl.secrets import remember_secret
from temporaletl.warehouse.connection import Connection, Warehouse
from temporaletl.warehouse.sessions import only_row

#: Each includes those before it.
Scope = Literal["read", "decrypt", "operate"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_FORM = re.compile(r"etl_([0-9a-f]{12})_([A-Za-z0-9_-]{43})", re.ASCII)
_ID_BYTES = 6
_SECRET_BYTES = 32
_LONGEST = timedelta(days=36_500)
#: How exact `last_used_at` is: a write for each request would be as many as the requests.
_USED_WITHIN = timedelta(minutes=1)
#: Compared with where there is no such token, so that it takes as long.
_NO_DIGEST = bytes(hashlib.sha256().digest_size)


class InvalidTokenError(CredentialsError):
    """A token or a log-in is wrong, has expired, or was revoked: which of them is not said."""

    def __init__(self) -> None:
        super().__init__("the token is not valid: it is wrong, has expired, or was revoked")


class Token(Message):
    """A token without its secret. Times are the warehouse's; `last_used_at` is a minute exact."""

    token_id: str
    name: str
    scope: Scope
    created_at: datetime
    created_by: str
    expires_at: datetime | None
    last_used_at: datetime | None
    revoked_at: datetime | None

    def may(self, scope: Scope) -> bool:
        """Whether it allows what needs `scope`."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)


class NewToken(NamedTuple):
    """A token and its text, which is nowhere else."""

    token: Token
    text: SecretStr


#: The columns of a `Token`; queries of log-ins join them.
COLUMNS = sql.SQL(", ").join(map(sql.Identifier, Token.model_fields))
#: Neither revoked nor expired.
VALID = sql.SQL("revoked_at IS NULL AND (expires_at IS NULL OR expires_at > clock_timestamp())")


def create_token(
    connection: Connection,
    name: str,
    scope: Scope,
    *,
    created_by: str,
    expires_in: timedelta | None = None,
) -> NewToken:
    """Create a token in the caller's transaction; `expires_in` None: it does not expire.

    Its text is kept out of all that leaves the process.

    Raises:
        ConflictError: a token of that name is not revoked, though it may have expired.
        ConfigurationError: the name is empty, too long or not visible, or the span not positive.
    """
    check_title("token", name)
    if expires_in is not None and not timedelta(0) < expires_in <= _LONGEST:
        raise ConfigurationError(
            f"a token expires in {_LONGEST.days:,} days at most, and not before it is created"
        )
    token_id, secret = secrets.token_hex(_ID_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    text = f"etl_{token_id}_{secret}"
    remember_secret(text)
    remember_secret(secret)
    query = sql.SQL(
        """
        INSERT INTO etl_tokens (token_id, name, scope, secret_sha256, created_by, expires_at)
        VALUES (%s, %s, %s, %s, %s, clock_timestamp() + %s::interval) RETURNING {}
        """
    ).format(COLUMNS)
    values = [token_id, name, scope, _digest(secret), created_by, expires_in]
    try:
        with connection.transaction():
            row = only_row(connection.cursor(row_factory=dict_row).execute(query, values))
    except errors.UniqueViolation:
        raise ConflictError(
            f"there is a token {name!r} already: revoke it first (`etl token revoke`), or take "
            "another name"
        ) from None
    return NewToken(Token.model_validate(row), SecretStr(text))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def list_tokens(warehouse: Warehouse) -> list[Token]:
    """All tokens, expired and revoked ones too, the latest first."""
    query = sql.SQL("SELECT {} FROM etl_tokens ORDER BY created_at DESC, token_id").format(COLUMNS)
    with warehouse.connection() as connection:
        rows = connection.cursor(row_factory=dict_row).execute(query)
        return [Token.model_validate(row) for row in rows]


def has_tokens(warehouse: Warehouse) -> bool:
    """Whether there is a token that was not revoked.

    One that has expired counts: time alone must not open what it guarded.
    """
    query = "SELECT EXISTS (SELECT FROM etl_tokens WHERE revoked_at IS NULL)"
    with warehouse.connection() as connection:
        return bool(only_row(connection.execute(query))[0])


def valid_tokens(warehouse: Warehouse, token_ids: Collection[str]) -> set[str]:
    """Those of these tokens, by their ids, that are valid now."""
    query = sql.SQL("SELECT token_id FROM etl_tokens WHERE token_id = ANY(%s) AND {}").format(VALID)
    with warehouse.connection() as connection:
        return {str(row[0]) for row in connection.execute(query, [list(token_ids)]).fetchall()}


def revoke_token(connection: Connection, name: str) -> Token:
    """Revoke a token and its log-ins in the caller's transaction: the next request is refused.

    Raises:
        NotFoundError: no token of that name is there, or it is revoked already.
    """
    query = sql.SQL(
        """
        UPDATE etl_tokens SET revoked_at = clock_timestamp()
        WHERE name = %s AND revoked_at IS NULL RETURNING {}
        """
    ).format(COLUMNS)
    row = connection.cursor(row_factory=dict_row).execute(query, [storable_text(name)]).fetchone()
    if row is None:
        raise NotFoundError(f"there is no token {name!r} to revoke (`etl token list`)")
    token = Token.model_validate(row)
    connection.execute("DELETE FROM etl_sessions WHERE token_id = %s", [token.token_id])
    return token


def authenticate(warehouse: Warehouse, text: str) -> Token:
    """The token whose text this is; its use is recorded, once a minute at most, but by no replica.

    Raises:
        InvalidTokenError: it is wrong, has expired or was revoked.
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise InvalidTokenError
    token_id, secret = form.groups()
    query = sql.SQL(
        """
        SELECT {}, secret_sha256, {} AS is_valid,
            NOT pg_is_in_recovery()
                AND (last_used_at IS NULL OR last_used_at < clock_timestamp() - %s) AS is_use_due
        FROM etl_tokens WHERE token_id = %s
        """
    ).format(COLUMNS, VALID)
    with warehouse.connection() as connection:
        cursor = connection.cursor(row_factory=dict_row)
        row = cursor.execute(query, [_USED_WITHIN, token_id]).fetchone()
        known = _NO_DIGEST if row is None else bytes(row["secret_sha256"])
        is_known = hmac.compare_digest(_digest(secret), known)
        if row is None or not is_known:
            raise InvalidTokenError
        # Also one that is valid no longer; but no other, of which anybody can send any number.
        remember_secret(text)
        remember_secret(secret)
        if not row["is_valid"]:
            raise InvalidTokenError
        if row["is_use_due"]:
            row |= _record_use(connection, token_id)
    return Token.model_validate(row)


def _record_use(connection: Connection, token_id: str) -> dict[str, Any]:
    """Record a use, unless another request just did, or the row is held: nobody waits for that."""
    row = (
        connection.cursor(row_factory=dict_row)
        .execute(
            """
            UPDATE etl_tokens SET last_used_at = clock_timestamp() WHERE token_id = (
                SELECT token_id FROM etl_tokens
                WHERE token_id = %(id)s AND (last_used_at IS NULL
                    OR last_used_at < clock_timestamp() - %(within)s)
                FOR UPDATE SKIP LOCKED)
            RETURNING last_used_at
            """,
            {"id": token_id, "within": _USED_WITHIN},
        )
        .fetchone()
    )
    return row or {}
