"""Access: who sends a request, by its bearer token, and what it may do.

While the warehouse has no token, whoever sends requests from this machine may do all; nobody else
anything. A browser sends no token by itself, but it does send requests to this machine for any page
that it shows: such requests are refused by where they come from.
"""

import hashlib
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_address
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from temporaletl.control.api.context import Context, InContext
from temporaletl.control.api.problems import (
    ForbiddenError,
    UnauthenticatedError,
    request_id_of,
)
from temporaletl.control.api.streams import LOCAL
from temporaletl.control.operations.tokens import authenticate, has_tokens, token_of_login
from temporaletl.settings.addresses import is_loopback
from temporaletl.warehouse.audit import Author
from temporaletl.warehouse.tokens import InvalidTokenError, Scope

#: The cookie of a browser's log-in.
COOKIE = "etl_session"
#: What the pages of Temporal's UI may ask for, and no other site's.
CODEC = "/api/v1/codec/"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_SAME_SITE = frozenset({"same-origin", "none"})
_PROXIED = frozenset({"forwarded", "via", "x-real-ip"})
_FORWARDED = "x-forwarded-"
_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="`etl token create NAME --scope read|decrypt|operate` prints one",
)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a request: the name for the audit, the token's id, and what it may do."""

    name: str
    token_id: str
    scope: Scope
    request_id: str

    def author(self, reason: str | None = None) -> Author:
        """The author of what the request does."""
        return Author(name=self.name, reason=reason, request_id=self.request_id)


def token_key(text: str) -> str:
    """The key under which a token is remembered, which is not its text."""
    return f"token {hashlib.sha256(text.encode()).hexdigest()}"


def login_key(value: str) -> str:
    """The same for a browser's log-in."""
    return f"login {hashlib.sha256(value.encode('utf-8', 'replace')).hexdigest()}"


def ui_origin(request: Request, context: Context) -> str | None:
    """The origin of Temporal's UI, where a page of it asks for what such a page may."""
    address = context.platform.settings.ui_address
    if address is None or not request.url.path.startswith(CODEC):
        return None
    parts = urlsplit(address)
    origin = f"{parts.scheme}://{parts.netloc}"
    return origin if request.headers.get("origin") == origin else None


async def _caller(
    request: Request,
    context: InContext,
    given: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)],
) -> Caller:
    from_ui = ui_origin(request, context) is not None
    if not from_ui:
        refuse_foreign(request)
    # The UI has no token of ours; a browser sends the log-in along, where the UI is told to.
    login = request.cookies.get(COOKIE, "") if from_ui else ""
    if given is not None:
        key = token_key(given.credentials)
        observe = partial(authenticate, context.platform, given.credentials)
    elif login:
        key, observe = login_key(login), partial(token_of_login, context.platform, login)
    else:
        return await caller_without_token(request, context)
    # Not longer: a token that is revoked must not be good for more than a moment.
    try:
        token = (await context.tokens.latest(key, observe)).value
    except InvalidTokenError as error:
        raise UnauthenticatedError(f"{error}; `etl token create` makes one") from None
    return Caller(f"token:{token.name}", token.token_id, token.scope, request_id_of(request))


async def caller_without_token(request: Request, context: Context) -> Caller:
    """Whoever is on this machine, while the warehouse has no token.

    Raises:
        UnauthenticatedError: there is one, or the request comes from elsewhere or by a proxy.
        ETLError: as `has_tokens`.
    """
    exists = await context.tokens.latest("any", partial(has_tokens, context.platform))
    if exists.value:
        raise UnauthenticatedError(
            "a token is needed: `Authorization: Bearer etl_…`; `etl token create` makes one"
        )
    if (header := proxy_header(request)) is not None:
        raise UnauthenticatedError(
            f"the request came through a proxy ({header}), which anybody may be behind: without a "
            "token only this machine is answered; `etl token create NAME --scope operate` makes one"
        )
    if not _is_local(request):
        raise UnauthenticatedError(
            "without a token, only this machine is answered: `etl token create` makes one"
        )
    return Caller(LOCAL, LOCAL, "operate", request_id_of(request))


def proxy_header(request: Request) -> str | None:
    """The header by which a proxy of this machine says that it asks for somebody else."""
    known = (name for name in request.headers if name in _PROXIED or name.startswith(_FORWARDED))
    return next(known, None)


def _is_local(request: Request) -> bool:
    """Whether the request comes from this machine, and was sent to it by its own name."""
    peer = request.client.host if request.client else ""
    try:
        near = ip_address(peer).is_loopback
    except ValueError:
        near = False
    # Whoever can make a name point here could send requests in a browser's name.
    host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
    return near and is_loopback(host)


def refuse_foreign(request: Request) -> None:
    """Refuse what a page of another site has a browser send.

    Raises:
        ForbiddenError: it is such a request.
    """
    if request.method in _SAFE:
        return
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        if site not in _SAME_SITE:
            raise ForbiddenError("requests of other sites' pages are not taken")
        return
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != request.headers.get("host", ""):
        raise ForbiddenError(f"requests of pages of {origin} are not taken")


InCaller = Annotated[Caller, Depends(_caller)]


async def _reader(caller: InCaller) -> Caller:
    return caller


async def _operator(caller: InCaller) -> Caller:
    if caller.scope != "operate":
        raise ForbiddenError(
            f"{caller.name} may read only: `etl token create NAME --scope operate` makes a token "
            "that may act"
        )
    return caller


async def _decrypter(caller: InCaller) -> Caller:
    if caller.scope not in ("decrypt", "operate"):
        raise ForbiddenError(
            f"{caller.name} may not decrypt payloads: `etl token create NAME --scope decrypt` "
            "makes a token that may"
        )
    return caller


#: May decrypt what is in Temporal.
Decrypter = Annotated[Caller, Depends(_decrypter)]
#: May read: whoever has a token that is valid.
Reader = Annotated[Caller, Depends(_reader)]
#: May act.
Operator = Annotated[Caller, Depends(_operator)]
