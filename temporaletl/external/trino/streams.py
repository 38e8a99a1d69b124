"""The streams of source `trino`: queries, and which of their columns make an event.

They stand in a TOML file, one table for each stream:

    [orders]
    sql = "SELECT * FROM shop.orders WHERE changed_at >= :start AND changed_at < :end"
    cursor = "changed_at"
    event_time = "placed_at"
    event_id = "order_id"
    event_type = "order_placed"
"""

import re
import threading
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    ValidationError,
    model_validator,
)

from temporaletl.connections.declarations import connection_settings
from temporaletl.connections.source_settings import SourceSettings
from temporaletl.errors import ConfigurationError
from temporaletl.external.trino.access import TrinoSettings
from temporaletl.external.trino.server import Parameter
from temporaletl.messages import Mode, Window
from temporaletl.timezones import known_timezone
from temporaletl.validation import faults_of

#: Bounds of windows that have none, for a query that asks for them. Trino and Python take both.
BEGINNING = datetime(1000, 1, 1, tzinfo=UTC)
END = datetime(9999, 12, 31, tzinfo=UTC)
_WINDOW = ("start", "end")

_STREAM = re.compile(r"[a-z0-9_]+")
#: What a placeholder cannot stand in, and placeholders. Of these, only the last have groups.
_SQL_PARTS = re.compile(
    r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/"
    r"|(?P<mark>\?)|:(?P<name>[A-Za-z_][A-Za-z0-9_]*)",
    re.DOTALL,
)
#: Texts and comments of TOML; what is left are keys, tables and signs.
_TOML_TEXTS = re.compile(
    r"\"\"\".*?\"\"\"(?!\")|'''.*?'''(?!')|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'|#[^\n]*", re.DOTALL
)


class TrinoStreamsSettings(SourceSettings):
    """The setting that names the file of streams."""

    file: Path = Field(
        validation_alias="TRINO_STREAMS_FILE",
        description="the TOML file that defines the streams of source trino",
    )


connection_settings("trino", TrinoSettings, TrinoStreamsSettings)


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _sql(text: str) -> str:
    sql = text.strip().rstrip(";").rstrip()
    if not sql:
        raise ValueError("is empty")
    if any(part["mark"] for part in _SQL_PARTS.finditer(sql)):
        raise ValueError("has a ?: parameters have names here, as in :start and :end")
    return sql


def _parameters(found: dict[str, Any]) -> dict[str, Any]:
    for name in found:
        if name in _WINDOW:
            raise ValueError(f"{name} is the window's")
    return found


Name = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Name, ...], BeforeValidator(_listed)]
Value = str | int | float | bool | None


class FromColumn(BaseModel):
    """A value that each row brings itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: Name


class Stream(BaseModel):
    """One query, and how its rows become events.

    What is named here are columns of the query, except where a text stands for itself: event and
    relation types and time zones, which `{ column = "…" }` takes from each row instead.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    sql: Annotated[str, AfterValidator(_sql)]
    #: When it happened: a timestamp or a date, UTC where it has no zone.
    event_time: Name
    #: What a row's event is known by within the stream; stable, unique, and never null. Of rows
    #: that share it only one is kept. With the stream's name at most 2,600 bytes, as an index has.
    event_id: Annotated[Names, Field(min_length=1)]
    event_type: Name | FromColumn
    #: When the row was last changed: what windows are cut by. Default: `event_time`.
    cursor: Name | None = None
    item: Name | None = None
    person: Name | None = None
    relation_type: Name | FromColumn | None = None
    timezone: Name | FromColumn = "UTC"
    #: Default: every column that is named nowhere else.
    properties: Names | None = None
    relation_properties: Names = ()
    metrics: Names = ()
    #: Values for the other placeholders in the query; a run may set others.
    parameters: Annotated[dict[str, Value], AfterValidator(_parameters)] = Field(
        default_factory=dict
    )
    #: A job's share of a window; default the whole of it.
    slice_hours: PositiveFloat | None = None
    #: How far an incremental window reaches back, for rows that arrive late.
    overlap_minutes: NonNegativeFloat = 60
    #: How far behind now a window ends.
    lag_minutes: NonNegativeFloat = 5
    #: Whether each run reads all `event_id`s, to find the rows that are gone.
    find_deleted: bool = False

    @model_validator(mode="after")
    def _complete(self) -> "Stream":
        known = {*_WINDOW, *self.parameters}
        for name in placeholders(self.sql):
            if name not in known:
                raise ValueError(f"sql: :{name} has no value; give it one in parameters")
        if isinstance(self.timezone, str) and known_timezone(self.timezone) is None:
            raise ValueError(f"timezone: {self.timezone!r} is no time zone like Europe/Helsinki")
        return self

    @property
    def cursor_column(self) -> str:
        return self.cursor or self.event_time

    def ordered_by(self, mode: Mode) -> str:
        """The column that a job's window bounds, and its rows are ordered by.

        A backfill is about when things happened, however late their rows were changed.
        """
        return self.event_time if mode == "backfill" else self.cursor_column

    def window_of_sql(self, window: Window, mode: Mode) -> Window:
        """The window that the query itself is given: unbounded where it is of another time."""
        same = self.ordered_by(mode).lower() == self.cursor_column.lower()
        return window if same else Window()

    @property
    def overlap(self) -> timedelta:
        return timedelta(minutes=self.overlap_minutes)

    @property
    def lag(self) -> timedelta:
        return timedelta(minutes=self.lag_minutes)

    @cached_property
    def named_columns(self) -> frozenset[str]:
        """Every column that the stream needs, in small letters: Trino's names have no case."""
        named = [self.event_time, self.cursor_column, *self.event_id, *self.metrics]
        named += [*self.relation_properties, *(self.properties or ())]
        named += [name for name in (self.item, self.person) if name]
        for either in (self.event_type, self.relation_type, self.timezone):
            if isinstance(either, FromColumn):
                named.append(either.column)
        return frozenset(map(str.lower, named))

    def bound(self, window: Window, overrides: Mapping[str, Value]) -> tuple[str, list[Parameter]]:
        """Return the query with its parameters in order, for a window.

        Raises:
            ConfigurationError: a parameter is set that the query does not have.
        """
        unknown = sorted(set(overrides) - set(self.parameters))
        if unknown:
            raise ConfigurationError(
                f"parameters: {', '.join(unknown)} is none of this stream's; it has "
                f"{', '.join(self.parameters) or 'none'}"
            )
        values: dict[str, Parameter] = {**self.parameters, **overrides}
        values |= {"start": window.start or BEGINNING, "end": window.end or END}
        found: list[Parameter] = []

        def bind(part: re.Match[str]) -> str:
            if part["name"] is None:
                return part[0]
            found.append(values[part["name"]])
            return "?"

        return _SQL_PARTS.sub(bind, self.sql), found


def spelled_out(sql: str, values: Sequence[Parameter]) -> str:
    """Return a bound query with its parameters as literals, for what takes none: EXPLAIN."""
    left = iter(values)
    return _SQL_PARTS.sub(lambda part: _literal(next(left)) if part["mark"] else part[0], sql)


def _literal(value: Parameter) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return f"TIMESTAMP '{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f} UTC'"
    if isinstance(value, float):
        return f"{value:e}"
    if isinstance(value, int):
        return str(value)
    return "'" + value.replace("'", "''") + "'"


def placeholders(sql: str) -> list[str]:
    """Return the names that stand as `:name` in a query, outside of its texts and comments."""
    return [part["name"] for part in _SQL_PARTS.finditer(sql) if part["name"]]


@dataclass(frozen=True, slots=True)
class Streams:
    """A file of streams, as it was when it was read."""

    file: Path
    streams: Mapping[str, Stream]

    def get(self, name: str) -> Stream:
        """Find a stream.

        Raises:
            ConfigurationError: the file has none of that name.
        """
        if name not in self.streams:
            raise ConfigurationError(
                f"{self.file} has no stream {name!r}; its streams: {', '.join(self.streams)}"
            )
        return self.streams[name]

    def described(self, name: str) -> str:
        """Name a stream in an error."""
        return f"stream {name!r} of {self.file}"


def read_streams(file: Path) -> Streams:
    """Read a file of streams.

    Raises:
        ConfigurationError: names the file, and line and key of each fault.
    """
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise ConfigurationError(f"TRINO_STREAMS_FILE: {file} cannot be read: {reason}") from None
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{file}: not TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{file}: something in it is nested too deep") from None
    lines = _Lines(text)
    faults: list[str] = []
    streams: dict[str, Stream] = {}
    for name, table in tables.items():
        location = f"{file}:{lines.of(name)}"
        if not _STREAM.fullmatch(name):
            faults.append(
                f"{location}: stream {name!r}: names have small letters, digits and _ only"
            )
        elif not isinstance(table, dict):
            faults.append(f"{location}: {name} stands outside of a stream: begin one with [{name}]")
        else:
            try:
                streams[name] = Stream.model_validate(table)
            except ValidationError as error:
                faults += [f"{file}:{fault}" for fault in _faults(name, error, lines)]
    if faults:
        raise ConfigurationError("; ".join(faults))
    if not streams:
        raise ConfigurationError(f"{file}: no streams: each is a table, as [orders]")
    return Streams(file, streams)


def _faults(stream: str, error: ValidationError, lines: "_Lines") -> list[str]:
    messages: dict[str, str] = {}
    for fault in faults_of(error):
        key, message = str(fault.location[0]) if fault.location else "", fault.message
        if not key:
            # Checks of more than one key begin with the one at fault.
            key, _, message = message.partition(": ")
        if fault.type == "missing" and len(fault.location) == 1:
            message = "is missing"
        elif fault.type == "extra_forbidden" and len(fault.location) == 1:
            message = f"is no key of a stream; those are {', '.join(Stream.model_fields)}"
        # Of a value that may be this or that, one reason is enough.
        messages.setdefault(key, f"{lines.of(stream, key)}: {stream}.{key}: {message}")
    return list(messages.values())


class _Lines:
    """Finds the line of a key, where it stands plainly; else that of its table."""

    def __init__(self, text: str) -> None:
        # Texts keep their line ends only: nothing in them can be taken for a key.
        bare = _TOML_TEXTS.sub(lambda found: "\n" * found[0].count("\n"), text)
        self._lines = bare.split("\n")

    def of(self, table: str, key: str | None = None) -> int:
        name = re.escape(table)
        heads = [
            number
            for number, line in enumerate(self._lines, 1)
            if re.match(rf"\s*(\[\s*{name}\s*[].]|{name}\s*[=.])", line)
        ]
        if not heads:
            return 1
        if key is None:
            return heads[0]
        for head in heads:
            for number in range(head, len(self._lines)):
                line = self._lines[number]
                if re.match(rf"\s*{re.escape(key)}\s*[=.]", line):
                    return number + 1
                if re.match(r"\s*\[", line):
                    if re.match(rf"\s*\[\s*{name}\s*\.\s*{re.escape(key)}\b", line):
                        return number + 1
                    break
        return heads[0]


_read: dict[Path, tuple[tuple[int, int], Streams]] = {}
_read_guard = threading.Lock()


def load_streams() -> Streams:
    """Return the streams of the file that is set; read again when it has changed.

    Raises:
        ConfigurationError: TRINO_STREAMS_FILE is not set; or as `read_streams`.
    """
    file = TrinoStreamsSettings.load().file
    try:
        found = file.stat()
    except OSError:
        return read_streams(file)
    stamp = (found.st_mtime_ns, found.st_size)
    with _read_guard:
        known = _read.get(file)
        if known is None or known[0] != stamp:
            known = _read[file] = (stamp, read_streams(file))
        return known[1]


def stream_names() -> Sequence[str]:
    """The names of the streams there are; raises as `load_streams`."""
    return tuple(load_streams().streams)
