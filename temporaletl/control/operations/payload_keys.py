"""Payload keys: those in use listed, and retired; payloads decrypted for Temporal's UI."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from temporaletl.control.operations.audit import local_author
from temporaletl.control.operations.platform import (
    OPEN_WORKFLOWS,
    PATIENCE,
    Platform,
    translated_errors,
)
from temporaletl.errors import ConfigurationError, ConflictError, NotFoundError
from temporaletl.temporal import sdk
from temporaletl.warehouse import payload_keys
from temporaletl.warehouse.audit import Author, record
from temporaletl.warehouse.payload_keys import KeyInUse

if TYPE_CHECKING:
    from temporalio.api.common.v1 import Payload
    from temporalio.api.workflow.v1 import NewWorkflowExecutionInfo
    from temporalio.client import Client

_MOST_NAMED = 3


class Keys(NamedTuple):
    """The keys of this process, the one that encrypts first, and those that are in use."""

    here: tuple[str, ...]
    in_use: list[KeyInUse]


class Retired(NamedTuple):
    """What was encrypted anew for a key to be retired."""

    results: int
    schedules: int


async def list_keys(platform: Platform) -> Keys:
    """The payload keys here, and those that are in use.

    Raises: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    in_use = await asyncio.to_thread(payload_keys.list_keys, warehouse)
    return Keys(warehouse.payload_keys.ids, in_use)


async def retire_key(
    platform: Platform, key_id: str, *, force: bool = False, author: Author | None = None
) -> Retired:
    """Encrypt anew, with the first key, what a key encrypts, and let services do without it.

    Results and schedules are encrypted anew; histories cannot be, so no open workflow may need it.
    Those of workflows that have ended become unreadable once the key is gone. `force` retires it
    whatever needs it, and where it is lost: what it encrypted is then lost, too. Safe to repeat.

    Raises:
        NotFoundError: it is not in use, and no open workflow needs it.
        ConflictError: it encrypts here, or an open workflow needs it.
        ConfigurationError: it is not among the keys here.
        ETLError: as `Platform.client` and `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    keys, by = warehouse.payload_keys, author or local_author()
    in_use = await asyncio.to_thread(payload_keys.list_keys, warehouse)
    if key_id not in {one.key_id for one in in_use}:
        # Whoever encrypted with it may have died before it could enter it.
        if platform.settings.enabled and not force:
            with translated_errors():
                await _check_workflows(await platform.client(), key_id)
        raise NotFoundError(f"no payload key {key_id!r} is in use (`etl key list`)")
    if keys.first == key_id:
        raise ConflictError(
            f"payload key {key_id!r} is the one that encrypts here: put another one before it in "
            f"{keys.place}, everywhere, first"
        )
    done = Retired(0, 0)
    if not force:
        if key_id not in keys.ids:
            raise ConfigurationError(
                f"payload key {key_id!r} is not in {keys.place}: what it encrypts cannot be "
                "encrypted anew; --force gives that up"
            )
        schedules = 0
        if platform.settings.enabled:
            client = await platform.client()
            with translated_errors():
                schedules = await _encrypt_schedules(client, key_id)
                await _check_workflows(client, key_id)
        done = Retired(
            await asyncio.to_thread(payload_keys.encrypt_anew, warehouse, key_id), schedules
        )

    def forget() -> None:
        with warehouse.connection() as connection:
            payload_keys.forget_key(connection, key_id)
            details = {**done._asdict(), "force": force}
            record(connection, by, "payload_key.retire", key_id, details=details)

    await asyncio.to_thread(forget)
    return done


async def _check_workflows(client: Client, key_id: str) -> None:
    from temporaletl.temporal.payload_codec import mark_of

    mark, needing = mark_of(key_id), list[str]()
    async for execution in client.list_workflows(OPEN_WORKFLOWS):
        handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
        async for event in handle.fetch_history_events(rpc_timeout=PATIENCE):
            if mark in event.SerializeToString():
                needing.append(execution.id)
                break
    if needing:
        named = ", ".join(needing[:_MOST_NAMED]) + (", …" if needing[_MOST_NAMED:] else "")
        raise ConflictError(
            f"{len(needing):,} open workflows need payload key {key_id!r} ({named}): wait until "
            "they have ended"
        )


async def _encrypt_schedules(client: Client, key_id: str) -> int:
    """Encrypt anew what schedules start workflows with; return how many schedules."""
    from temporaletl.temporal.payload_codec import mark_of

    changed = 0
    async for listed in await client.list_schedules(rpc_timeout=PATIENCE):
        try:
            found = await client.get_schedule_handle(listed.id).describe(rpc_timeout=PATIENCE)
        except sdk.RPCError as error:
            if error.status == sdk.RPCStatusCode.NOT_FOUND:
                continue  # it was deleted meanwhile
            raise
        raw = found.raw_description
        if mark_of(key_id) not in raw.schedule.SerializeToString():
            continue
        codec = client.data_converter.payload_codec
        assert codec is not None  # noqa: S101 - there are keys
        for payload in _payloads(raw.schedule.action.start_workflow):
            [plain] = await codec.decode([payload])
            [sealed] = await codec.encode([plain])
            payload.CopyFrom(sealed)
        await client.workflow_service.update_schedule(
            sdk.UpdateScheduleRequest(
                namespace=client.namespace,
                schedule_id=listed.id,
                schedule=raw.schedule,
                conflict_token=raw.conflict_token,
                identity=client.identity,
            ),
            timeout=PATIENCE,
        )
        changed += 1
    return changed


def _payloads(action: NewWorkflowExecutionInfo) -> Iterator[Payload]:
    yield from action.input.payloads
    yield from action.memo.fields.values()
    for name in ("summary", "details"):
        if action.user_metadata.HasField(name):
            yield getattr(action.user_metadata, name)


async def code_payloads(
    platform: Platform,
    direction: Literal["encode", "decode"],
    payloads: Sequence[Payload],
    *,
    author: Author,
    namespace: str,
) -> list[Payload]:
    """Encrypt or decrypt payloads, as the clients of Temporal do; an audit row says of it.

    Raises:
        MissingPayloadKeyError, UndecryptablePayloadError: as `PayloadKeys.open`.
        ETLError: as `Platform.current_warehouse`.
    """
    from temporaletl.temporal.payload_codec import EncryptingCodec, is_encrypted

    warehouse = await platform.current_warehouse()
    codec = EncryptingCodec(warehouse.payload_keys)
    if direction == "encode":
        return await codec.encode(payloads)
    decoded = await codec.decode(payloads)
    number = sum(map(is_encrypted, payloads))

    def audit() -> None:
        with warehouse.connection() as connection:
            record(connection, author, "payload.decode", namespace, details={"payloads": number})

    if number:
        await asyncio.to_thread(audit)
    return decoded
