"""Runner of a chunk of a `map`: each item is tried, and recorded, once and by itself.

A chunk that is run again goes on behind what is recorded. Only a failure of the warehouse is one
of the chunk; whatever else fails is the item's.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
from pydantic import JsonValue

from temporaletl.errors import (
    ConfigurationError,
    ETLError,
    PermanentError,
    WarehouseClosedError,
    WarehouseUnavailableError,
)
from temporaletl.telemetry.logs import get_logger, unexpected
from temporaletl.temporal.attempts import message_of, pause_behind, recovery_of
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.pipeline_items import (
    Chunk,
    SettledItem,
    read_chunk,
    record_items,
)
from temporaletl.warehouse.pipeline_results import encode
from temporaletl.worker.pipelines.messages import ChunkRequest, ChunkResult, NodeError
from temporaletl.worker.pipelines.nodes.fields import NodeData
from temporaletl.worker.pipelines.nodes.logic import MapData
from temporaletl.worker.pipelines.nodes.types import NODE_TYPES
from temporaletl.worker.pipelines.runner import NodeRunner, NodeTimeoutError
from temporaletl.worker.pipelines.steps.context import NodeContext, Produced
from temporaletl.worker.pipelines.steps.steps import step_of

log = get_logger("temporaletl.worker.pipelines.chunks")

#: Items of a type without effects are recorded so many at once, all others one by one.
_RECORDED_AT_ONCE = {"transform": 100}
#: An item that has begun may come to its end so long after a cancellation.
_LET_END = timedelta(seconds=10)
#: An item that so many workers in a row died of has failed: before its chunk would.
_MOST_UNANSWERED = 3


class UnansweredItemError(PermanentError):
    """An item at which one worker after the other died."""


async def run_chunk(
    runner: NodeRunner, request: ChunkRequest, report: Callable[[int], int]
) -> ChunkResult:
    """Do what a `map` does with the items of a chunk that are not recorded yet.

    Safe to repeat. Where the node does not wait any more, nothing is done. `report` is told how
    many are recorded, and tells how many attempts never answered since there was one more: an item
    at which so many workers died fails in its turn, and the others go on.

    Raises:
        WarehouseUnavailableError: the items that are recorded stay so.
    """
    execution, pipeline = await runner.load(request.execution_id)
    context = runner.context(execution, pipeline, request, attempt=1)
    warehouse = runner.services.warehouse
    chunk = await asyncio.to_thread(_read, warehouse, request)
    if chunk is None:
        return ChunkResult(completed=0, failed=0)
    return await _Run(request, context, warehouse, chunk, report).run()


def _read(warehouse: Warehouse, request: ChunkRequest) -> Chunk | None:
    with warehouse.connection() as connection:
        return read_chunk(connection, request.execution_id, request.node, request.chunk)


def item_hash(data: MapData, item: JsonValue) -> str:
    """Hash of an item and of what a map does with it, whatever the order of their keys."""
    text = msgspec.json.encode([data.type, data.data, item], order="sorted")
    return hashlib.sha256(text).hexdigest()


def data_of_items(data: MapData) -> NodeData:
    """The data of the node that a map runs for each item, which has the time of its map."""
    given = {**data.data, "timeout_seconds": data.timeout_seconds}
    return NODE_TYPES[data.type].model_validate(given)


class _Run:
    """One attempt of a chunk."""

    def __init__(
        self,
        request: ChunkRequest,
        context: NodeContext[Any],
        warehouse: Warehouse,
        chunk: Chunk,
        report: Callable[[int], int],
    ) -> None:
        data: MapData = context.data
        self._request = request
        self._map = data
        self._type = data.type
        self._context = replace(context, data=data_of_items(data))
        self._warehouse = warehouse
        self._chunk = chunk
        self._report = report
        self._recorded = 0
        #: Attempts that never answered, and left the first item that is not recorded to this one.
        self._unanswered = 0
        self._at_once = _RECORDED_AT_ONCE.get(data.type, 1)
        self._interval = 0.0
        if data.per_minute is not None:
            self._interval = 60 * min(data.concurrency, chunk.chunks) / data.per_minute
        self._unrecorded: list[SettledItem] = []
        self._stopped = False

    async def run(self) -> ChunkResult:
        counts = {"completed": 0, "failed": 0}
        clock = asyncio.get_running_loop().time
        begun = clock()
        items = await asyncio.to_thread(self._hashed)
        known = self._chunk.settled
        self._recorded = sum(
            known.get(number, ("", ""))[1] == digest for number, _, digest in items
        )
        self._unanswered = self._report(self._recorded)
        if self._unanswered:
            self._at_once = 1
        try:
            for number, item, digest in items:
                state, recorded = known.get(number, ("", ""))
                if recorded != digest:
                    await asyncio.sleep(begun + self._interval - clock())
                    begun = clock()
                    settled = await self._undisturbed(self._settle(number, item, digest))
                    state = settled.state
                    self._unrecorded.append(settled)
                    if len(self._unrecorded) >= self._at_once:
                        await self._record()
                    if self._stopped:
                        raise asyncio.CancelledError
                counts[state] += 1
        finally:
            await self._record()
        return ChunkResult(**counts)

    def _hashed(self) -> list[tuple[int, JsonValue, str]]:
        numbered = enumerate(self._chunk.items, self._chunk.first)
        return [(number, item, item_hash(self._map, item)) for number, item in numbered]

    async def _undisturbed(self, settling: Coroutine[Any, Any, SettledItem]) -> SettledItem:
        """What becomes of an item, also where the chunk is cancelled meanwhile: not for long."""
        task = asyncio.ensure_future(settling)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self._stopped = True
            await asyncio.wait({task}, timeout=_LET_END.total_seconds())
            if task.done():
                return task.result()
            task.cancel()
            raise

    async def _record(self) -> None:
        if self._unrecorded:
            items, self._unrecorded = self._unrecorded, []
            # A cancellation does not keep the thread from coming to its end.
            await asyncio.to_thread(self._write, items)
            self._recorded += len(items)
            self._report(self._recorded)

    def _write(self, items: list[SettledItem]) -> None:
        with self._warehouse.connection() as connection:
            record_items(connection, self._request.execution_id, self._request.node, items)

    async def _settle(self, number: int, item: JsonValue, digest: str) -> SettledItem:
        """Try an item until it is done, or failed for good."""
        unanswered, self._unanswered = self._unanswered, 0
        if unanswered >= _MOST_UNANSWERED:
            error = UnansweredItemError(
                f"{unanswered} workers in a row died, hung, or were cut off while it was tried"
            )
            return SettledItem(number, digest, unanswered, error=self._told(error, number))
        context = replace(self._context, names={"item": item, "index": number})
        policy, attempt = self._request.policy, 1
        while True:
            try:
                stored = encode(await self._attempt(context))
                return SettledItem(number, digest, attempt, stored.size, stored.body)
            except (WarehouseUnavailableError, WarehouseClosedError):
                raise
            except Exception as error:  # noqa: BLE001 - recorded, and judged by its class
                recovery = recovery_of(error, attempt=attempt, limit=policy.max_attempts)
                if recovery.final:
                    return SettledItem(number, digest, attempt, error=self._told(error, number))
                delay = recovery.delay or pause_behind(attempt, policy)
            await asyncio.sleep(0 if self._stopped else delay.total_seconds())
            if self._stopped:
                raise asyncio.CancelledError
            attempt += 1

    async def _attempt(self, context: NodeContext[Any]) -> JsonValue:
        within = self._request.timeout.total_seconds()
        try:
            async with asyncio.timeout(within):
                produced = await step_of(self._type).run(context)
        except TimeoutError:
            raise NodeTimeoutError(f"it took longer than timeout_seconds = {within:g}") from None
        if not isinstance(produced, Produced) or callable(produced.parts):
            raise ConfigurationError(f"{self._type} cannot run for each item: it waits")
        return produced.whole

    def _told(self, error: Exception, number: int) -> dict[str, JsonValue]:
        if not isinstance(error, ETLError):
            log.warning(
                "item_failed",
                node=self._request.node,
                item=number,
                error=str(error),
                exception=unexpected(error),
            )
        told = NodeError(
            type=type(error).__name__,
            message=message_of(error),
            node=self._request.node,
            item=number,
        )
        return told.model_dump(mode="json")
