"""Log-ins of browsers: each a random value that stands for a token, for a while.

The value is kept as its SHA-256. A log-in ends with its time, when it is ended, and with its token.
"""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import NamedTuple

from psycopg import sql
from psycopg.rows import dict_row
from pydantic import SecretStr

from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.sessions import only_row
from temporaletl.warehouse.tokens import COLUMNS, VALID, InvalidTokenError, Token, authenticate

_VALUE_BYTES = 32


class Login(NamedTuple):
    """A log-in's value, for the browser alone, and when it ends by itself."""

    value: SecretStr
    token: Token
    expires_at: datetime


def log_in(warehouse: Warehouse, text: str, lifetime: timedelta) -> Login:
    """Begin a log-in with a token's text. It ends no later than the token.

    Raises:
        InvalidTokenError: the token is wrong, has expired or was revoked.
    """
    token = authenticate(warehouse, text)
    value = secrets.token_urlsafe(_VALUE_BYTES)
    with warehouse.connection() as connection:
        connection.execute("DELETE FROM etl_sessions WHERE expires_at < clock_timestamp()")
        row = only_row(
            connection.cursor(row_factory=dict_row).execute(
                """
                INSERT INTO etl_sessions (session_sha256, token_id, expires_at)
                VALUES (%s, %s, least(clock_timestamp() + %s, %s)) RETURNING expires_at
                """,
                [_digest(value), token.token_id, lifetime, token.expires_at],
            )
        )
    return Login(SecretStr(value), token, row["expires_at"])


def token_of_login(warehouse: Warehouse, value: str) -> Token:
    """The token that a log-in stands for.

    Raises:
        InvalidTokenError: there is no such log-in, it has ended, or its token is not valid now.
    """
    query = sql.SQL(
        """
        SELECT {} FROM etl_tokens WHERE {} AND token_id = (
            SELECT token_id FROM etl_sessions
            WHERE session_sha256 = %s AND expires_at > clock_timestamp())
        """
    ).format(COLUMNS, VALID)
    with warehouse.connection() as connection:
        row = connection.cursor(row_factory=dict_row).execute(query, [_digest(value)]).fetchone()
    if row is None:
        raise InvalidTokenError
    return Token.model_validate(row)


def log_out(warehouse: Warehouse, value: str) -> bool:
    """End a log-in; return whether there was one. Safe to repeat."""
    with warehouse.connection() as connection:
        ended = connection.execute(
            "DELETE FROM etl_sessions WHERE session_sha256 = %s", [_digest(value)]
        )
        return ended.rowcount > 0


def _digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8", "replace")).digest()
