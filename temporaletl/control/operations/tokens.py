"""Tokens of the API: created, listed, revoked and checked; log-ins of browsers."""

import asyncio
from collections.abc import Collection
from datetime import timedelta

from temporaletl.control.operations.audit import local_author
from temporaletl.control.operations.platform import Platform
from temporaletl.warehouse import logins, tokens
from temporaletl.warehouse.audit import Author, record
from temporaletl.warehouse.logins import Login
from temporaletl.warehouse.tokens import NewToken, Scope, Token

#: How long a browser stays logged in.
LOGIN_LIFETIME = timedelta(hours=12)


async def create_token(
    platform: Platform,
    name: str,
    scope: Scope,
    *,
    expires_in: timedelta | None = None,
    author: Author | None = None,
) -> NewToken:
    """Create a token; its text is in the result, and nowhere else.

    It and its audit row are one transaction; without an `author`, the user of this process is the
    one.

    Raises:
        ConflictError: there is a token of that name that is not revoked.
        ConfigurationError: the name or the span does not fit.
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    by = author or local_author()

    def create() -> NewToken:
        with warehouse.connection() as connection:
            made = tokens.create_token(
                connection, name, scope, created_by=by.name, expires_in=expires_in
            )
            expires = made.token.expires_at
            record(
                connection,
                by,
                "token.create",
                name,
                details={
                    "token_id": made.token.token_id,
                    "scope": scope,
                    "expires_at": None if expires is None else expires.isoformat(),
                },
            )
        return made

    return await asyncio.to_thread(create)


async def list_tokens(platform: Platform) -> list[Token]:
    """All tokens, expired and revoked ones too, the latest first.

    Raises: as `Platform.current_warehouse`.
    """
    return await asyncio.to_thread(tokens.list_tokens, await platform.current_warehouse())


async def has_tokens(platform: Platform) -> bool:
    """Whether there is a token that was not revoked: without one, nobody can be recognized.

    Raises: as `Platform.current_warehouse`.
    """
    return await asyncio.to_thread(tokens.has_tokens, await platform.current_warehouse())


async def valid_tokens(platform: Platform, token_ids: Collection[str]) -> set[str]:
    """Those of these tokens, by their ids, that are valid now: one query for all.

    Raises: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    return await asyncio.to_thread(tokens.valid_tokens, warehouse, token_ids)


async def revoke_token(platform: Platform, name: str, *, author: Author | None = None) -> Token:
    """Revoke a token and its log-ins, with an audit row in the same transaction.

    Raises:
        NotFoundError: there is no such token, or it is revoked already.
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    by = author or local_author()

    def revoke() -> Token:
        with warehouse.connection() as connection:
            revoked = tokens.revoke_token(connection, name)
            record(connection, by, "token.revoke", name, details={"token_id": revoked.token_id})
        return revoked

    return await asyncio.to_thread(revoke)


async def authenticate(platform: Platform, text: str) -> Token:
    """The token whose text a request carries.

    Raises:
        InvalidTokenError: it is wrong, has expired or was revoked.
        ETLError: as `Platform.current_warehouse`.
    """
    return await asyncio.to_thread(tokens.authenticate, await platform.current_warehouse(), text)


async def log_in(platform: Platform, text: str, *, lifetime: timedelta = LOGIN_LIFETIME) -> Login:
    """Begin a browser's log-in with a token's text.

    Raises: as `authenticate`.
    """
    warehouse = await platform.current_warehouse()
    return await asyncio.to_thread(logins.log_in, warehouse, text, lifetime)


async def token_of_login(platform: Platform, value: str) -> Token:
    """The token that a browser's log-in stands for.

    Raises:
        InvalidTokenError: there is no such log-in, it has ended, or its token is not valid now.
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    return await asyncio.to_thread(logins.token_of_login, warehouse, value)


async def log_out(platform: Platform, value: str) -> bool:
    """End a log-in; return whether there was one. Raises: as `Platform.current_warehouse`."""
    return await asyncio.to_thread(logins.log_out, await platform.current_warehouse(), value)
