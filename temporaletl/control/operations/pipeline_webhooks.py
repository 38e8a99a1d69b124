"""Webhooks that start stored pipelines: told from others by their signature, each event once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from pydantic import JsonValue
from pydantic_core import from_json

from temporaletl.control.operations.executions import Started, start_execution
from temporaletl.control.operations.platform import Platform
from temporaletl.errors import ConfigurationError, ETLError
from temporaletl.telemetry.logs import get_logger
from temporaletl.warehouse.audit import Author
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.pipelines import signing_secrets
from temporaletl.webhook_signatures import signed_event, signing_key
from temporaletl.worker.pipelines.messages import ExecutionInput
from temporaletl.worker.pipelines.secrets import SecretStore

log = get_logger("temporaletl.control.operations.pipeline_webhooks")

type Keys = Mapping[str, Sequence[bytes]]


async def webhook_keys(platform: Platform) -> Keys:
    """The keys that sign the webhooks of each stored pipeline which takes some.

    A secret that cannot be read here is left out; the log names it.

    Raises:
        ETLError: as `Platform.current_warehouse`.
    """
    return await asyncio.to_thread(_read_keys, await platform.current_warehouse())


def _read_keys(warehouse: Warehouse) -> Keys:
    store, found = SecretStore(), dict[str, list[bytes]]()
    for pipeline, names in signing_secrets(warehouse).items():
        keys = found.setdefault(pipeline, [])
        for name in names:
            try:
                keys.append(signing_key(store.read(name)))
            except (ETLError, ValueError) as error:
                log.warning(
                    "webhook_secret_unreadable", pipeline=pipeline, secret=name, reason=str(error)
                )
    return found


def event_of(keys: Keys, pipeline: str, headers: Mapping[str, str], body: bytes) -> str | None:
    """The id of the event that a request to a pipeline tells of; None where nothing proves it."""
    return signed_event(keys.get(pipeline, ()), headers, body, now=time.time())


async def receive_webhook(
    platform: Platform, pipeline: str, event_id: str, body: bytes, *, request_id: str | None = None
) -> Started:
    """Start a pipeline by a request whose signature holds; the same event starts it once.

    Raises:
        ConfigurationError: the body is no JSON.
        ETLError: as `start_execution`.
    """
    return await start_execution(
        platform,
        ExecutionInput(pipeline=pipeline, input=_parse(body)),
        how="webhook",
        author=Author(name=f"webhook:{pipeline}", request_id=request_id),
        event_key=f"webhook/{event_id}",
    )


def _parse(body: bytes) -> JsonValue:
    try:
        value: JsonValue = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise ConfigurationError(f"the body is no JSON: {error}") from None
    return value
