"""The jobs of source `trino`: one for each slice of a stream's window."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from pydantic import JsonValue

from temporaletl import ETLInput, Plan, Window, scan_inputs_method, transform_inputs_method
from temporaletl.deletions import FindDeleted
from temporaletl.external.trino.streams import load_streams
from temporaletl.queuer.sources.trino.params import SOURCE, Backlog, Share, TrinoParams

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@transform_inputs_method(SOURCE)
def expand(plan: Plan, backlog: Backlog) -> Iterator[ETLInput]:
    """Plan one job for each slice, oldest first."""
    for stream, share in backlog.shares.items():
        for window in slices(share):
            yield plan.job(stream, window)


def _find_deleted(stream: str) -> FindDeleted:
    return "always" if load_streams().get(stream).find_deleted else "never"


@scan_inputs_method(SOURCE, find_deleted=_find_deleted)
def scan_inputs(plan: Plan, _backlog: Backlog, _stream: str) -> Mapping[str, JsonValue] | None:
    """The query of the deletion scan; None with parameters of the run, which select other rows."""
    return None if TrinoParams.from_dict(plan.metadata.params).parameters else {}


def slices(share: Share) -> Iterator[Window]:
    """Cut a window; none of the slices overlap, and nothing lies between them.

    The last one has all that is behind the last row: what comes there later is in it, too.
    """
    start, end, length = share.window.start, share.window.end, share.slice_length
    begin = start or share.first
    if length is None or begin is None or end is None:
        yield share.window
        return
    bound = _EPOCH + (begin - _EPOCH) // length * length + length
    last = end if share.last is None else share.last
    while bound < end and bound <= last:
        yield Window(start=start, end=bound)
        start, bound = bound, bound + length
    yield Window(start=start, end=end)
