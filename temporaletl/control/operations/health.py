"""Health of the platform, part by part, with what is wrong and what to do."""

import asyncio
from datetime import datetime, timedelta
from typing import Literal

from temporalio.client import Client

from temporaletl.control.operations.platform import Platform, is_polled
from temporaletl.errors import ETLError
from temporaletl.messages import Message
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import missing_migrations
from temporaletl.warehouse.waiting import OldestWaiting, oldest_waiting

#: A job that has waited for so long while workers poll is worth a look.
_LONG = timedelta(minutes=15)

Verdict = Literal["ok", "degraded", "down", "unknown"]
_ORDER: tuple[Verdict, ...] = ("ok", "unknown", "degraded", "down")


class Part(Message):
    """Health of one part; `detail` says what is wrong and what to do."""

    name: str
    verdict: Verdict
    detail: str
    since: datetime | None = None


class Health(Message):
    """Health of all parts; `verdict` is that of the worst one."""

    verdict: Verdict
    parts: tuple[Part, ...]


async def check_health(platform: Platform) -> Health:
    """Check warehouse, migrations, Temporal, both services, and what waits. Never raises."""
    (warehouse, opened), (temporal, client) = await asyncio.gather(
        _check_warehouse(platform), check_temporal(platform)
    )
    parts = [*warehouse, temporal]
    if client is not None:
        settings = platform.settings
        parts += await asyncio.gather(
            _check_queue(client, "queuer", settings.queuer_queue),
            _check_queue(client, "worker", settings.worker_queue),
        )
    else:
        parts += [
            Part(name=name, verdict="unknown", detail="Temporal cannot be asked who polls")
            for name in ("queuer", "worker")
        ]
    if opened is not None:
        parts.append(await _check_waiting(opened))
    worst = max((part.verdict for part in parts), key=_ORDER.index)
    return Health(verdict=worst, parts=tuple(parts))


async def check_temporal(platform: Platform) -> tuple[Part, Client | None]:
    """Check that Temporal answers now; return its client where it does. Never raises."""
    try:
        client = await platform.client()
        async with asyncio.timeout(_PATIENCE.total_seconds()):
            healthy = await client.service_client.check_health(timeout=_PATIENCE)
    except ETLError as error:
        return Part(name="temporal", verdict="down", detail=str(error)), None
    except Exception as error:  # noqa: BLE001 - whatever it is, Temporal does not answer
        kind = str(error) or type(error).__name__
        return Part(name="temporal", verdict="down", detail=f"does not answer: {kind}"), None
    if not healthy:
        return Part(name="temporal", verdict="down", detail="it says that it is not serving"), None
    return Part(name="temporal", verdict="ok", detail="answers"), client


_PATIENCE = timedelta(seconds=2)


async def _check_warehouse(platform: Platform) -> tuple[list[Part], Warehouse | None]:
    try:
        warehouse = await platform.warehouse()
        missing = await asyncio.to_thread(missing_migrations, warehouse)
    except ETLError as error:
        return [Part(name="warehouse", verdict="down", detail=str(error))], None
    answers = Part(name="warehouse", verdict="ok", detail="answers")
    if missing:
        detail = f"{len(missing)} are missing, from {missing[0]} on: a service applies them"
        return [answers, Part(name="migrations", verdict="degraded", detail=detail)], warehouse
    return [answers, Part(name="migrations", verdict="ok", detail="all are applied")], warehouse


async def _check_queue(client: Client, name: str, queue: str) -> Part:
    if await is_polled(client, queue):
        return Part(name=name, verdict="ok", detail=f"polls task queue {queue}")
    return Part(
        name=name,
        verdict="down",
        detail=f"no {name} polls task queue {queue}: what is started waits; start one "
        f"(`python -m {name}`), or `etl up`",
    )


async def _check_waiting(warehouse: Warehouse) -> Part:
    try:
        found: OldestWaiting | None = await asyncio.to_thread(oldest_waiting, warehouse)
    except ETLError as error:
        return Part(name="oldest waiting job", verdict="unknown", detail=str(error))
    if found is None:
        return Part(name="oldest waiting job", verdict="ok", detail="no job waits")
    long = found.waited > _LONG
    minutes = found.waited.total_seconds() / 60
    return Part(
        name="oldest waiting job",
        verdict="degraded" if long else "ok",
        detail=f"{found.job_id} of {found.workflow_id} has waited for {minutes:,.0f} min",
        since=found.since,
    )
