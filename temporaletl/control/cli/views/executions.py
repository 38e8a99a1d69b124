"""`etl pipeline run|status|executions|…`: output of executions."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from pydantic import JsonValue

from temporaletl.command import FAILED, INTERRUPTED, print_interrupted
from temporaletl.control.cli.output import (
    STATE_STYLES,
    add_row,
    make_table,
    note,
    print_json,
    print_table,
    say,
    show_time,
)
from temporaletl.control.cli.session import Session, call, open_session, run_to_end
from temporaletl.control.cli.views.pipelines import valid_document
from temporaletl.control.operations.execution_details import (
    ExecutionDetails,
    NodeDetails,
    execution_details,
)
from temporaletl.control.operations.executions import (
    ExecutionAction,
    Resumption,
    Started,
    control_execution,
    decide,
    find_executions,
    read_node_result,
    start_execution,
)
from temporaletl.control.operations.following import SILENCE, LostSightError
from temporaletl.errors import ConfigurationError, RetryableError
from temporaletl.warehouse.pipeline_executions import (
    ENDED,
    ExecutionFilter,
)
from temporaletl.worker.pipelines.messages import ExecutionInput

_BETWEEN_LOOKS_SECONDS = 0.5


@dataclass(frozen=True)
class Requested:
    """What a command wants executed."""

    request: ExecutionInput
    resumption: Resumption | None


def read_request(
    what: str | None,
    given: str,
    resumed: str | None,
    node: str | None,
    *,
    latest: bool,
    failed_items: bool,
) -> Requested:
    """What the arguments of `etl pipeline run` ask for.

    Raises:
        ConfigurationError: they do not go together, or the file or the input cannot be read.
    """
    if resumed is None and (node is not None or latest or failed_items):
        raise ConfigurationError(
            "--node, --latest and --failed-items go with --from: the execution to go on from"
        )
    if (what is None) == (resumed is None):
        raise ConfigurationError(
            "name a file or a stored pipeline, or an execution to go on from with --from"
        )
    if resumed is not None:
        resumption = Resumption(resumed, node, "latest" if latest else "same", failed_items)
        return Requested(ExecutionInput(), resumption)
    value = read_input(given)
    file = Path(what or "")
    if not file.is_file():
        name, _, number = (what or "").partition("@")
        if file.suffix in {".yaml", ".yml", ".json"}:
            raise ConfigurationError(f"there is no file {what}")
        return Requested(ExecutionInput(pipeline=name, version=number or None, input=value), None)
    return Requested(ExecutionInput(definition=valid_document(file), input=value), None)


def read_input(text: str) -> JsonValue:
    """The input that an option gives: JSON, or `@` and the file that has it.

    Raises:
        ConfigurationError: it is none, or the file cannot be read.
    """
    if text.startswith("@"):
        try:
            text = Path(text[1:]).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"--input: {error}") from None
    try:
        value: JsonValue = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"--input is no JSON: {error}") from None
    return value


def start(requested: Requested, *, wait: bool, as_json: bool) -> int:
    """Start an execution, and wait for its end where that is wanted; 1 where it failed."""
    execution_id: str | None = None

    async def run() -> int:
        nonlocal execution_id
        async with open_session() as session:
            started = await session.call(
                start_execution,
                requested.request,
                how="command",
                resumption=requested.resumption,
            )
            execution_id = started.execution_id
            if not wait:
                _say_started(started, as_json=as_json)
                return 0
            if not as_json:
                note(f"execution {execution_id}")
            details = await _ended(session, execution_id, quiet=as_json)
            _print(details, as_json=as_json)
            return 0 if details.execution.state == "completed" else FAILED

    try:
        return run_to_end(run)
    except KeyboardInterrupt:
        print_interrupted(
            "Interrupted before the execution was started."
            if execution_id is None
            else f"No longer waiting; the execution goes on: `etl pipeline status {execution_id}` "
            f"shows it, `etl pipeline cancel {execution_id}` ends it"
        )
        sys.exit(INTERRUPTED)


async def _ended(
    session: Session, execution_id: str, *, quiet: bool, silence: timedelta = SILENCE
) -> ExecutionDetails:
    """Wait for the end of an execution, and say of each node how it ended.

    A server that does not answer is sat out for `silence`: the execution goes on meanwhile.

    Raises:
        LostSightError: it has not answered for so long.
    """
    told: set[str] = set()
    silent_since: float | None = None
    while True:
        try:
            details = await session.call(execution_details, execution_id)
        except RetryableError as error:
            now = time.monotonic()
            if silent_since is None:
                silent_since = now
                if not quiet:
                    note(f"waiting: {error}", style="yellow")
            if now - silent_since >= silence.total_seconds():
                raise LostSightError(
                    f"{error}; that does not end the execution: `etl pipeline status "
                    f"{execution_id}` shows it later"
                ) from None
            await asyncio.sleep(_BETWEEN_LOOKS_SECONDS)
            continue
        silent_since = None
        for node in details.nodes:
            ended = node.record is not None and node.record.ended_at is not None
            if ended and node.id not in told and not quiet:
                told.add(node.id)
                note(f"  {node.id} {node.state}", style=STATE_STYLES.get(node.state))
        if details.execution.state in ENDED:
            return details
        await asyncio.sleep(_BETWEEN_LOOKS_SECONDS)


def _say_started(started: Started, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "execution_id": started.execution_id,
                "pipeline": started.pipeline,
                "version": started.version,
            }
        )
        return
    say(f"execution {started.execution_id}")
    note(f"`etl pipeline status {started.execution_id}` shows it")


def print_execution(execution_id: str, *, as_json: bool) -> int:
    """Print an execution and its nodes; 1 where it failed."""
    details = call(execution_details, execution_id)
    _print(details, as_json=as_json)
    return FAILED if details.execution.state in ("failed", "timed_out") else 0


def _print(details: ExecutionDetails, *, as_json: bool) -> None:
    if as_json:
        print_json(_document(details))
        return
    execution = details.execution
    of = f"{execution.pipeline} {execution.sha256[:12]}" if execution.pipeline else "a definition"
    say(f"{execution.execution_id}: {details.state} ({of})", STATE_STYLES.get(details.state))
    if not details.answered:
        note("its workflow does not answer: this is what the warehouse knows", style="yellow")
    table = make_table("node", "type", "state", "took", "result", "error", below=("error",))
    for node in details.nodes:
        error = (node.record.error or {}).get("message", "") if node.record else ""
        add_row(table, node.id, node.type, _state(node), _took(node), _size(node), str(error))
    print_table(table)
    if execution.error:
        say(f"failed at {execution.error_node or 'its start'}: {execution.error}", "red")


def _state(node: NodeDetails) -> str:
    attempts = node.record.attempts if node.record else 0
    again = f" ({attempts} attempts)" if attempts > 1 else ""
    taken = node.record.recorded_by if node.record else None
    return f"{node.state}{again}{' (taken over)' if taken else ''}"


def _took(node: NodeDetails) -> str:
    return "" if node.duration is None else f"{node.duration.total_seconds():.1f} s"


def _size(node: NodeDetails) -> str:
    record = node.record
    if record is None or record.result_bytes is None:
        return ""
    size = f"{record.result_bytes:,} B"
    if record.result_items is not None:
        size = f"{record.result_items:,} items"
    return f"{size}, {node.model_tokens}" if node.model_tokens else size


def _document(details: ExecutionDetails) -> dict[str, JsonValue]:
    execution = details.execution.model_dump(mode="json", exclude={"document", "timeout"})
    nodes: list[JsonValue] = [
        {
            "id": node.id,
            "type": node.type,
            "state": node.state,
            "attempts": node.record.attempts if node.record else 0,
            "seconds": None if node.duration is None else round(node.duration.total_seconds(), 3),
            "result_bytes": node.record.result_bytes if node.record else None,
            "result_items": node.record.result_items if node.record else None,
            "error": node.record.error if node.record else None,
            "details": node.record.details if node.record else None,
        }
        for node in details.nodes
    ]
    return {**execution, "state": details.state, "nodes": nodes}


def print_executions(pipeline: str | None, limit: int, *, as_json: bool) -> None:
    """List executions, the latest first."""
    found = call(find_executions, ExecutionFilter(pipeline=pipeline, limit=limit))
    if as_json:
        print_json([one._asdict() for one in found])
        return
    if not found:
        say("No execution yet: `etl pipeline run FILE` starts one.")
        return
    table = make_table("execution", "state", "nodes", "started", "error", below=("error",))
    for one in found:
        error = f"{one.error_node}: {one.error}" if one.error_node else one.error or ""
        nodes = f"{one.nodes}/{one.of}"
        add_row(table, one.execution_id, one.state, nodes, show_time(one.created_at), error)
    print_table(table)


def print_result(execution_id: str, node: str) -> None:
    """Print what a node gave."""
    print_json(call(read_node_result, execution_id, node))


def print_decision(execution_id: str, node: str, outcome: str, comment: str | None) -> None:
    """Decide what a node waits for, and say whether that is what stands."""
    first = call(decide, execution_id, node, outcome, comment=comment)
    say(f"{node}: {outcome}" if first else f"{node} had been decided before: that stands")


def control(execution_id: str, action: ExecutionAction) -> None:
    """Pause, resume or cancel an execution, and say what it does from then on."""
    answer = call(control_execution, execution_id, action)
    say(f"{execution_id}: {answer.state}")
