"""`/log-in`, `/log-out`: a token becomes a cookie, for twelve hours."""

from functools import partial
from http import HTTPStatus

from fastapi import Request, Response
from starlette.responses import RedirectResponse

from temporaletl.control.api.access import COOKIE, Caller, refuse_foreign
from temporaletl.control.api.context import InContext
from temporaletl.control.api.problems import request_id_of
from temporaletl.control.operations.audit import record_outcome
from temporaletl.control.operations.tokens import has_tokens, log_in, log_out
from temporaletl.control.web.access import (
    LOG_IN,
    drop,
    keep,
    safe_next,
    sends_cookies_in_clear,
)
from temporaletl.control.web.rendering import render
from temporaletl.control.web.visit import Visit, pages
from temporaletl.warehouse.tokens import InvalidTokenError

router = pages()


@router.get(LOG_IN)
async def get_log_in(request: Request, context: InContext) -> Response:
    """Ask for a token."""
    exists = await context.tokens.latest("any", partial(has_tokens, context.platform))
    return _page(request, request.query_params.get("next"), has_tokens=exists.value)


@router.post(LOG_IN)
async def post_log_in(request: Request, context: InContext) -> Response:
    """Take a token; lead back to the page that was wanted."""
    refuse_foreign(request)
    form = await Visit.form_of(request)
    wanted = form.text("next")
    try:
        login = await log_in(context.platform, form.text("token"))
    except InvalidTokenError as error:
        return _page(request, wanted, fault=f"{error}.", status=HTTPStatus.UNAUTHORIZED)
    token = login.token
    caller = Caller(f"token:{token.name}", token.token_id, token.scope, request_id_of(request))
    await record_outcome(context.platform, caller.author(), "log-in", token.name, "done")
    response = RedirectResponse(safe_next(wanted), status_code=HTTPStatus.SEE_OTHER)
    keep(response, request, login)
    return response


@router.post("/log-out")
async def post_log_out(request: Request, context: InContext) -> Response:
    """End the log-in, here and in the warehouse. Safe to repeat."""
    refuse_foreign(request)
    if value := request.cookies.get(COOKIE):
        await log_out(context.platform, value)
        context.tokens.forget()
    response = RedirectResponse(LOG_IN, status_code=HTTPStatus.SEE_OTHER)
    drop(response, request)
    return response


def _page(
    request: Request,
    wanted: str | None,
    *,
    fault: str | None = None,
    has_tokens: bool = True,
    status: int = HTTPStatus.OK,
) -> Response:
    values = {
        "path": LOG_IN,
        "wanted": safe_next(wanted),
        "fault": fault,
        "has_tokens": has_tokens,
        "in_clear": sends_cookies_in_clear(request),
    }
    return render("log_in.html", values, status=status)
