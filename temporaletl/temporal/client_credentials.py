"""Credentials of Temporal's clients that are in files: an API key is replaced while they go on."""

import asyncio
from weakref import ReferenceType, ref

from temporalio.client import Client

from temporaletl.errors import ConfigurationError
from temporaletl.telemetry.logs import get_logger
from temporaletl.temporal.endpoint import Endpoint

log = get_logger(__name__)

_LOOKED_AT_SECONDS = 5.0

_renewals: set[asyncio.Task[None]] = set()


def keep_renewed(client: Client, connected: Endpoint) -> None:
    """Have the client send what the files of its endpoint hold, within seconds of a change.

    While its event loop runs and somebody holds the client; certificates stay as they are.
    """
    if connected.reread is None:
        return
    task = asyncio.create_task(_renew(ref(client), connected))
    _renewals.add(task)
    task.add_done_callback(_renewals.discard)


async def _renew(held: ReferenceType[Client], sent: Endpoint) -> None:
    while held() is not None and sent.reread is not None:
        await asyncio.sleep(_LOOKED_AT_SECONDS)
        try:
            found = await asyncio.to_thread(sent.reread)
        except ConfigurationError as error:
            log.warning("temporal_credentials_not_reread", reason=str(error))
            continue
        client = held()
        if client is None or found == sent:
            continue
        client.rpc_metadata = found.rpc_metadata
        client.api_key = found.api_key
        sent = found
        log.info("temporal_credentials_replaced", address=found.address)
