"""One visit of a browser: who asks, for a page or the part of it that moves; and its errors."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from temporaletl.control.api.access import COOKIE, Caller
from temporaletl.control.api.context import Context, InContext
from temporaletl.control.api.problems import ForbiddenError, request_id_of, status_of
from temporaletl.control.operations.history import RunFilter, list_runs
from temporaletl.control.operations.observation import Observations
from temporaletl.control.operations.reports import RunReport
from temporaletl.control.operations.status import Runs
from temporaletl.control.web.access import LogInNeededError, Visitors, log_in_path
from temporaletl.control.web.rendering import HEADERS, render
from temporaletl.control.web.sights import Outages, Sight, Sights
from temporaletl.errors import ConfigurationError, ETLError
from temporaletl.telemetry.logs import get_logger, unexpected
from temporaletl.validation import without_prefix

log = get_logger("temporaletl.web")

_FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 200
_RECENT_RUNS = 100
#: For a page to be put together.
_MOST_SECONDS = 10
#: A message that is shown once, on the page that follows what was done.
_NOTICE = "etl_notice"
_FIGURES_FRESH = timedelta(minutes=1)
_FIGURES_STALE = timedelta(minutes=15)
_LONGEST_NOTICE = 500
#: Seconds after which a page is renewed while a run goes on, and while none does.
_LIVELY, _CALM = 2, 5


class Dashboard:
    """The parts of the dashboard that live as long as the application does."""

    def __init__(self, context: Context) -> None:
        self.sights = Sights(context.observations)
        #: Of what is read anew for each page.
        self.readings = Sights(Observations(fresh=timedelta(0), stale=timedelta(0)))
        self.visitors = Visitors()
        self.outages = Outages()
        #: Charts read much, and change slowly.
        self.figures = Observations(fresh=_FIGURES_FRESH, stale=_FIGURES_STALE)


class Form:
    """The fields of a form, as a browser sends them."""

    def __init__(self, fields: list[tuple[str, str]]) -> None:
        self._fields = fields

    def __iter__(self) -> Any:
        return iter(self._fields)

    def text(self, name: str) -> str:
        """A field without the blanks around it; empty where there is none."""
        return next((value for key, value in self._fields if key == name), "").strip()

    def texts(self, name: str) -> list[str]:
        """All values of a field that are not empty."""
        return [value.strip() for key, value in self._fields if key == name and value.strip()]

    def is_checked(self, name: str) -> bool:
        return bool(self.text(name))


@dataclass(frozen=True, slots=True)
class Visit:
    """A request for a page, of somebody who may read it."""

    request: Request
    context: Context
    dashboard: Dashboard
    caller: Caller

    @property
    def may_act(self) -> bool:
        return self.caller.scope == "operate"

    @property
    def of_part(self) -> bool:
        """Whether the part of the page that moves is asked for, by a page that is there."""
        return "hx-request" in self.request.headers

    async def recent_runs(self) -> Sight[Runs]:
        """The runs that go on and the latest that ended, as they were seen last.

        Raises:
            ETLError, TimeoutError: as `Sights.see`.
        """
        platform, live = self.context.platform, self.context.live

        async def observe() -> Runs:
            observed = (await live.open_runs()).value
            found = await list_runs(platform, observed, RunFilter(), limit=_RECENT_RUNS)
            return Runs(found, observed.remarks)

        return await self.dashboard.sights.see("recent runs", observe)

    async def open_runs(self) -> Sight[Runs]:
        """The runs that go on, as they were seen last; raises as `recent_runs`."""
        return await self.dashboard.sights.of("open runs", self.context.live.open_runs)

    async def read[T](self, key: str, observe: Callable[[], Awaitable[T]]) -> Sight[T]:
        """Read something anew: where it cannot be read, it is as it was read last.

        Raises:
            ETLError, TimeoutError: as `Sights.see`.
        """
        return await self.dashboard.readings.see(key, observe)

    def operator(self) -> Caller:
        """Who acts.

        Raises:
            ForbiddenError: it may read only.
        """
        if not self.may_act:
            raise ForbiddenError(
                f"{self.caller.name} may read only: log in with a token that may act "
                "(`etl token create NAME --scope operate`)"
            )
        return self.caller

    async def form(self) -> Form:
        """The fields of the form that is sent; raises as `form_of`."""
        return await self.form_of(self.request)

    @staticmethod
    async def form_of(request: Request) -> Form:
        """The fields of a form that is sent.

        Raises:
            ConfigurationError: it is none.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        body = await request.body()
        if body and kind != _FORM:
            raise ConfigurationError(f"a form is sent as {_FORM}")
        try:
            fields = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS)
        except ValueError as error:
            raise ConfigurationError(f"the form cannot be read: {error}") from None
        return Form(fields)

    def page(self, template: str, *, status: int = 200, **values: Any) -> Response:
        """Answer with a page; with its part that moves, where that is asked for."""
        block = "live" if self.of_part and status == HTTPStatus.OK else None
        return render(template, self._values(values), status=status, block=block)

    def done(self, path: str, notice: str) -> Response:
        """After something was done: a message where the page is there, else back to the page."""
        if self.of_part:
            answer = render("notice.html", self._values({"notice": notice, "failed": False}))
            answer.headers["HX-Trigger"] = "changed"
            return answer
        answer = RedirectResponse(path, status_code=HTTPStatus.SEE_OTHER)
        answer.set_cookie(
            _NOTICE, _cookie_text(notice), max_age=60, httponly=True, samesite="strict"
        )
        return answer

    def _values(self, values: dict[str, Any]) -> dict[str, Any]:
        return {
            "path": self.request.url.path,
            "query": dict(self.request.query_params),
            "caller": self.caller,
            "may_act": self.may_act,
            "logged_in": COOKIE in self.request.cookies,
            "every": 0,
            "said": _text_of(self.request.cookies.get(_NOTICE)),
            **values,
        }


def renewal(runs: Iterable[RunReport]) -> int:
    """After how many seconds a page that shows these runs is renewed: sooner while one goes on."""
    return _LIVELY if any(run.ended_at is None for run in runs) else _CALM


def _cookie_text(text: str) -> str:
    return text[:_LONGEST_NOTICE].encode().hex()


def _text_of(cookie: str | None) -> str | None:
    try:
        return None if cookie is None else bytes.fromhex(cookie).decode()
    except ValueError:
        return None


async def _visit(request: Request, context: InContext) -> Visit:
    dashboard: Dashboard = request.app.state.dashboard
    caller = await dashboard.visitors.find(request, context)
    request.state.visitor = caller
    return Visit(request, context, dashboard, caller)


#: The visit of somebody who may read.
InVisit = Annotated[Visit, Depends(_visit)]


class PageRoute(APIRoute):
    """A route whose answers are pages, its errors too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                # What is done is waited for; what is read is asked for again.
                async with asyncio.timeout(_MOST_SECONDS if request.method == "GET" else None):
                    response = await handle(request)
            except LogInNeededError:
                response = _to_log_in(request)
            except (ETLError, RequestValidationError, HTTPException, TimeoutError) as error:
                response = error_page(request, *_known(error))
            except Exception as error:  # noqa: BLE001 - a page is answered in any case
                request_id = request_id_of(request)
                log.warning("page_failed", request_id=request_id, error=unexpected(error))
                detail = "an error in the platform itself; the log has it under that request id"
                response = error_page(request, HTTPStatus.INTERNAL_SERVER_ERROR, detail)
            for name, value in HEADERS.items():
                response.headers.setdefault(name, value)
            if (
                _NOTICE in request.cookies
                and "hx-request" not in request.headers
                and "set-cookie" not in response.headers
            ):
                response.delete_cookie(_NOTICE, httponly=True, samesite="strict")
            return response

        return answer


def pages() -> APIRouter:
    """A router of pages, which the API's document does not list."""
    return APIRouter(include_in_schema=False, route_class=PageRoute)


def _to_log_in(request: Request) -> Response:
    path = log_in_path(request)
    if "hx-request" in request.headers:
        return Response(status_code=HTTPStatus.UNAUTHORIZED, headers={"HX-Redirect": path})
    return RedirectResponse(path, status_code=HTTPStatus.SEE_OTHER)


def _known(error: Exception) -> tuple[HTTPStatus, str]:
    if isinstance(error, ETLError):
        return status_of(error)[0], str(error)
    if isinstance(error, RequestValidationError):
        faults = [
            f"{'.'.join(map(str, fault['loc'][1:]))}: {without_prefix(str(fault['msg']))}"
            for fault in error.errors()
        ]
        return HTTPStatus.UNPROCESSABLE_ENTITY, "; ".join(faults)
    if isinstance(error, HTTPException):
        return HTTPStatus(error.status_code), str(error.detail)
    return (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "the platform did not answer in time, and was not seen before: try again shortly",
    )


def error_page(request: Request, status: HTTPStatus, detail: str) -> Response:
    """Answer with a page that says what happened; to a page that is there, with a message."""
    visitor: Caller | None = getattr(request.state, "visitor", None)
    known = {
        "caller": visitor,
        "may_act": visitor is not None and visitor.scope == "operate",
        "logged_in": COOKIE in request.cookies,
    }
    values = {
        **(known if visitor else {}),
        "path": request.url.path,
        "status": status,
        "detail": detail,
        "request_id": request_id_of(request),
        "notice": detail,
        "failed": True,
    }
    template = "notice.html" if "hx-request" in request.headers else "error.html"
    return render(template, values, status=status)
