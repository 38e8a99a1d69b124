"""Limits of requests: how large one may be, and how many a caller may send in a minute."""

import hashlib
from http import HTTPStatus

from fastapi import Request
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from temporaletl.control.api.problems import problem
from temporaletl.control.api.settings import ApiSettings

#: What says whether the process lives must be answered to whoever asks.
_FREE = ("/health/live",)
_WITHIN_SECONDS = 60


class Guard:
    """Middleware that refuses requests that are too large (413), or too many (429).

    A caller is a token, or an address where there is none. Counts are this process's own.
    """

    def __init__(self, app: ASGIApp, settings: ApiSettings) -> None:
        self._app = app
        self._most_bytes = settings.request_kilobytes * 1024
        self._rate = RateLimitItemPerMinute(settings.requests_per_minute)
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        if request.url.path not in _FREE and not self._limiter.hit(self._rate, _caller(request)):
            answer = problem(
                request,
                HTTPStatus.TOO_MANY_REQUESTS,
                "too-many-requests",
                f"more than {self._rate.amount:,} requests in a minute: send fewer",
                headers={"Retry-After": str(_WITHIN_SECONDS)},
            )
            await answer(scope, receive, send)
            return
        body = await self._body(request, receive)
        if body is None:
            answer = problem(
                request,
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                "too-large",
                f"the body has more than {self._most_bytes:,} bytes",
                headers={"Connection": "close"},
            )
            await answer(scope, receive, send)
            return
        await self._app(scope, _received(body, receive), send)

    async def _body(self, request: Request, receive: Receive) -> bytes | None:
        """The body, None where it is too large; no more than that is read of it."""
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) > self._most_bytes:
            return None
        if request.method in {"GET", "HEAD"}:
            return b""
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                break
            body += message.get("body", b"")
            more = message.get("more_body", False)
            if len(body) > self._most_bytes:
                return None
        return body


def _received(body: bytes, receive: Receive) -> Receive:
    """A channel that gives the body that was read, and then what still comes."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


def _caller(request: Request) -> str:
    credentials = request.headers.get("authorization") or request.cookies.get("etl_session")
    if credentials:
        return hashlib.sha256(credentials.encode()).hexdigest()
    return request.client.host if request.client else "unknown"
