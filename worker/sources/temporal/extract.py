"""Pages of executions, as the visibility store lists them."""

import asyncio
import base64
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.json_format import Error as JsonError
from google.protobuf.json_format import MessageToDict
from pydantic import JsonValue
from temporalio.api.workflow.v1 import WorkflowExecutionInfo

from temporaletl import (
    ConfigurationError,
    Page,
    PageRequest,
    Reject,
    SourceProtocolError,
    extract_method,
)
from temporaletl.external.temporal import RUNNING, StaleTokenError, closed_in, visibility

#: A listing may show as running what another has already shown closed: the store's replicas
#: refresh at different times. What is listed as running therefore counts as known this much
#: earlier than it was asked for, and so never replaces what a listing of that time saw closed.
RUNNING_STALENESS = timedelta(minutes=1)
_MOST_RESTARTS = 3


@extract_method("temporal-workflows")
async def extract(request: PageRequest) -> AsyncIterator[Page]:
    """List the job's executions from the cursor's page token on.

    A record is an execution as protobuf's JSON. A token the server no longer takes starts the
    window again from its beginning, which changes nothing that is loaded.

    Raises:
        SourceProtocolError: the server repeats a page token, or never takes back its own.
        RetryableError, PermanentError: as `temporaletl.external.temporal.Visibility.count`.
    """
    ended, token, restarts = _position(request.cursor)
    if ended:
        return
    store = visibility()
    namespace = request.query.namespace
    query = RUNNING if request.query.running else closed_in(request.job.window)
    resumed = request.cursor is not None
    seen = {token}
    while True:
        asked = datetime.now(UTC)
        try:
            answer = await store.page(namespace, query, token)
        except StaleTokenError as error:
            if not resumed:
                raise
            if restarts == _MOST_RESTARTS:
                raise SourceProtocolError(
                    f"{error}; the window was begun anew {restarts} times"
                ) from None
            resumed, token, seen, restarts = False, b"", {b""}, restarts + 1
            continue
        resumed = False
        following = answer.next_page_token
        if following and following in seen:
            raise SourceProtocolError(f"Temporal repeats a page token in namespace {namespace!r}")
        seen.add(following)
        # A page of a thousand takes a noticeable fraction of a second.
        records, rejects = await asyncio.to_thread(_records, answer.executions)
        yield Page(
            records=records,
            rejects=rejects,
            cursor=_cursor(following, restarts),
            extracted_at=asked - RUNNING_STALENESS if request.query.running else asked,
        )
        if not following:
            return
        token = following


def _cursor(token: bytes, restarts: int) -> JsonValue:
    """An empty token stands for the end."""
    return {"token": base64.b64encode(token).decode(), "restarts": restarts}


def _position(cursor: JsonValue) -> tuple[bool, bytes, int]:
    """Whether all is listed, the token to go on with, and how often the window was restarted."""
    if cursor is None:
        return False, b"", 0
    match cursor:
        case {"token": str(text), "restarts": int(restarts)}:
            token = base64.b64decode(text)
            return not token, token, restarts
        case _:
            raise ConfigurationError(f"{cursor!r} is no cursor of source 'temporal'")


def _records(
    executions: Iterable[WorkflowExecutionInfo],
) -> tuple[list[dict[str, Any]], list[Reject]]:
    records, rejects = [], []
    for execution in executions:
        try:
            records.append(MessageToDict(execution))
        except (JsonError, ValueError, OverflowError) as error:
            rejects.append(
                Reject(
                    stage="extract",
                    reason=f"the execution is not valid protobuf: {error}",
                    key=f"{execution.execution.workflow_id}/{execution.execution.run_id}",
                    payload=execution.SerializeToString(),
                )
            )
    return records, rejects
