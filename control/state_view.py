"""`etl state`: shows and moves the watermarks."""

import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime

from control import batches
from control.output import note, print_fields, print_json, say, show_time
from control.servers import open_warehouse, prepare
from control.sources import find_source, known_planners
from temporaletl.errors import ConfigurationError
from temporaletl.warehouse.state import read_states, set_watermark

_CONNECTION = "default"
_LOOKED_AT = 50


def print_states(source: str, streams: Sequence[str], *, as_json: bool) -> None:
    """Show the states of a source, also of one that is no longer registered."""
    prepare()
    planners = known_planners()
    with open_warehouse() as warehouse:
        states = read_states(warehouse, source)
    if source in planners or not states:
        _check_streams(source, streams)
    if streams:
        states = [state for state in states if state.stream in streams]
    if as_json:
        print_json([_document(dataclasses.asdict(state)) for state in states])
        return
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


def _over(connection: str) -> str:
    return "" if connection == _CONNECTION else f" over connection {connection}"


def put(source: str, streams: Sequence[str], watermark: datetime | None) -> None:
    """Put the watermark of the streams, of all where none is named; None begins anew."""
    prepare()
    chosen = _check_streams(source, streams)
    if watermark is not None and watermark > datetime.now(UTC):
        raise ConfigurationError(
            f"--watermark {watermark.isoformat()} lies in the future: what happens until then "
            f"would never be loaded"
        )
    with open_warehouse() as warehouse:
        for stream in chosen:
            set_watermark(warehouse, source, stream, _CONNECTION, watermark)
        running = [
            batch
            for batch in batches.recent_batches(warehouse, limit=_LOOKED_AT, source=source)
            if batch.ended_at is None
        ]
    where = show_time(watermark) if watermark else "the beginning"
    for stream in chosen:
        say(f"{source} {stream}: the next incremental run begins at {where}")
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
