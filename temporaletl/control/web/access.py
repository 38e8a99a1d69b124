"""Access to the dashboard: log-ins of browsers, kept in a cookie, and where they lead back to."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from urllib.parse import quote, urlsplit

from fastapi import Request, Response

from temporaletl.control.api.access import (
    COOKIE,
    Caller,
    caller_without_token,
    login_key,
    proxy_header,
    refuse_foreign,
)
from temporaletl.control.api.context import Context
from temporaletl.control.api.problems import UnauthenticatedError, request_id_of
from temporaletl.control.operations.tokens import token_of_login
from temporaletl.control.web.sights import PATIENCE, SHORT_PATIENCE
from temporaletl.errors import ETLError, RetryableError
from temporaletl.settings.addresses import is_loopback
from temporaletl.warehouse.logins import Login
from temporaletl.warehouse.tokens import InvalidTokenError

LOG_IN = "/log-in"
#: While the warehouse does not answer, whoever was known so shortly before may go on reading.
_REMEMBERED = timedelta(minutes=15)
_MOST_REMEMBERED = 1_000
_LONGEST_NEXT = 2_000


class LogInNeededError(ETLError):
    """A page that is asked for without a log-in that holds."""


class Visitors:
    """Who asks for pages: found by cookie, and remembered for an outage of the warehouse."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Caller, datetime]] = {}
        self._patience = PATIENCE

    async def find(self, request: Request, context: Context) -> Caller:
        """Who sends a request.

        Raises:
            ForbiddenError: a page of another site has a browser send it.
            LogInNeededError: nobody who is known.
            ETLError, TimeoutError: the warehouse does not say.
        """
        refuse_foreign(request)
        value = request.cookies.get(COOKIE, "")
        # Without a cookie, everybody else on this machine is the same; nobody elsewhere is.
        where = (proxy_header(request), request.client and request.client.host, _host(request))
        key = login_key(value) if value else str(where)
        try:
            async with asyncio.timeout(self._patience.total_seconds()):
                caller = await self._look(request, context, value)
        except (InvalidTokenError, UnauthenticatedError):
            self._known.pop(key, None)
            raise LogInNeededError("log in") from None
        except (RetryableError, TimeoutError):
            self._patience = SHORT_PATIENCE
            known = self._known.get(key)
            if known is None or datetime.now(UTC) - known[1] > _REMEMBERED:
                raise
            return replace(known[0], scope="read", request_id=request_id_of(request))
        self._patience = PATIENCE
        if len(self._known) >= _MOST_REMEMBERED:
            self._known.clear()
        self._known[key] = caller, datetime.now(UTC)
        return caller

    async def _look(self, request: Request, context: Context, value: str) -> Caller:
        if not value:
            return await caller_without_token(request, context)
        observe = partial(token_of_login, context.platform, value)
        try:
            token = (await context.tokens.latest(login_key(value), observe)).value
        except InvalidTokenError:
            return await caller_without_token(request, context)
        return Caller(f"token:{token.name}", token.token_id, token.scope, request_id_of(request))


def keep(response: Response, request: Request, login: Login) -> None:
    """Give a browser its log-in. Over a network it sends it back over HTTPS alone."""
    left = login.expires_at - datetime.now(UTC)
    response.set_cookie(
        COOKIE,
        login.value.get_secret_value(),
        max_age=max(1, int(left.total_seconds())),
        httponly=True,
        samesite="strict",
        secure=not is_loopback(_host(request)),
    )


def drop(response: Response, request: Request) -> None:
    """Take a browser's log-in from it."""
    response.delete_cookie(
        COOKIE, httponly=True, samesite="strict", secure=not is_loopback(_host(request))
    )


def sends_cookies_in_clear(request: Request) -> bool:
    """Whether a browser could not keep a log-in here: over a network, and without HTTPS."""
    return request.url.scheme != "https" and not is_loopback(_host(request))


def safe_next(text: str | None) -> str:
    """A path of this dashboard to go on to; its first page for anything else."""
    if text is None or len(text) > _LONGEST_NEXT or not text.startswith("/"):
        return "/"
    # Browsers take backslashes for slashes, and leave out control characters.
    if text.startswith("//") or "\\" in text or not text.isprintable():
        return "/"
    parts = urlsplit(text)
    return "/" if parts.scheme or parts.netloc or parts.path == LOG_IN else text


def log_in_path(request: Request) -> str:
    """The log-in page that leads back to where the browser is."""
    if "hx-request" in request.headers or request.method != "GET":
        shown = urlsplit(
            request.headers.get("hx-current-url") or request.headers.get("referer", "")
        )
        here = shown.path + (f"?{shown.query}" if shown.query else "")
    else:
        here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    found = safe_next(here)
    return LOG_IN if found == "/" else f"{LOG_IN}?next={quote(found, safe='')}"


def _host(request: Request) -> str:
    return urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
