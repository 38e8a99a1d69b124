"""The backlog of source `trino`: the window of each stream, and the length of its slices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from pydantic import Field, PositiveInt

from temporaletl import Plan, Query, Window, params_method
from temporaletl.external.threads import Begun
from temporaletl.external.trino.access import TrinoSettings
from temporaletl.external.trino.account import trino_account
from temporaletl.external.trino.order import outer_times
from temporaletl.external.trino.server import Parameter, TrinoServer, open_trino
from temporaletl.external.trino.streams import Streams, Value, load_streams, stream_names
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
    first: datetime | None = None  # where slices begin if the window has no start
    last: datetime | None = None  # behind it is nothing yet: that is one slice


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
    """Plan the windows; queries Trino for where slices begin and end, if that is not known.

    Raises:
        ConfigurationError: a parameter, a setting or a stream is wrong.
        ETLError: as `temporaletl.external.trino.server.Statement.fetch`.
    """
    params = TrinoParams.from_dict(plan.metadata.params)
    streams = load_streams()
    server = open_trino(TrinoSettings.load())
    shares: dict[str, Share] = {}
    ends: dict[str, Begun[tuple[datetime | None, datetime | None]]] = {}
    for name, window in plan.windows.items():
        stream = streams.get(name)
        stream.bound(window, params.parameters)  # refuses what does not fit, before any job
        if window.start is not None and window.start == window.end:
            continue
        if plan.metadata.mode == "incremental" and window.start is not None:
            window = Window(start=window.start - stream.overlap, end=window.end)  # noqa: PLW2901
        length = timedelta(hours=stream.slice_hours) if stream.slice_hours else None
        if length is not None and window.start is None:
            sql, values = stream.bound(Window(), params.parameters)
            column = stream.ordered_by(plan.metadata.mode)
            of_stream = streams.described(name)
            ends[name] = server.begin(_ends, server, sql, values, column, of_stream)
        shares[name] = Share(window, length)
    for name, found in ends.items():
        first, last = found.result()
        shares[name] = replace(shares[name], first=first, last=last)
    return Backlog(shares)


def _ends(
    server: TrinoServer, sql: str, values: Sequence[Parameter], column: str, name: str
) -> tuple[datetime | None, datetime | None]:
    earliest, latest = map(_time, outer_times(server, sql, values, column, name=name))
    return earliest, latest


def _time(text: str | None) -> datetime | None:
    try:
        return None if text is None else utc_timestamp(text)
    except ValueError:
        return None  # of no year that Python knows: one slice holds it
