"""What nodes would do to others: requests as they would be sent, rows as they would be written.

Secrets are named, never read.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import Any

import msgspec
from pydantic import JsonValue

from temporaletl.control.operations.preview import as_document
from temporaletl.errors import PermanentError
from temporaletl.messages import ETLInput
from temporaletl.settings.fields import load_field_rules
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.transformation import TransformContext
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.pipelines.chunks import data_of_items
from temporaletl.worker.pipelines.egress.client import OutgoingRequest
from temporaletl.worker.pipelines.egress.settings import EgressSettings
from temporaletl.worker.pipelines.model.settings import ModelSettings
from temporaletl.worker.pipelines.nodes.agents import AiAgentData
from temporaletl.worker.pipelines.nodes.loading import DatabaseData, LoadData, SourceData
from temporaletl.worker.pipelines.nodes.logic import DelayData, MapData, PipelineData
from temporaletl.worker.pipelines.nodes.requests import (
    ApiCallData,
    ApprovalData,
    WaitForWebhookData,
    WebhookData,
)
from temporaletl.worker.pipelines.secrets import SecretStore
from temporaletl.worker.pipelines.settings import PipelineSettings
from temporaletl.worker.pipelines.steps.agents import asked
from temporaletl.worker.pipelines.steps.context import NodeContext, Services
from temporaletl.worker.pipelines.steps.database import checked_rows
from temporaletl.worker.pipelines.steps.lists import items_of
from temporaletl.worker.pipelines.steps.logic import run_delay
from temporaletl.worker.pipelines.steps.requests import api_request, webhook_request
from temporaletl.worker.sources.pipeline.query import PipelineQuery
from temporaletl.worker.sources.pipeline.strategies import strategies_for
from temporaletl.worker.transforming import Transformed, transform_record

type _Told = dict[str, JsonValue]


class _NamedSecrets(SecretStore):
    """Stands for secrets by their names."""

    def read(self, name: str) -> str:
        return f"[secret {name}]"


@contextmanager
def services_at_rest() -> Iterator[Services]:
    """Services that evaluate expressions, and can do nothing else: no warehouse, no secret."""
    # Never opened: a step that turned to it would fail.
    nowhere = Warehouse(WarehouseSettings(DATABASE_URL="postgresql://nowhere.invalid/"))
    services = Services(
        warehouse=nowhere,
        secrets=_NamedSecrets(),
        settings=PipelineSettings.load(),
        egress=EgressSettings.load(),
        model=ModelSettings(),
    )
    try:
        yield services
    finally:
        services.evaluator.close()


async def effect_of(kind: str, context: NodeContext[Any], most: int) -> _Told | None:
    """What a node would do, `most` of a list; None of one that only computes.

    Raises:
        ETLError: it would fail before it did it.
    """
    told = _EFFECTS.get(kind)
    return None if told is None else await told(context, most)


async def _api_call(context: NodeContext[ApiCallData], _most: int) -> _Told:
    return _request_told(context, await api_request(context))


async def _webhook(context: NodeContext[WebhookData], _most: int) -> _Told:
    told = _request_told(context, await webhook_request(context))
    signed = context.data.signing_secret
    return told if signed is None else {**told, "signed_with": signed}


def _request_told(context: NodeContext[Any], request: OutgoingRequest) -> _Told:
    url = context.services.client.check(request)
    told: _Told = {"method": request.method, "url": str(url), "headers": dict(request.headers)}
    if request.body is not None:
        told["body"] = _body_told(request.body)
    return told


def _body_told(body: bytes) -> JsonValue:
    try:
        told: JsonValue = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body.decode()
    return told


async def _database(context: NodeContext[DatabaseData], most: int) -> _Told:
    data = context.data
    told: _Told = {"connection": data.connection, "operation": data.operation}
    if data.operation == "query":
        return {**told, "query": data.query, "params": await context.fill(data.params)}
    rows = checked_rows(await context.value(data.rows or ""))
    shown: list[JsonValue] = [*rows[:most]]
    return {**told, "table": data.table, "key": [*data.key], "count": len(rows), "rows": shown}


async def _load(context: NodeContext[LoadData], most: int) -> _Told:
    """The rows as the run that loads them would make them, and the records it would reject."""
    data = context.data
    query = PipelineQuery(
        execution=context.execution.execution_id,
        node=context.node,
        table=data.table,
        key=data.key,
        columns=dict(data.columns),
    )
    job = ETLInput(
        batch_id="dry-run", seq=0, job_id="", source="pipeline", stream="rows", mode="full"
    )
    strategies = strategies_for(context.services.warehouse, [query])
    rules = load_field_rules("pipeline", strategies.rows)
    transforming = TransformContext(job=job, query=query, field_rules=rules)
    found = Transformed()
    for record in items_of("rows", [await context.value(data.rows)]):
        transform_record(strategies, transforming, record, found)
    _check_share(found, data.max_rejected)
    rejects: list[JsonValue] = [
        {"reason": one.reason, "record": msgspec.to_builtins(one.payload)}
        for one in found.rejects[:most]
    ]
    return {
        "table": data.table,
        "key": [*data.key],
        "count": len(found.rows),
        "rows": [as_document(row) for row in found.rows[:most]],
        "rejected": len(found.rejects),
        "rejects": rejects,
    }


def _check_share(found: Transformed, most: float | None) -> None:
    """Check that a load would not fail for its bad records.

    Raises:
        PermanentError: it would.
    """
    records = len(found.rows) + found.rejected_records
    if most is not None and found.rejected_records > most * records:
        raise PermanentError(
            f"{found.rejected_records:,} of {records:,} records would be rejected, and "
            f"max_rejected is {most:g}; the first: {found.rejects[0].reason}"
        )


async def _source(context: NodeContext[SourceData], _most: int) -> _Told:
    data = context.data
    params = None if data.params is None else await context.fill(data.params)
    return {
        "source": data.source,
        "connection": data.connection,
        "mode": data.mode,
        "streams": [*data.streams],
        "params": params,
    }


async def _delay(context: NodeContext[DelayData], _most: int) -> _Told:
    wait = await run_delay(context)
    return {"waits_until": None if wait.wait.until is None else wait.wait.until.isoformat()}


async def _approval(context: NodeContext[ApprovalData], _most: int) -> _Told:
    data = context.data
    told = await context.fill({"title": data.title, "details": data.details})
    return {**told, **_timed(data.timeout_seconds)}


async def _wait_for_webhook(context: NodeContext[WaitForWebhookData], _most: int) -> _Told:
    return _timed(context.data.timeout_seconds)


def _timed(seconds: float) -> _Told:
    return {"waits_at_most": str(timedelta(seconds=seconds))}


async def _pipeline(context: NodeContext[PipelineData], _most: int) -> _Told:
    data = context.data
    value = None if data.input is None else await context.fill(data.input)
    return {"pipeline": data.pipeline, "version": data.version, "input": value}


async def _ai_agent(context: NodeContext[AiAgentData], _most: int) -> _Told:
    data = context.data
    instructions, given = await asked(context)
    told: _Told = {"agent_type": data.agent_type, "model": data.model}
    return {**told, "instructions": instructions, "input": given}


async def _map(context: NodeContext[Any], most: int) -> _Told | None:
    """What its node would do for the first items."""
    data: MapData = context.data
    if data.type not in _EFFECTS:
        return None
    items = [*items_of("over", [await context.value(data.over)])]
    told: list[JsonValue] = []
    for number, item in enumerate(islice(items, most)):
        names: Mapping[str, JsonValue] = {"item": item, "index": number}
        one = replace(context, data=data_of_items(data), names=names)
        told.append(await effect_of(data.type, one, most))
    return {"type": data.type, "count": len(items), "items": told}


_EFFECTS: Mapping[str, Callable[[NodeContext[Any], int], Awaitable[_Told | None]]] = {
    "ai_agent": _ai_agent,
    "api_call": _api_call,
    "approval": _approval,
    "database": _database,
    "delay": _delay,
    "load": _load,
    "map": _map,
    "pipeline": _pipeline,
    "source": _source,
    "wait_for_webhook": _wait_for_webhook,
    "webhook": _webhook,
}
