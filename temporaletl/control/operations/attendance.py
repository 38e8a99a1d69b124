"""Task queues that no service polls: what a run waits for without an error."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Literal

from temporaletl.control.operations.platform import is_polled
from temporaletl.control.operations.sources import known_planners
from temporaletl.errors import ETLError
from temporaletl.names import segment_queue
from temporaletl.strategies import budgets

if TYPE_CHECKING:
    from temporalio.client import Client

#: Of a run of the local engine.
UNATTENDED_LOCAL = (
    "no process of the local engine drives it: `etl serve`, or `etl run SOURCE --engine local "
    "--wait`, takes it up"
)
_MAIN = "no {name} polls task queue {queue}: `etl up` or `python -m {name}` starts one"
#: Workers that are there poll the queues of the sources that they know.
_OWN = (
    "no worker polls task queue {queue}, where the requests of source {source!r} are sent from: "
    "workers know the sources that were there when they started; start them anew"
)


async def unattended(
    client: Client, service: Literal["queuer", "worker"], queue: str
) -> str | None:
    """Say that no service of that name polls its main queue; None where one does."""
    return None if await is_polled(client, queue) else _MAIN.format(name=service, queue=queue)


async def unattended_queuer(client: Client, queue: str) -> str | None:
    """Say that no queuer polls its queue; None where one does."""
    return await unattended(client, "queuer", queue)


async def unattended_worker(client: Client, queue: str, source: str) -> str | None:
    """Say which of the two queues of a source's jobs no worker polls; None where both are polled.

    Which sources have a queue of their own, their modules say: they must be imported.
    """
    if (missing := await unattended(client, "worker", queue)) is not None:
        return missing
    return (await unattended_segments(client, queue, source))[1]


async def unattended_segments(
    client: Client, queue: str, source: str
) -> tuple[str | None, str | None]:
    """The source's own task queue, if it has one; and that no worker polls it, where none does."""
    own = segment_queue(queue, source)
    with contextlib.suppress(ETLError):
        known_planners()  # a rate limit may be registered where nothing has the source's name
    if source not in budgets:
        return None, None
    polled = await is_polled(client, own, for_segments=True)
    return own, None if polled else _OWN.format(queue=own, source=source)
