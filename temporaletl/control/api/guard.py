"""Guard: the middleware through which every request and answer passes.

It gives each request an id, lets pages of Temporal's UI ask for payloads, refuses what is too many,
too large, too slow, no JSON or nested too deep, and answers what nobody expected with a problem.
"""

import re
from datetime import timedelta
from http import HTTPStatus
from time import perf_counter

from fastapi import Request, Response
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from temporaletl.control.api.access import CODEC, token_key, ui_origin
from temporaletl.control.api.bodies import (
    DisconnectedError,
    Refusal,
    check_json,
    read_body,
    received,
)
from temporaletl.control.api.context import Context
from temporaletl.control.api.limiter import RateLimiter
from temporaletl.control.api.problems import answer_unexpected, problem, request_id_of
from temporaletl.control.api.settings import ApiSettings
from temporaletl.telemetry import metrics
from temporaletl.telemetry.tracing import span

#: What says whether the process lives must be answered to whoever asks.
_FREE = ("/health/live",)
#: Counted when their signature holds, by pipeline: whoever sends others takes nothing from them,
#: though they come by one proxy.
_COUNTED_LATER = re.compile(r"/api/v1/pipelines/[^/]+/webhook")
_JSON_UNDER = "/api/"
_VERSIONED = "/api/v1"
#: Of a request that has payloads, which the server takes up to this size together.
_PAYLOAD_BYTES = 8 << 20
#: What Temporal's UI sends along.
_UI_HEADERS = "authorization, content-type, x-namespace"
_BODILESS = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS = _BODILESS | {"POST", "PUT", "PATCH", "DELETE"}


class Guard:
    """Middleware of limits and headers. A caller is a token that is known, or else an address.

    Counts are this process's own.
    """

    def __init__(self, app: ASGIApp, settings: ApiSettings, context: Context) -> None:
        self._app = app
        self._context = context
        self._most_bytes = settings.request_kilobytes * 1024
        self._within = timedelta(seconds=settings.request_seconds)
        self._limiter = RateLimiter(settings.requests_per_minute)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        request_id = request_id_of(request)
        origin = ui_origin(request, self._context)
        started, began, status = False, perf_counter(), 0

        async def send_marked(message: Message) -> None:
            nonlocal started, status
            if message["type"] == "http.response.start":
                started, status = True, message["status"]
                headers = MutableHeaders(raw=message.setdefault("headers", []))
                headers["X-Request-Id"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
                if origin is not None:
                    headers["Access-Control-Allow-Origin"] = origin
                    headers["Access-Control-Allow-Credentials"] = "true"
                    headers["Access-Control-Allow-Headers"] = _UI_HEADERS
                    headers["Access-Control-Allow-Methods"] = "POST"
                    headers["Vary"] = "Origin"
            await send(message)

        try:
            if origin is not None and request.method == "OPTIONS":
                await Response(status_code=HTTPStatus.NO_CONTENT)(scope, receive, send_marked)
                return
            with span("request", method=request.method, path=scope["path"]):
                await self._answer(request, receive, send_marked)
        except DisconnectedError:
            return
        except Exception as error:
            if started:
                # Half an answer cannot be made good; the server breaks it off.
                raise
            await (await answer_unexpected(request, error))(scope, receive, send_marked)
        finally:
            _measure(request, status, perf_counter() - began)

    async def _answer(self, request: Request, receive: Receive, send: Send) -> None:
        scope = request.scope
        path = scope["path"]
        if path not in _FREE and not _COUNTED_LATER.fullmatch(path):
            delay = self._limiter.delay(self._caller(request))
            if delay > 0:
                refusal = Refusal(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    "too-many-requests",
                    f"more than {self._limiter.per_minute:,} requests in a minute: send fewer",
                )
                headers = {"Retry-After": str(max(1, round(delay)))}
                await _refuse(request, refusal, headers, receive, send)
                return
        if "\0" in path or b"%00" in scope["query_string"]:
            nul = Refusal(
                HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", "the address has U+0000: leave it out"
            )
            await _refuse(request, nul, {}, receive, send)
            return
        sent = request.headers
        body: bytes | Refusal = b""
        if "transfer-encoding" in sent and "content-length" in sent:
            # A proxy that goes by the other one would take what follows for its next request.
            body = Refusal(
                HTTPStatus.BAD_REQUEST,
                "no-http",
                "the request has Transfer-Encoding and Content-Length: where does it end?",
            )
        elif scope["method"] not in _BODILESS:
            most = _PAYLOAD_BYTES if path.startswith(CODEC) else self._most_bytes
            body = await read_body(sent, receive, most_bytes=most, within=self._within)
        if isinstance(body, Refusal):
            # What is left of it is not read.
            await _refuse(request, body, {"Connection": "close"}, receive, send)
            return
        unfit = check_json(request.headers, body) if path.startswith(_JSON_UNDER) else None
        if unfit is not None:
            await _refuse(request, unfit, {}, receive, send)
            return
        await self._app(scope, received(body, receive), send)

    def _caller(self, request: Request) -> str:
        """Who sends a request; whoever makes tokens up is known by the address."""
        kind, _, text = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._context.tokens.knows(key := token_key(text.strip())):
            return key
        return request.client.host if request.client else "unknown"


def _measure(request: Request, status: int, seconds: float) -> None:
    """Count a request by its route, of which there are as many as the application has."""
    route = getattr(request.scope.get("route"), "path", "none")
    if request.url.path.startswith(_VERSIONED) and not route.startswith(_JSON_UNDER):
        route = f"{_VERSIONED}{route}"  # the API's routes do not have it
    method = request.method if request.method in _METHODS else "other"
    # Whoever went away before the answer got none.
    metrics.api_requests.add(1, method=method, route=route, status=str(status or "none"))
    metrics.api_request_duration.observe(seconds, route=route)


async def _refuse(
    request: Request, refusal: Refusal, headers: dict[str, str], receive: Receive, send: Send
) -> None:
    answer = problem(request, refusal.status, refusal.code, refusal.detail, headers=headers)
    await answer(request.scope, receive, send)
