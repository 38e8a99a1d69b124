"""The application: routes, errors, limits, and its OpenAPI document."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache, partial

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import RedirectResponse
from fastapi.routing import APIRoute

from temporaletl.control.api import problems
from temporaletl.control.api.context import Context
from temporaletl.control.api.document import describe
from temporaletl.control.api.guard import Guard
from temporaletl.control.api.routes import (
    audit,
    backfills,
    codec,
    collections,
    docs,
    events,
    executions,
    freshness,
    health,
    identities,
    notifications,
    pipelines,
    rejects,
    runs,
    schedules,
    source_connections,
    sources,
    state,
    sync,
    tokens,
    workflows,
)
from temporaletl.control.api.settings import ApiSettings
from temporaletl.control.operations.health import check_warehouse
from temporaletl.control.operations.late_watch import keep_notifying
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.warehouse_metrics import WarehouseMetrics
from temporaletl.engine.process import EngineProcess
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.telemetry import metrics
from temporaletl.telemetry.exporting import observed_process
from temporaletl.warehouse.ownership import waits_for_owner

API = "/api/v1"
_NOUNS = (
    *(runs, events, sync, workflows, schedules, state, freshness, rejects, identities, sources),
    *(source_connections, collections, backfills, notifications, audit, tokens),
    *(executions, pipelines, codec),
)


#: Installs another front, as the dashboard, beside the API.
type Front = Callable[[FastAPI], None]


def create_app(
    platform: Platform,
    settings: ApiSettings | None = None,
    notification: NotificationSettings | None = None,
    *,
    fronts: Sequence[Front] = (),
) -> FastAPI:
    """Create the application over a platform, which it closes when it ends.

    While it runs, it keeps the late watch and sends notifications, as its settings say, and keeps
    a local engine, in a process of its own, while there is something for it to do.
    """
    notification = notification or NotificationSettings.load()
    engine = platform.engine = EngineProcess(partial(_waits_for_engine, platform))

    settings = settings or ApiSettings.load()
    every = timedelta(seconds=settings.warehouse_metrics_seconds)
    measured = WarehouseMetrics(platform, every)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        observed = observed_process("api", partial(_fault, platform), measured.refresh)
        with metrics.registry.read_by(platform.measure):
            async with platform, observed, engine:
                notifying = asyncio.create_task(keep_notifying(platform, notification))
                try:
                    yield
                finally:
                    notifying.cancel()
                    await asyncio.gather(notifying, return_exceptions=True)

    app = FastAPI(
        title="TemporalETL",
        summary="Runs, schedules, state and rejects of a TemporalETL platform.",
        version="1",
        license_info={"name": "MPL-2.0", "identifier": "MPL-2.0"},
        lifespan=lifespan,
        openapi_url=f"{API}/openapi.json",
        docs_url=None,
        redoc_url=None,
        # One path for each thing: no second one with a slash at its end.
        redirect_slashes=False,
    )
    context = app.state.context = Context(platform, settings, notification)
    app.add_middleware(Guard, settings=settings, context=context)
    problems.install(app)
    api = APIRouter(prefix=API)
    for noun in _NOUNS:
        api.include_router(noun.router)
    app.include_router(api)
    app.include_router(health.router)
    app.include_router(docs.router)
    app.state.methods_of = _methods_of
    modules = {str(noun.router.tags[0]): noun for noun in (*_NOUNS, health)}
    app.openapi = cache(partial(describe, app, modules))  # type: ignore[method-assign]
    app.add_api_route(
        "/api/temporal/{rest:path}",
        _moved,
        methods=["GET", "POST", "PUT", "DELETE"],
        include_in_schema=False,
    )
    for install in fronts:
        install(app)
    return app


def _methods_of(path: str) -> set[str]:
    """The methods that a path takes: of several routes, each knows its own alone."""
    routes = [(API, noun.router) for noun in _NOUNS] + [("", health.router), ("", docs.router)]
    return {
        method
        for prefix, router in routes
        for route in router.routes
        if isinstance(route, APIRoute)
        and path.startswith(prefix)
        and route.path_regex.match(path.removeprefix(prefix))
        for method in route.methods or ()
    }


async def _fault(platform: Platform) -> str | None:
    found = await check_warehouse(platform)
    return None if found.verdict == "ok" else f"the warehouse {found.detail}"


async def _waits_for_engine(platform: Platform) -> bool:
    warehouse = await platform.current_warehouse()
    return await asyncio.to_thread(waits_for_owner, warehouse) is not None


async def _moved(request: Request, rest: str) -> RedirectResponse:
    query = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"{API}/temporal/{rest}{query}", status_code=308)
