"""`etl state`: shows and moves the watermarks."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime

from control import batches
from control.output import note, print_fields, print_json, say, show_time
from control.servers import open_warehouse, prepare, present
from control.sources import find_source, known_planners
from temporaletl.errors import ConfigurationError
from temporaletl.warehouse.budget import closures, open_source
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.state import SyncState, read_states, set_watermark, watermarks_ahead

_CONNECTION = "default"
_LOOKED_AT = 50


def print_states(source: str, streams: Sequence[str], *, as_json: bool) -> None:
    """Show the states of a source, also of one that is no longer registered."""
    prepare()
    planners = known_planners()
    with open_warehouse() as warehouse:
        states = read_states(warehouse, source)
        ahead = {(s.stream, s.connection) for s in watermarks_ahead(warehouse, source)}
        closed = {closure.connection: closure for closure in closures(warehouse, source)}
    if source in planners or not states:
        _check_streams(source, streams)
    if streams:
        states = [state for state in states if state.stream in streams]
    if as_json:
        print_json(
            [
                _document(
                    dataclasses.asdict(state)
                    | {
                        "ahead": (state.stream, state.connection) in ahead,
                        "closed_until": (
                            closed[state.connection].until if state.connection in closed else None
                        ),
                    }
                )
                for state in states
            ]
        )
        return
    for closure in closed.values():
        note(f"{closure}{_over(closure.connection)}", style="yellow")
    if not states:
        say(f"{source} has never been loaded: the next run begins at the beginning")
        return
    for state in states:
        say(f"{source} {state.stream}{_over(state.connection)}")
        print_fields(
            [
                ("loaded up to", show_time(state.watermark) if state.watermark else "nothing yet"),
                ("last full", state.last_full_at),
                ("last incremental", state.last_incremental_at),
                ("last batch", state.batch_id),
                ("its records", state.records if state.batch_id else None),
                ("state", state.state),
            ]
        )
        if (state.stream, state.connection) in ahead:
            note(ahead_of_clock(state), style="yellow")


def ahead_of_clock(state: SyncState) -> str:
    """What to do about a watermark that a wrong clock moved."""
    return (
        f"{state.source} {state.stream}: the watermark {show_time(state.watermark)} is ahead of "
        f"the warehouse's clock, where a wrong clock must have moved it: `etl state set "
        f"{state.source} --watermark DATE` puts it back to when all was well"
    )


def _over(connection: str) -> str:
    return "" if connection == _CONNECTION else f" over connection {connection}"


def unblock(source: str) -> None:
    """Let a source that asked to be left alone be asked again; watermarks stay."""
    prepare()
    find_source(source)
    with open_warehouse() as warehouse:
        opened = open_source(warehouse, source)
        waiting = _running(warehouse, source) if opened else []
    if not opened:
        say(f"{source} is not closed: nothing keeps runs from asking it")
        return
    _say_opened(source, waiting)


def _say_opened(source: str, waiting: Sequence[batches.BatchReport]) -> None:
    say(f"{source} may be asked again at once")
    for batch in waiting:
        note(
            f"a job of {batch.workflow_id} that waits already does so to its end: `etl pause "
            f"{batch.workflow_id}`, then `etl resume {batch.workflow_id}` wakes it",
            style="yellow",
        )


def _running(warehouse: Warehouse, source: str) -> list[batches.BatchReport]:
    return [
        batch
        for batch in batches.recent_batches(warehouse, limit=_LOOKED_AT, source=source)
        if batch.ended_at is None
    ]


def put(source: str, streams: Sequence[str], watermark: datetime | None) -> None:
    """Put the watermark of the streams, of all where none is named; None begins anew.

    To begin anew, a source that asked to be left alone is asked again.
    """
    prepare()
    chosen = _check_streams(source, streams)
    if watermark is not None and watermark > present():
        raise ConfigurationError(
            f"--watermark {watermark.isoformat()} lies in the future: what happens until then "
            f"would never be loaded"
        )
    with open_warehouse() as warehouse:
        for stream in chosen:
            set_watermark(warehouse, source, stream, _CONNECTION, watermark)
        running = _running(warehouse, source)
        opened = watermark is None and open_source(warehouse, source)
    where = show_time(watermark) if watermark else "the beginning"
    for stream in chosen:
        say(f"{source} {stream}: the next incremental run begins at {where}")
    if opened:
        _say_opened(source, running)
    for batch in running:
        note(
            f"{batch.workflow_id} goes on and will move this forward when it completes",
            style="yellow",
        )


def _check_streams(source: str, streams: Sequence[str]) -> Sequence[str]:
    known = find_source(source).streams
    for stream in streams:
        if stream not in known:
            raise ConfigurationError(
                f"source {source!r} has no stream {stream!r}; its streams: {', '.join(known)}"
            )
    return streams or known


def _document(fields: dict[str, object]) -> dict[str, object]:
    return {
        name: value.isoformat() if isinstance(value, datetime) else value
        for name, value in fields.items()
    }
