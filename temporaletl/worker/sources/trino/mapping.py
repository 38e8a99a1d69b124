"""The mapping of a row's columns to an event."""

import contextlib
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from temporaletl import (
    ConfigurationError,
    Event,
    RecordError,
    SourceProtocolError,
    TransformContext,
)
from temporaletl.external.trino.results import Undecodable
from temporaletl.external.trino.streams import FromColumn, Stream
from temporaletl.numbers import json_number
from temporaletl.timezones import known_timezone
from temporaletl.worker.sources.trino.query import TrinoQuery

Row = Mapping[str, Any]

#: Numbers that JSON has no form for; Trino writes them so.
_NOT_FINITE = frozenset({"NaN", "Infinity", "-Infinity"})
#: PostgreSQL's index takes entries of 2,704 bytes, the source's name and a head among them.
MOST_ID_BYTES = 2_600
#: What no text in the warehouse can have: the loader would replace it in the id as well.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class ColumnMapping:
    """Mapping of one stream's rows, with columns of these names, to events.

    Names in configurations and in Trino's answers are the same in whatever case.
    """

    def __init__(self, name: str, stream: Stream, columns: Sequence[str], *, where: str) -> None:
        self.stream = name
        self._columns = {column.lower(): column for column in columns}
        missing = sorted(stream.named_columns - set(self._columns))
        if missing:
            raise ConfigurationError(
                f"trino: {where}: the query has no column {', '.join(missing)}; it has "
                f"{', '.join(columns)}"
            )
        if len(self._columns) < len(columns):
            twice = sorted({c.lower() for c in columns if self._columns[c.lower()] != c})
            twice = twice or sorted({c for c in columns if list(columns).count(c) > 1})
            raise ConfigurationError(
                f"trino: {where}: the query has two columns called {', '.join(twice)}; rename one"
            )
        self.time = self._columns[stream.event_time.lower()]
        self._id = self._all(stream.event_id)
        self._item, self._person = self._one(stream.item), self._one(stream.person)
        self._type, self._relation = stream.event_type, stream.relation_type
        self._zone = stream.timezone
        self._relation_properties = self._all(stream.relation_properties)
        self._metrics = self._all(stream.metrics)
        self._properties = (
            [name for lower, name in self._columns.items() if lower not in stream.named_columns]
            if stream.properties is None
            else self._all(stream.properties)
        )
        named = {self._columns[name] for name in stream.named_columns}
        #: Columns that something is made of.
        self.used = named.union(self._properties)

    def is_known_by(self, columns: Collection[str]) -> bool:
        """Whether one of these columns is part of the events' ids."""
        return not set(self._id).isdisjoint(columns)

    def _all(self, names: Sequence[str]) -> list[str]:
        return [self._columns[name.lower()] for name in names]

    def _one(self, name: str | None) -> str | None:
        return None if name is None else self._columns[name.lower()]

    def id_of(self, row: Row) -> str:
        """Return the event's id within its stream; of several parts, none is mistaken for two.

        Raises:
            RecordError: a part is null, or no single value; or it is longer than an index takes.
        """
        return id_of(row, self._id)

    def _event_id(self, row: Row) -> str:
        event_id = f"{self.stream}:{self.id_of(row)}"
        length = len(event_id.encode())
        if length > MOST_ID_BYTES:
            raise RecordError(
                f"the event's id of column {', '.join(self._id)} has {length:,} bytes, more than "
                f"the {MOST_ID_BYTES:,} that the warehouse's index takes: name another column in "
                "event_id, or a digest of it, as with to_hex(sha256(to_utf8(…)))"
            )
        return event_id

    def event(self, row: Row, context: TransformContext[TrinoQuery]) -> Event:
        """Make a row's event.

        Raises:
            RecordError: a column lacks what an event must have, or has what it cannot be.
        """
        person = None if self._person is None else _text(row, self._person)
        return Event(
            event_id=self._event_id(row),
            event_type=self._required(row, self._type),
            event_time_utc=self._time(row),
            parent_item_id=None if self._item is None else _text(row, self._item),
            relation_type=self._resolve(row, self._relation),
            person=person,
            employee_id=context.employee(person),
            timezone=self._timezone(row),
            event_properties={name: row[name] for name in self._properties},
            relation_properties={name: row[name] for name in self._relation_properties},
            metrics={
                name: _number(name, row[name]) for name in self._metrics if row[name] is not None
            },
        )

    def _resolve(self, row: Row, either: str | FromColumn | None) -> str | None:
        if isinstance(either, FromColumn):
            return _text(row, self._columns[either.column.lower()])
        return either

    def _required(self, row: Row, either: str | FromColumn) -> str:
        value = self._resolve(row, either)
        if not value and isinstance(either, FromColumn):
            raise RecordError(f"column {either.column} is empty, though it is the event's type")
        return str(value)

    def _time(self, row: Row) -> datetime:
        value = row[self.time]
        if value is None:
            raise RecordError(f"column {self.time} is null, though it is the event's time")
        try:
            timestamp = datetime.fromisoformat(value)
        except (TypeError, ValueError):
            raise RecordError(f"column {self.time}: {value!r} is no time") from None
        return timestamp if timestamp.tzinfo is UTC else _utc(timestamp)

    def _timezone(self, row: Row) -> str:
        zone = self._resolve(row, self._zone) or "UTC"
        if known_timezone(zone) is None:
            raise RecordError(f"column {self._zone_column}: {zone!r} is no time zone")
        return zone

    @property
    def _zone_column(self) -> str:
        return self._zone.column if isinstance(self._zone, FromColumn) else ""


def id_of(row: Row, columns: Sequence[str]) -> str:
    """Return the id that an event has by these columns; raises as `ColumnMapping.id_of`."""
    parts: list[str] = []
    for name in columns:
        text = _text(row, name)
        if text is None:
            raise RecordError(f"column {name} is null, though events are known by it")
        parts.append(_UNSTORABLE.sub("\ufffd", text))
    if len(parts) == 1:
        return parts[0]
    return ":".join(part.replace("%", "%25").replace(":", "%3A") for part in parts)


def _utc(timestamp: datetime) -> datetime:
    return timestamp.replace(tzinfo=UTC) if timestamp.tzinfo is None else timestamp.astimezone(UTC)


def _text(row: Row, name: str) -> str | None:
    value = row[name]
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Undecodable):
        # Whoever compares ids must not take it for an event that is not there.
        raise SourceProtocolError(f"trino: column {name} cannot be decoded: {value.reason}")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    raise RecordError(f"column {name} is a list or an object, not a single value")


def _number(name: str, value: Any) -> int | float | str | Decimal:
    if isinstance(value, (int, float)):  # booleans too
        return value
    if isinstance(value, str):
        if value in _NOT_FINITE:
            return value
        # A decimal of more digits than a double keeps.
        with contextlib.suppress(ArithmeticError, RecordError):
            return json_number(Decimal(value))
    raise RecordError(f"column {name}: {value!r} is no number")
