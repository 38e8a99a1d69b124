"""`/tokens`: bearer tokens listed, created and revoked."""

from datetime import timedelta
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, ConfigDict, Field

from temporaletl.control.api.access import Operator
from temporaletl.control.api.context import InContext
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.operations.tokens import create_token, list_tokens, revoke_token
from temporaletl.warehouse.tokens import Scope, Token

router = APIRouter(prefix="/tokens", tags=["tokens"], responses=RESPONSES)


class TokenRequest(BaseModel):
    """The token that is wanted."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"name": "ci", "scope": "read", "expires_in_days": 90}]},
    )

    name: str = Field(max_length=100)
    scope: Scope
    expires_in_days: float | None = Field(None, gt=0, le=36_500)


class CreatedToken(BaseModel):
    """A token and its text, which is shown this once."""

    token: Token
    text: str = Field(examples=["etl_0123456789ab_…"])


class Tokens(BaseModel):
    """All tokens, expired and revoked ones too, the latest first."""

    items: list[Token]


@router.get("", summary="List tokens", operation_id="list_tokens")
async def get_tokens(context: InContext, _: Operator) -> Tokens:
    """List the tokens; their texts are nowhere."""
    return Tokens(items=await list_tokens(context.platform))


@router.post(
    "", summary="Create a token", operation_id="create_token", status_code=HTTPStatus.CREATED
)
async def post_token(context: InContext, caller: Operator, wanted: TokenRequest) -> CreatedToken:
    """Create a token; its text is in this answer, and nowhere else."""
    days = wanted.expires_in_days
    made = await create_token(
        context.platform,
        wanted.name,
        wanted.scope,
        expires_in=None if days is None else timedelta(days=days),
        author=caller.author(),
    )
    context.tokens.forget()
    return CreatedToken(token=made.token, text=made.text.get_secret_value())


@router.delete("/{name}", summary="Revoke a token", operation_id="revoke_token")
async def delete_token(
    context: InContext, caller: Operator, name: Annotated[str, Path(max_length=100)]
) -> Token:
    """Revoke a token and its log-ins."""
    revoked = await revoke_token(context.platform, name, author=caller.author())
    context.tokens.forget()
    return revoked
