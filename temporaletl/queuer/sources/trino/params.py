"""The backlog of source `trino`: the window of each stream, and the length of its slices."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from pydantic import Field, PositiveInt

from temporaletl import Plan, Query, Window, params_method
from temporaletl.external.trino.access import TrinoSettings
from temporaletl.external.trino.account import trino_account
from temporaletl.external.trino.order import outer_times
from temporaletl.external.trino.server import open_trino
from temporaletl.external.trino.streams import Stream, Streams, Value, load_streams, stream_names
from temporaletl.external.trino.values import utc_timestamp

#: Importing it registers it.
ACCOUNT = trino_account
SOURCE = "trino"


class TrinoParams(Query):
    """Parameters of a run: values for the queries' own parameters."""

    parameters: dict[str, Value] = Field(default_factory=dict)
    page_rows: PositiveInt | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """One stream's share of a run. Slices begin at multiples of their length since 1970."""

    window: Window
    slice_length: timedelta | None  # None: all at once
    first: datetime | None  # where slices begin if the window has no start


@dataclass(frozen=True, slots=True)
class Backlog:
    """The shares of a run, by stream."""

    shares: Mapping[str, Share]


def _settings() -> tuple[TrinoSettings, Streams]:
    return TrinoSettings.load(), load_streams()


def _lag() -> timedelta:
    # The watermark moves to the window's end: no stream may be behind it.
    return max(stream.lag for stream in load_streams().streams.values())


# Each stream has an overlap of its own, which the backlog adds.
@params_method(
    SOURCE,
    streams=stream_names,
    overlap=timedelta(0),
    lag=_lag,
    settings=_settings,
    params=TrinoParams,
    filters=("parameters",),
)
def describe(plan: Plan) -> Backlog:
    """Plan the windows; queries Trino for the first slice's start, if that is not known.

    Raises:
        ConfigurationError: a parameter, a setting or a stream is wrong.
        ETLError: as `temporaletl.external.trino.server.Statement.fetch`.
    """
    params = TrinoParams.from_dict(plan.metadata.params)
    streams = load_streams()
    shares: dict[str, Share] = {}
    for name, window in plan.windows.items():
        stream = streams.get(name)
        stream.bound(window, params.parameters)  # refuses what does not fit, before any job
        if window.start is not None and window.start == window.end:
            continue
        if plan.metadata.mode == "incremental" and window.start is not None:
            window = Window(start=window.start - stream.overlap, end=window.end)  # noqa: PLW2901
        length = timedelta(hours=stream.slice_hours) if stream.slice_hours else None
        first = None
        if length is not None and window.start is None:
            first = _first(plan, streams, name, stream, params)
        shares[name] = Share(window, length, first)
    return Backlog(shares)


def _first(
    plan: Plan, streams: Streams, name: str, stream: Stream, params: TrinoParams
) -> datetime | None:
    sql, values = stream.bound(Window(), params.parameters)
    column = stream.ordered_by(plan.metadata.mode)
    server = open_trino(TrinoSettings.load())
    earliest, _ = outer_times(server, sql, values, column, name=streams.described(name))
    try:
        return None if earliest is None else utc_timestamp(earliest)
    except ValueError:
        return None  # before the year 1: one slice holds it all
