"""`etl state`: output of sync states, and of changed watermarks."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import JsonValue

from temporaletl.control.cli.output import note, print_fields, print_json, say, show_time
from temporaletl.control.cli.session import call
from temporaletl.control.operations import state as operations
from temporaletl.control.operations.state import StreamState, ahead_of_clock
from temporaletl.names import label


def print_states(
    source: str, streams: Sequence[str], connection: str | None, *, as_json: bool
) -> None:
    """Show the states of a source, also of one that is no longer registered."""
    found = call(operations.read_state, source, streams, connection=connection)
    if as_json:
        print_json([_document(state) for state in found.streams])
        return
    for blocked in found.blocked:
        note(str(blocked), style="yellow")
    if not found.streams:
        what = source if connection is None else label(source, connection)
        say(f"{what} has never been loaded: the next run begins at the beginning")
        return
    for stream in found.streams:
        state = stream.sync
        say(f"{label(source, state.connection)} {state.stream}")
        print_fields(
            [
                ("loaded up to", show_time(state.watermark) if state.watermark else "nothing yet"),
                ("filters", _filters(state.scope)),
                ("last full", state.last_full_at),
                ("last incremental", state.last_incremental_at),
                ("last batch", state.batch_id),
                ("its records", state.records if state.batch_id else None),
                ("state", state.state),
            ]
        )
        if stream.ahead:
            note(ahead_of_clock(state), style="yellow")


def _filters(scope: Mapping[str, JsonValue] | None) -> str | None:
    """What the watermark stands for, where that is not everything."""
    return ", ".join(f"{name}={value}" for name, value in scope.items()) if scope else None


def unblock(source: str, connection: str) -> None:
    """End the cool-down of a connection; watermarks stay."""
    lifted = call(operations.unblock, source, connection=connection)
    if lifted is None:
        say(f"{label(source, connection)} is not rate-limited: there is no cool-down to end")
    else:
        _say_unblocked(label(source, connection), lifted.running)


def _say_unblocked(what: str, waiting: Sequence[str]) -> None:
    say(f"{what} is no longer rate-limited")
    for workflow_id in waiting:
        note(
            f"a job of {workflow_id} that waits already does so to its end: `etl pause "
            f"{workflow_id}`, then `etl resume {workflow_id}` wakes it",
            style="yellow",
        )


def put(source: str, streams: Sequence[str], connection: str, watermark: datetime | None) -> None:
    """Put the watermark of the streams, of all where none is named; None begins anew."""
    moved = call(operations.move_watermark, source, streams, watermark, connection=connection)
    what = label(source, connection)
    where = show_time(watermark) if watermark else "the beginning"
    for stream in moved.streams:
        say(f"{what} {stream}: the next incremental run begins at {where}")
    if moved.unblocked:
        _say_unblocked(what, moved.running)
    for workflow_id in moved.running:
        note(
            f"{workflow_id} goes on and will move this forward when it completes",
            style="yellow",
        )


def _document(state: StreamState) -> dict[str, object]:
    fields = dataclasses.asdict(state.sync) | {
        "ahead": state.ahead,
        "closed_until": state.blocked_until,
    }
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in fields.items()
    }
