"""What the services see: a check runs where they do, with their settings, on each task queue."""

from __future__ import annotations

import asyncio
import uuid
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Literal

from temporaletl import names
from temporaletl.checks.messages import (
    Check,
    QueueAnswer,
    ServiceAnswer,
    ServiceAnswers,
    ServiceCheckRequest,
)
from temporaletl.control.operations.attendance import unattended, unattended_segments
from temporaletl.control.operations.following import failure_message
from temporaletl.control.operations.platform import PATIENCE, Platform, translated_errors
from temporaletl.errors import ETLError, TemporalUnavailableError
from temporaletl.temporal import sdk

if TYPE_CHECKING:
    from temporalio.client import Client, WorkflowHandle

type _Service = Literal["queuer", "worker"]

_TAKEN_WITHIN = timedelta(seconds=10)
#: Longer than a check takes where every part of it takes as long as it may.
_ANSWERED_WITHIN = timedelta(seconds=60)
#: In the failure of a workflow task of a service that does not have the workflow.
_UNREGISTERED = "is not registered"
_OLDER = (
    "a {service} of an earlier version polls task queue {queue}: it runs, and cannot be asked what "
    "it sees; start it anew with this version"
)
_NOT_TAKEN = (
    "no {service} took a check from task queue {queue} in time: those that poll it are busy, or "
    "they have just ended"
)


async def ask_services(platform: Platform, source: str, connection: str) -> list[Check]:
    """Ask a process of each service whether it has what a source's connection needs.

    A queue that nobody polls, or that a service of an earlier version does, is noted. No wait is
    longer than a minute.

    Raises:
        ETLError: Temporal does not answer, or refuses.
    """
    settings = platform.settings
    asked = await asyncio.gather(
        _ask(platform, "queuer", settings.queuer_queue, source, connection),
        _ask(platform, "worker", settings.worker_queue, source, connection),
    )
    return [check for checks in asked for check in checks]


async def _ask(
    platform: Platform, service: _Service, queue: str, source: str, connection: str
) -> list[Check]:
    client = await platform.client()
    if (missing := await unattended(client, service, queue)) is not None:
        return [_noted(service, missing)]
    queues, checks = [queue], []
    if service == "worker":
        own, missing = await unattended_segments(client, queue, source)
        if missing is not None:
            checks.append(_noted(service, missing))
        elif own is not None:
            queues.append(own)
    request = ServiceCheckRequest(source=source, connection=connection, queues=tuple(queues))
    try:
        answers = await _answers(client, service, request)
    except ETLError as error:
        return [*checks, Check(name=service, verdict="wrong", detail=str(error))]
    if isinstance(answers, str):
        return [*checks, _noted(service, answers)]
    return [*checks, *_read(service, answers)]


async def _answers(
    client: Client, service: _Service, request: ServiceCheckRequest
) -> ServiceAnswers | str:
    """The answers of all queues; or why there are none."""
    queue = request.queues[0]
    with translated_errors():
        handle: WorkflowHandle[object, ServiceAnswers] = await client.start_workflow(
            names.CHECK_FLOW,
            request,
            id=names.check_workflow_id(
                request.source, request.connection, service, uuid.uuid4().hex
            ),
            task_queue=queue,
            execution_timeout=_ANSWERED_WITHIN,
            result_type=ServiceAnswers,
            rpc_timeout=PATIENCE,
        )
        said = await _result(client, handle)
    if isinstance(said, ServiceAnswers):
        return said
    if said is None:
        return _NOT_TAKEN.format(service=service, queue=queue)
    if _UNREGISTERED in said:
        return _OLDER.format(service=service, queue=queue)
    return f"it cannot be asked what it sees: {said}"


async def _result(
    client: Client, handle: WorkflowHandle[object, ServiceAnswers]
) -> ServiceAnswers | str | None:
    """The workflow's result; why the service cannot execute it; or None: nobody took it in time.

    Raises:
        RPCError, TemporalUnavailableError: Temporal no longer answers.
    """
    taken = asyncio.Event()
    result = asyncio.create_task(handle.result())
    refusal = asyncio.create_task(_refusal(client, handle, taken))
    begun = asyncio.create_task(taken.wait())
    try:
        await asyncio.wait(
            {result, refusal, begun},
            timeout=_TAKEN_WITHIN.total_seconds(),
            return_when=asyncio.FIRST_COMPLETED,
        )
        if begun.done():
            await asyncio.wait(
                {result, refusal},
                timeout=_ANSWERED_WITHIN.total_seconds(),
                return_when=asyncio.FIRST_COMPLETED,
            )
        said = refusal.result() if refusal.done() else None
        # The history may be read later than the result, which stands whatever has been read of it.
        unanswered = not result.done() and (said is not None or not begun.done())
        if unanswered and await _terminated(handle):
            return said
        # Its workflow has ended by now: a server that does not say how, answers no more.
        async with asyncio.timeout(PATIENCE.total_seconds()):
            return await result
    except TimeoutError:
        raise TemporalUnavailableError("Temporal no longer answers about the check") from None
    except sdk.WorkflowFailureError:
        return None  # its time was over
    finally:
        for task in (result, refusal, begun):
            task.cancel()
        await asyncio.gather(result, refusal, begun, return_exceptions=True)


async def _terminated(handle: WorkflowHandle[object, ServiceAnswers]) -> bool:
    """Terminate a check that nobody answers; False if it has ended by itself meanwhile."""
    try:
        await handle.terminate("nobody waits for its answer any more", rpc_timeout=PATIENCE)
    except sdk.RPCError as error:
        if error.status != sdk.RPCStatusCode.NOT_FOUND:
            raise
        return False
    return True


async def _refusal(
    client: Client, handle: WorkflowHandle[object, ServiceAnswers], taken: asyncio.Event
) -> str | None:
    """Why the service cannot execute the workflow, once it has tried; None: the workflow ended."""
    async for event in handle.fetch_history_events(wait_new_event=True):
        if event.HasField("workflow_task_started_event_attributes"):
            taken.set()
        if event.HasField("workflow_task_failed_event_attributes"):
            failure = event.workflow_task_failed_event_attributes.failure
            return await failure_message(client, failure)
    return None


def _read(service: _Service, answers: ServiceAnswers) -> list[Check]:
    """The answers in lines: one for a process that has all it needs, and one for each fault."""
    found: list[Check] = []
    queues: dict[str, list[str]] = {}
    processes: dict[str, ServiceAnswer] = {}
    for one in answers.queues:
        if one.answer is None:
            found.append(_silent(service, one))
        else:
            processes.setdefault(one.answer.process, one.answer)
            queues.setdefault(one.answer.process, []).append(one.queue)
    return [
        check
        for process, answer in processes.items()
        for check in _seen(answer, " and ".join(queues[process]))
    ] + found


def _silent(service: _Service, one: QueueAnswer) -> Check:
    match one.silence:
        case "older version":
            return _noted(service, _OLDER.format(service=service, queue=one.queue))
        case "failed":
            detail = f"the check on task queue {one.queue} failed: {one.reason}"
            return Check(name=service, verdict="wrong", detail=detail)
        case _:
            return _noted(service, _NOT_TAKEN.format(service=service, queue=one.queue))


def _seen(answer: ServiceAnswer, queues: str) -> list[Check]:
    whose = f"version {answer.version}, process {answer.process}, task queue {queues}"
    well = [f"{one.name}: {one.detail}" for one in answer.checks if one.verdict == "ok"]
    found = [Check(name=answer.service, verdict="ok", detail="; ".join((whose, *well)))]
    if answer.version != (own := version("temporaletl")):
        detail = f"{answer.process} is of version {answer.version}, and this command of {own}"
        found.append(_noted(answer.service, detail))
    return found + [
        one.model_copy(update={"name": f"{answer.service} {one.name}"})
        for one in answer.checks
        if one.verdict != "ok"
    ]


def _noted(service: str, detail: str) -> Check:
    return Check(name=service, verdict="note", detail=detail)
