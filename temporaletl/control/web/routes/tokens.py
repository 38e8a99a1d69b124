"""`/tokens`: listed, created and revoked, by who may act."""

from datetime import timedelta
from typing import Annotated, Any

from fastapi import Path, Response
from markupsafe import Markup, escape

from temporaletl.control.operations.tokens import create_token, list_tokens, revoke_token
from temporaletl.control.web.visit import InVisit, Visit, pages
from temporaletl.errors import ConfigurationError
from temporaletl.warehouse.tokens import SCOPES

router = pages()

_MOST_DAYS = 36_500


@router.get("/tokens")
async def get_tokens(visit: InVisit) -> Response:
    """List the tokens; their texts are nowhere."""
    visit.operator()
    return await _page(visit)


@router.post("/tokens")
async def post_token(visit: InVisit) -> Response:
    """Create a token; its text is on this page, and nowhere else."""
    caller, form = visit.operator(), await visit.form()
    named, days = form.text("scope"), form.text("days")
    scope = next((known for known in SCOPES if known == named), None)
    if scope is None:
        raise ConfigurationError(f"scope: must be one of {', '.join(SCOPES)}")
    if days and not (days.isdigit() and 1 <= int(days) <= _MOST_DAYS):
        raise ConfigurationError(f"days: must be a number from 1 to {_MOST_DAYS:,}, or empty")
    made = await create_token(
        visit.context.platform,
        form.text("name"),
        scope,
        expires_in=timedelta(days=int(days)) if days else None,
        author=caller.author(),
    )
    visit.context.tokens.forget()
    # Not through the filter that takes secrets out: here it is what is asked for.
    text = Markup(escape(made.text.get_secret_value()))  # noqa: S704
    return await _page(visit, made=made.token, text=text)


@router.post("/tokens/{name}/revoke")
async def post_revoke(visit: InVisit, name: Annotated[str, Path(max_length=100)]) -> Response:
    """Revoke a token and its log-ins."""
    caller = visit.operator()
    await revoke_token(visit.context.platform, name, author=caller.author())
    visit.context.tokens.forget()
    return visit.done("/tokens", f"revoked {name}: nothing is answered to it any more")


async def _page(visit: Visit, **more: Any) -> Response:
    found = await list_tokens(visit.context.platform)
    values: dict[str, Any] = {"tokens": found, "made": None, "text": None}
    return visit.page("tokens.html", **(values | more))
