"""Temporal workflows of this platform: listed, and one with its pending activities."""

import hashlib
from datetime import UTC, datetime
from typing import Literal, NamedTuple
from urllib.parse import quote

from google.protobuf.timestamp_pb2 import Timestamp
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.client import Client, WorkflowExecution, WorkflowExecutionDescription
from temporalio.service import RPCError

from temporaletl import names
from temporaletl.control.operations.control import find_workflow
from temporaletl.control.operations.following import failure_message, trouble_in
from temporaletl.control.operations.platform import (
    OPEN_WORKFLOWS,
    PATIENCE,
    Platform,
    translated_errors,
)
from temporaletl.control.operations.reports import end_of, ends
from temporaletl.errors import ConfigurationError, NotFoundError
from temporaletl.messages import Message
from temporaletl.secrets import redacted

WorkflowKind = Literal["run", "dispatch", "job"]
WorkflowState = Literal["running", "completed", "failed", "cancelled", "terminated", "timed out"]

_TYPES: dict[str, WorkflowKind] = {
    names.QUEUER_FLOW: "run",
    names.DISPATCH_FLOW: "dispatch",
    names.ETL_FLOW: "job",
}
_DIGEST_BYTES = 8
_STATES = {state: status.name for status, state in ends().items()}
#: The names that the server's filter has, where they are other than the SDK's.
_FILTERED = {"CANCELED": "Canceled", "TIMED_OUT": "TimedOut"}


class WorkflowReport(Message):
    """A workflow of the platform, as Temporal has it; one that went on as new is still running."""

    workflow_id: str
    run_id: str
    kind: WorkflowKind
    workflow_type: str
    task_queue: str
    state: str
    started_at: datetime
    closed_at: datetime | None = None
    history_events: int
    parent_workflow_id: str | None = None
    #: Its page in Temporal's own UI, where the address of that is configured.
    ui_url: str | None = None


class PendingActivity(Message):
    """An activity that runs, or waits to be tried again."""

    activity: str
    state: Literal["scheduled", "started", "cancelling", "paused"]
    attempt: int
    last_failure: str | None = None
    last_started_at: datetime | None = None
    last_heartbeat_at: datetime | None = None
    next_attempt_at: datetime | None = None


class WorkflowDetails(Message):
    """A workflow with its pending activities, and its children counted."""

    workflow: WorkflowReport
    activities: tuple[PendingActivity, ...] = ()
    #: Children that go on now, as the workflow's own history has them.
    children_open: int = 0
    #: All children there were; None where the server cannot count them.
    children: int | None = None


class WorkflowPage(NamedTuple):
    """Workflows, the latest first; `next` leads to those behind them, None where there are none."""

    workflows: list[WorkflowReport]
    next: bytes | None


async def list_workflows(
    platform: Platform,
    *,
    limit: int,
    after: bytes | None = None,
    source: str | None = None,
    state: WorkflowState | None = None,
    since: datetime | None = None,
) -> WorkflowPage:
    """A page of this platform's workflows, those that go on among them; lags behind by a second.

    `source` takes all its connections; `since` is inclusive, by the start.

    Raises:
        ConfigurationError: `after` is no `next` of such a list, or `source` no name.
        ETLError: as `Platform.client`.
    """
    query = _filter(platform, source, state, since)
    token = None if after is None else _token_of(after, query)
    client = await platform.client()
    listed = client.list_workflows(
        query, page_size=limit, next_page_token=token, rpc_timeout=PATIENCE
    )
    with translated_errors():
        await listed.fetch_next_page(page_size=limit)
    found = [_report(platform, client, execution) for execution in listed.current_page or ()]
    token = listed.next_page_token
    return WorkflowPage(found, _digest(token, query) + token if token else None)


def _digest(token: bytes, query: str) -> bytes:
    return hashlib.blake2b(token + query.encode(), digest_size=_DIGEST_BYTES).digest()


def _token_of(after: bytes, query: str) -> bytes:
    """The server's token in a `next`: of any other, the server would say that it has failed."""
    digest, token = after[:_DIGEST_BYTES], after[_DIGEST_BYTES:]
    if digest != _digest(token, query):
        raise ConfigurationError(
            "after: is no cursor of this list, or of one with other filters: take the `next` of "
            "its last answer"
        )
    return token


def _filter(
    platform: Platform,
    source: str | None,
    state: WorkflowState | None,
    since: datetime | None,
) -> str:
    """The list filter; every value in it is one of ours, or has been checked."""
    settings = platform.settings
    queues = ", ".join(_literal(queue) for queue in (settings.queuer_queue, settings.worker_queue))
    parts = [
        f"WorkflowType IN ({', '.join(map(_literal, _TYPES))})",
        f"TaskQueue IN ({queues})",
        # Of one that went on as new, the last run is listed.
        "ExecutionStatus != 'ContinuedAsNew'",
    ]
    if state == "running":
        parts.append(OPEN_WORKFLOWS)
    elif state is not None:
        status = _STATES[state]
        parts.append(f"ExecutionStatus = {_literal(_FILTERED.get(status, status.capitalize()))}")
    if source is not None:
        if not source.replace("_", "").isalnum() or not source.isascii():
            raise ConfigurationError(f"source {source!r} is no name of a source")
        starts = (
            f"WorkflowId STARTS_WITH {_literal(f'{prefix}{source}{end}')}"
            for prefix in (names.SCHEDULED_RUN_PREFIX, names.job_workflow_id(""), "")
            for end in ("-", "@", ":")
        )
        parts.append(f"({' OR '.join(starts)})")
    if since is not None:
        parts.append(f"StartTime >= {_literal(since.astimezone(UTC).isoformat())}")
    return " AND ".join(parts)


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


async def show_workflow(platform: Platform, name: str) -> WorkflowDetails:
    """A workflow of this platform, by its id, or that of its batch or job.

    Raises:
        NotFoundError: Temporal has none of that name, or it is not the platform's.
        ETLError: as `Platform.client`.
    """
    client = await platform.client()
    found = await find_workflow(platform, name)
    if found is None or found.workflow_type not in _TYPES:
        raise NotFoundError(
            f"no workflow of the platform is called {name!r}: Temporal forgets those that ended "
            "after a while; the ledger keeps the runs"
        )
    raw = found.raw_description
    return WorkflowDetails(
        workflow=_report(platform, client, found),
        activities=tuple([await _activity(client, one) for one in raw.pending_activities]),
        children_open=len(raw.pending_children),
        children=await _children(client, found),
    )


async def _children(client: Client, found: WorkflowExecutionDescription) -> int | None:
    query = f"ParentWorkflowId = {_literal(found.id)} AND ExecutionStatus != 'ContinuedAsNew'"
    try:
        return (await client.count_workflows(query, rpc_timeout=PATIENCE)).count
    except RPCError:
        # An older server has no such attribute.
        return None


def _report(platform: Platform, client: Client, found: WorkflowExecution) -> WorkflowReport:
    ui = platform.settings.ui_address
    path = f"namespaces/{quote(client.namespace, safe='')}/workflows/{quote(found.id, safe='')}"
    return WorkflowReport(
        workflow_id=found.id,
        run_id=found.run_id,
        kind=_TYPES[found.workflow_type],
        workflow_type=found.workflow_type,
        task_queue=found.task_queue,
        state=end_of(found) or "running",
        started_at=found.start_time,
        closed_at=found.close_time,
        history_events=found.history_length,
        parent_workflow_id=found.parent_id,
        ui_url=f"{ui}/{path}/{found.run_id}" if ui else None,
    )


_PENDING: dict[int, Literal["started", "cancelling", "paused"]] = {
    PendingActivityState.PENDING_ACTIVITY_STATE_STARTED: "started",
    PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED: "cancelling",
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSED: "paused",
    PendingActivityState.PENDING_ACTIVITY_STATE_PAUSE_REQUESTED: "paused",
}


async def _activity(client: Client, pending: PendingActivityInfo) -> PendingActivity:
    trouble = await trouble_in(client, pending)
    failure = None
    if pending.HasField("last_failure"):
        failure = await failure_message(client, pending.last_failure)
    shown = trouble or failure
    state = _PENDING.get(pending.state)
    return PendingActivity(
        activity=pending.activity_type.name,
        state=state or "scheduled",
        attempt=pending.attempt,
        last_failure=None if shown is None else redacted(shown),
        last_started_at=_time(pending, "last_started_time"),
        last_heartbeat_at=_time(pending, "last_heartbeat_time"),
        next_attempt_at=_time(pending, "scheduled_time") if state is None else None,
    )


def _time(pending: PendingActivityInfo, name: str) -> datetime | None:
    if not pending.HasField(name):  # type: ignore[arg-type]
        return None
    found: Timestamp = getattr(pending, name)
    return found.ToDatetime(tzinfo=UTC)
