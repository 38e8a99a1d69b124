"""`/health`: is this process alive, can it serve, and which part of the platform is wrong."""

from functools import partial
from http import HTTPStatus

from fastapi import APIRouter, Response
from pydantic import AwareDatetime, BaseModel

from temporaletl.control.api.context import InContext
from temporaletl.control.operations.health import (
    Health,
    Part,
    check_health,
    check_temporal,
    check_warehouse,
    with_processes,
)

router = APIRouter(prefix="/health", tags=["health"])


class Alive(BaseModel):
    """The process answers."""

    status: str = "alive"


class HealthReport(Health):
    """Health of all parts, as it was at `as_of`."""

    as_of: AwareDatetime


@router.get("/live", summary="Is the process alive", operation_id="get_liveness")
async def get_live() -> Alive:
    """Answer; nothing else is looked at."""
    return Alive()


@router.get(
    "/ready",
    summary="Can the process serve",
    operation_id="get_readiness",
    responses={503: {"model": Part, "description": "the warehouse does not answer"}},
)
async def get_ready(context: InContext, response: Response) -> Part:
    """Say whether the warehouse answers: without it, nothing can be said or started."""
    observed = await context.observations.latest(
        "health of the warehouse", partial(check_warehouse, context.platform)
    )
    warehouse = observed.value
    if warehouse.verdict != "ok":
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return warehouse


@router.get(
    "",
    summary="Health of every part",
    operation_id="get_health",
    responses={503: {"model": HealthReport, "description": "a part is down"}},
)
async def get_health(context: InContext, response: Response) -> HealthReport:
    """Name each part and what is wrong with it, within three seconds; 503 where one is down."""
    observed = await context.observations.latest("health", partial(check_health, context.platform))
    found = with_processes(observed.value, context.services())
    if found.verdict == "down":
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return HealthReport(**dict(found), as_of=observed.as_of)


@router.get(
    "/temporal",
    summary="Health of Temporal",
    operation_id="get_temporal_health",
    responses={503: {"model": Part, "description": "Temporal does not answer"}},
)
async def get_temporal(context: InContext, response: Response) -> Part:
    """Say whether Temporal answers now."""
    observed = await context.observations.latest(
        "health of Temporal", partial(check_temporal, context.platform)
    )
    part = observed.value
    if part.verdict != "ok":
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    return part
