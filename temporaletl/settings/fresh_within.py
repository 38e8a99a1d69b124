"""How old the streams of a connection may be: ETL_FRESH_WITHIN_HOURS, parsed.

Of a named connection it is one of its settings, `6` for all its streams, or `6, worklogs=24`; of
the connections of the environment a setting that names them: `jira=6, jira.worklogs=24`.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta

FRESH_WITHIN = "ETL_FRESH_WITHIN_HOURS"
_MOST = timedelta(days=3_650)


@dataclass(frozen=True, slots=True)
class FreshWithin:
    """The ages up to which streams are fresh: of one by its name, else that of all."""

    all_streams: timedelta | None = None
    streams: Mapping[str, timedelta] = field(default_factory=dict)

    def of(self, stream: str) -> timedelta | None:
        """The age up to which a stream is fresh; None where nothing says so."""
        return self.streams.get(stream, self.all_streams)


def parse_fresh_within(text: str) -> FreshWithin:
    """Parse hours for one connection: `6`, `worklogs=24`, or both with a comma.

    Raises:
        ValueError: it is something else, or says a thing twice.
    """
    all_streams: timedelta | None = None
    streams: dict[str, timedelta] = {}
    for name, hours in _entries(text):
        if name:
            streams[name] = hours
        else:
            all_streams = hours
    return FreshWithin(all_streams, streams)


def parse_by_source(text: str) -> dict[str, FreshWithin]:
    """Parse hours for the connections of the environment: `jira=6, jira.worklogs=24`.

    Raises:
        ValueError: as `parse_fresh_within`, or no source is named.
    """
    found: dict[str, FreshWithin] = {}
    for name, hours in _entries(text):
        source, dot, stream = name.partition(".")
        if not source or (dot and not stream):
            raise ValueError("must name sources, as jira=6, or streams, as jira.worklogs=24")
        known = found.get(source, FreshWithin())
        found[source] = (
            FreshWithin(known.all_streams, {**known.streams, stream: hours})
            if stream
            else FreshWithin(hours, known.streams)
        )
    return found


def _entries(text: str) -> Iterator[tuple[str, timedelta]]:
    seen: set[str] = set()
    for part in filter(None, map(str.strip, text.split(","))):
        name, _, number = part.rpartition("=")
        name = name.strip()
        try:
            hours = timedelta(hours=float(number))
        except (ValueError, OverflowError):
            raise ValueError(
                f"{number.strip()!r} is no number of hours, as in 6 or worklogs=24"
            ) from None
        if not timedelta(0) < hours <= _MOST:
            raise ValueError(f"{number.strip()} hours: must be more than 0, and ten years at most")
        if name in seen:
            raise ValueError(f"says twice how fresh {name or 'all'} must be")
        seen.add(name)
        yield name, hours
