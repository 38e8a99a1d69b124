"""`etl pipeline run --dry-run`: output of what each node would do, and of what it gives."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import JsonValue

from temporaletl.command import FAILED
from temporaletl.control.cli.output import STATE_STYLES, cut_off, note, print_json, say
from temporaletl.control.cli.session import call
from temporaletl.control.cli.views.executions import read_input
from temporaletl.control.cli.views.stored_pipelines import document_of
from temporaletl.control.operations.dry_runs import (
    DryNode,
    DryRun,
    Pin,
    dry_run,
    is_recorded,
    parse_pins,
    recorded_pin,
)
from temporaletl.control.operations.execution_details import execution_details
from temporaletl.control.operations.executions import read_node_result
from temporaletl.errors import ConfigurationError
from temporaletl.telemetry.logs import quiet_logs
from temporaletl.worker.pipelines.documents import read_json, read_yaml
from temporaletl.worker.pipelines.validation import Pipeline, validate

_FILES = (".json", ".yaml", ".yml")
_LONGEST_LINE = 2_000


def run(
    what: str | None,
    given: str,
    pinned: Sequence[str],
    *,
    limit: int,
    unmeant: bool,
    as_json: bool,
) -> int:
    """Run a definition without effects, and print its nodes; 1 where it did not come to its end.

    Raises:
        ConfigurationError: the arguments do not go together, or a file or a pin is wrong.
    """
    if unmeant or what is None:
        raise ConfigurationError(
            "--dry-run takes a file or a stored pipeline, with --input, --pin, --limit and --json"
        )
    quiet_logs()
    value = read_input(given)
    pipeline = validate(document_of(what))
    pins: dict[str, Pin] = {}
    for one in pinned:
        pins.update(_pins(one, pipeline))
    ended = asyncio.run(dry_run(pipeline, value, pins, most_shown=limit))
    if as_json:
        print_json({"state": ended.state, "nodes": [_document(node) for node in ended.nodes]})
    else:
        _print(ended)
    return 0 if ended.state == "completed" else FAILED


def _pins(text: str, pipeline: Pipeline) -> dict[str, Pin]:
    """The pins of a file, or of an execution."""
    file = Path(text)
    if not file.is_file():
        if file.suffix in _FILES:
            raise ConfigurationError(f"--pin: there is no file {text}")
        return _recorded(text, pipeline)
    try:
        content = file.read_text("utf-8")
        document = read_json(content) if file.suffix == ".json" else read_yaml(content)
        return parse_pins(document.value)
    except (OSError, UnicodeDecodeError, ConfigurationError) as error:
        raise ConfigurationError(f"{file}: {error}") from None


def _recorded(execution_id: str, pipeline: Pipeline) -> dict[str, Pin]:
    records = [one.record for one in call(execution_details, execution_id).nodes if one.record]
    return {
        one.node: recorded_pin(one, call(read_node_result, execution_id, one.node))
        for one in records
        if is_recorded(one, pipeline)
    }


def _print(ended: DryRun) -> None:
    for node in ended.nodes:
        say(f"{node.id} ({node.type}): {_became(node)}", STATE_STYLES.get(node.state))
        if node.would is not None:
            say(f"  would: {_text(dict(node.would))}")
        if node.error is not None:
            say(f"  error: {node.error.message}", "red")
        elif node.state == "completed":
            say(f"  result: {_text(node.result)}")
    note(f"dry run {ended.state}: nothing was sent or written", style="dim")


def _became(node: DryNode) -> str:
    outcome = ", ".join(one for one in node.handles if one is not None)
    if node.needs_pin:
        return "needs a pin to go on"
    if node.state == "waiting":
        return "waits for a node that needs a pin"
    pinned = ", pinned" if node.pinned else ""
    return f"{node.state}{f' -> {outcome}' if outcome else ''}{pinned}"


def _text(value: JsonValue) -> str:
    return cut_off(json.dumps(value, ensure_ascii=False), _LONGEST_LINE)


def _document(node: DryNode) -> JsonValue:
    return {
        "id": node.id,
        "type": node.type,
        "state": node.state,
        "outcomes": [*node.handles],
        "result": node.result,
        "would": None if node.would is None else dict(node.would),
        "error": None if node.error is None else node.error.message,
        "pinned": node.pinned,
        "needs_pin": node.needs_pin,
    }
