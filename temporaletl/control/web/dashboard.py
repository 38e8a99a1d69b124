"""The dashboard installed into the application that serves the API."""

import contextlib
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from starlette.exceptions import HTTPException

from temporaletl.control.operations.sources import known_planners
from temporaletl.control.web.rendering import HEADERS
from temporaletl.control.web.routes import (
    audit,
    collections,
    connections,
    declarations,
    login,
    notifications,
    overview,
    people,
    pipelines,
    rejects,
    repairs,
    runs,
    schedules,
    static,
    tokens,
)
from temporaletl.control.web.visit import Dashboard, error_page
from temporaletl.errors import ETLError

_PAGES = (
    overview,
    # Before pages whose paths would take theirs.
    repairs,
    runs,
    declarations,
    connections,
    collections,
    rejects,
    schedules,
    pipelines,
    people,
    notifications,
    audit,
    tokens,
    login,
    static,
)


def install(app: FastAPI) -> None:
    """Add the dashboard's pages; a path that nothing has is answered to a browser with a page."""
    # Now, and not while the first page is waited for; a page says what is wrong with one of them.
    with contextlib.suppress(ETLError):
        known_planners()
    app.state.dashboard = Dashboard(app.state.context)
    for noun in _PAGES:
        app.include_router(noun.router)
    answer_problem: Any = app.exception_handlers[HTTPException]

    async def answer(request: Request, error: Exception) -> Response:
        missing = isinstance(error, HTTPException) and error.status_code == HTTPStatus.NOT_FOUND
        of_browser = "text/html" in request.headers.get("accept", "")
        if not missing or not of_browser or request.url.path.startswith(("/api/", "/health")):
            answered: Response = await answer_problem(request, error)
            return answered
        response = error_page(request, HTTPStatus.NOT_FOUND, f"there is no page {request.url.path}")
        response.headers.update(HEADERS)
        return response

    app.add_exception_handler(HTTPException, answer)
