"""Tokens and the audit, over the API."""

from datetime import timedelta

from pydantic import BaseModel, SecretStr

from temporaletl.control.client.api import Api
from temporaletl.control.client.operations import over_api
from temporaletl.control.operations.audit import list_audit
from temporaletl.control.operations.tokens import create_token, list_tokens, revoke_token
from temporaletl.secrets import remember_secret
from temporaletl.warehouse.audit import AuditEntry, AuditPage, AuditPosition, Author
from temporaletl.warehouse.tokens import NewToken, Scope, Token


class _Tokens(BaseModel):
    items: list[Token]


class _CreatedToken(BaseModel):
    token: Token
    text: SecretStr


@over_api(create_token)
async def _create_token(
    api: Api,
    name: str,
    scope: Scope,
    *,
    expires_in: timedelta | None = None,
    author: Author | None = None,
) -> NewToken:
    del author  # the API knows who sends the request
    wanted = {
        "name": name,
        "scope": scope,
        "expires_in_days": None if expires_in is None else expires_in / timedelta(days=1),
    }
    made = await api.send("POST", _CreatedToken, "tokens", json=wanted)
    remember_secret(made.text.get_secret_value())
    return NewToken(made.token, made.text)


@over_api(list_tokens)
async def _list_tokens(api: Api) -> list[Token]:
    return (await api.get(_Tokens, "tokens")).items


@over_api(revoke_token)
async def _revoke_token(api: Api, name: str, *, author: Author | None = None) -> Token:
    del author
    return await api.send("DELETE", Token, "tokens", name)


@over_api(list_audit)
async def _list_audit(api: Api, *, limit: int, before: AuditPosition | None = None) -> AuditPage:
    del before  # nobody pages over the API but `pages`
    entries, page = await api.pages(AuditEntry, "audit", limit=limit)
    last = entries[-1] if entries else None
    following = None if last is None or page["next"] is None else last
    return AuditPage(
        entries, None if following is None else AuditPosition(following.at, following.audit_id)
    )
