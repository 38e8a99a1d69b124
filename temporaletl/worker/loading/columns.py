"""Layout of a row class's table: its columns, its key, and the packers of its fields."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from temporaletl.errors import ConfigurationError
from temporaletl.rows import Event, Index, Json, LocalTime, Row, storable_text
from temporaletl.worker.loading import encode

#: Which connection of its source a row came from.
CONNECTION = "connection"
#: Lineage columns in the order of the table.
LINEAGE = ("job_id", "workflow_id", "run_id", "extracted_at", "loaded_at", "updated_at")
#: When a soft deletion was made of an event; null while it is there.
DELETED = "deleted_at"
STAMPS = ("version", "specific_version")
HASH = "row_hash"
_OURS = (CONNECTION, *STAMPS, *LINEAGE, HASH)
_OUR_COMMENTS = {
    CONNECTION: "the connection it was loaded from; part of every key",
    "version": "version of the source's rows: changes in a way that readers must know",
    "specific_version": "exact version of the transform",
    "job_id": "the job that wrote the row",
    "workflow_id": "its workflow",
    "run_id": "the workflow's run",
    "extracted_at": "when it was extracted, by the warehouse's clock",
    "loaded_at": "when it was first loaded",
    "updated_at": "when it was last changed",
    HASH: (
        "hash of content and versions: rows with the same hash are not written again; null: "
        "written anew by the next load"
    ),
    DELETED: (
        "when the source was found to have deleted it; null unless WPE_DB_SOFT_DELETE is set: "
        "otherwise the row goes"
    ),
}
_OUR_TYPES = {
    **dict.fromkeys((CONNECTION, *STAMPS, "job_id", "workflow_id", "run_id"), "text"),
    **dict.fromkeys(("extracted_at", "loaded_at", "updated_at", DELETED), "timestamptz"),
    HASH: "bigint",
}

PARTITION_KEY = "source_kind_id"

# As DESIGN of the events table has it: what an analyst reads first stands first.
_EVENT_COLUMNS = (
    ("event_id", "text"),
    ("parent_item_id", "text"),
    ("event_type", "text"),
    ("relation_type", "text"),
    ("person", "text"),
    ("employee_id", "text"),
    ("event_time_utc", "timestamptz"),
    ("week", "date"),
    ("timezone", "text"),
    ("event_time", "timestamp"),
    ("event_properties", "jsonb"),
    ("relation_properties", "jsonb"),
    ("metrics", "jsonb"),
)

#: Longest name PostgreSQL keeps, in bytes; it would cut a longer one silently.
_LONGEST_NAME = 63


_NULLABLE = {HASH, DELETED}
_DERIVED = ("week", "event_time")


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str
    #: As the row class declares it, for messages.
    declared: str
    null: bool = True
    comment: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """Some fields of a row, and the columns that they are packed into together."""

    fields: tuple[str, ...]
    columns: tuple[str, ...]
    pack: encode.Packer
    #: What a value must be, in words.
    wanted: str

    def positions(self, row: type[Row]) -> list[int]:
        """Positions of the fields in the row class."""
        names = row.__struct_fields__
        return [names.index(field) for field in self.fields]


@dataclass(frozen=True, slots=True, eq=False)
class Layout:
    """Layout of a row class's table. Each is equal to itself alone: see `layout_of`."""

    row: type[Row]
    table: str
    partitioned: bool
    #: All columns in the order of the table.
    columns: tuple[Column, ...]
    #: Of all rows of the table: what the platform stamps, then what comes from the row.
    key: tuple[str, ...]
    #: The key's columns that come from the row; each has a part, and those stand first.
    own_key: tuple[str, ...]
    parts: tuple[Part, ...]
    #: Name in the table of each of the platform's own columns.
    ours: dict[str, str]

    @property
    def packed(self) -> tuple[str, ...]:
        """Columns that the parts fill, in their order."""
        return tuple(column for part in self.parts for column in part.columns)

    @property
    def required(self) -> tuple[str, ...]:
        """Columns that are never null."""
        return tuple(c.name for c in self.columns if not c.null or c.name in self.key)

    @property
    def indexes(self) -> tuple[Index, ...]:
        """Indexes of the table beside its key."""
        return (*self.row.indexes, Index("updated", (self.ours["updated_at"],), "brin"))

    @property
    def connection(self) -> str:
        """The column that says which connection a row came from."""
        return self.ours[CONNECTION]

    def type_of(self, column: str) -> str:
        return next(c.type for c in self.columns if c.name == column)


@dataclass(frozen=True, slots=True)
class _Kind:
    type: str
    wanted: str
    pack: encode.Packer


_KINDS: dict[Any, _Kind] = {
    int: _Kind("bigint", "an int of 64 bits", encode.int8),
    float: _Kind("double precision", "a float", encode.float8),
    bool: _Kind("boolean", "a bool", encode.boolean),
    Decimal: _Kind("numeric", "a Decimal that numeric can hold", encode.numeric),
    datetime: _Kind("timestamptz", "a datetime with a time zone", encode.timestamptz),
    LocalTime: _Kind("timestamp", "a datetime without a time zone", encode.timestamp),
    date: _Kind("date", "a date", encode.calendar_date),
    Json: _Kind("jsonb", "a value that json can hold", encode.jsonb),
}
_TEXT_WANTED = "a str of valid Unicode"


def _resolve(annotation: Any) -> tuple[Any, bool]:
    """Strip `| None` and foreign metadata from an annotation; return whether None is allowed."""
    null = False
    if get_origin(annotation) in (Union, UnionType):
        members = [a for a in get_args(annotation) if a is not NoneType]
        null = len(members) < len(get_args(annotation))
        if len(members) != 1:
            return annotation, null
        annotation = members[0]
    if get_origin(annotation) is Annotated and annotation not in (Json, LocalTime):
        inner, inner_null = _resolve(get_args(annotation)[0])
        return inner, null or inner_null
    return annotation, null


def _part(row: type[Row], name: str, annotation: Any, *, key: bool) -> tuple[Part, str]:
    kind, null = _resolve(annotation)
    if key and (null or kind is Json):
        raise ConfigurationError(
            f"{row.__name__}.{name} is part of the key and must be neither None nor Json"
        )
    if kind is str:
        pack = encode.distinct_text if key else encode.repeated_text(null=null)
        return Part((name,), (name,), pack, _TEXT_WANTED), "text"
    if kind not in _KINDS:
        raise ConfigurationError(
            f"{row.__name__}.{name} is annotated {annotation!r}, which is no column type; "
            "see temporaletl.rows for those that are"
        )
    found = _KINDS[kind]
    pack = encode.nullable(found.pack) if null else found.pack
    return Part((name,), (name,), pack, found.wanted), found.type


#: Layouts that are kept: of all sources, and of the latest tables that pipelines declare.
_MOST_LAYOUTS = 1_024


@lru_cache(maxsize=_MOST_LAYOUTS)
def layout_of(row: type[Row]) -> Layout:
    """Build the layout of a row class; it is kept for the next load.

    Raises:
        ConfigurationError: an annotation, the table or the key is wrong; names class and field.
    """
    table, key = _declared(row)
    fields = {field.name: field.type for field in msgspec.structs.fields(row)}
    event = issubclass(row, Event)
    own_key = tuple(name for name in key if not (event and name == PARTITION_KEY))
    missing = [name for name in own_key if name not in fields]
    if missing or not own_key:
        raise ConfigurationError(f"{row.__name__}.key names {missing or 'no field'}")
    parts: dict[str, Part] = {}
    types: dict[str, str] = {}
    for name in (*own_key, *(name for name in fields if name not in own_key)):
        parts[name], types[name] = _part(row, name, fields[name], key=name in own_key)
    declared = {name: _words(annotation) for name, annotation in fields.items()}
    columns = [
        Column(name, types[name], declared[name], _resolve(fields[name])[1], _comment(row, name))
        for name in parts
    ]
    if event:
        columns = _event_columns(row, columns)
        parts["event_time_utc"] = Part(
            ("event_time_utc", "timezone"),
            ("event_time_utc", "week", "event_time"),
            encode.event_times,
            "a datetime with a time zone, and a known time zone",
        )
    taken = {column.name for column in columns}
    names = (*_OURS, DELETED) if event else _OURS
    ours = {name: _free(row.lineage.get(name, name), taken) for name in names}
    for name in (CONNECTION, DELETED) if event else ():
        if ours[name] != name:
            raise ConfigurationError(
                f"{row.__name__}: column {name} of events is the platform's own, under that name"
            )
    own = {
        name: Column(
            ours[name],
            _OUR_TYPES[name],
            "the platform's own",
            name in _NULLABLE,
            _OUR_COMMENTS[name],
        )
        for name in names
    }
    # What the key begins with stands in front.
    columns.insert(1 if event else 0, own.pop(CONNECTION))
    columns += own.values()
    _check_names(row, [table, *(column.name for column in columns)])
    _check_indexes(row, {column.name for column in columns})
    key = (*([PARTITION_KEY] if event else []), ours[CONNECTION], *own_key)
    return Layout(row, table, event, tuple(columns), key, own_key, tuple(parts.values()), ours)


def _free(name: str, taken: Collection[str]) -> str:
    return _free(f"etl_{name}", taken) if name in taken else name


def _declared(row: type[Row]) -> tuple[str, tuple[str, ...]]:
    table, key = getattr(row, "table", None), getattr(row, "key", None)
    if not isinstance(table, str) or not table or not isinstance(key, tuple) or not key:
        raise ConfigurationError(f"{row.__name__} must declare its table and its key")
    return table, key


def _event_columns(row: type[Row], columns: Sequence[Column]) -> list[Column]:
    declared = {column.name: column for column in columns}
    derived = {
        PARTITION_KEY: "the platform's own",
        **dict.fromkeys(_DERIVED, "derived from event_time_utc"),
    }
    first = [
        declared.get(name)
        or Column(name, kind, derived[name], null=False, comment=_comment(row, name))
        for name, kind in ((PARTITION_KEY, "text"), *_EVENT_COLUMNS)
    ]
    return [*first, *(column for column in columns if column not in first)]


def _comment(row: type[Row], column: str) -> str:
    return storable_text(row.comments.get(column, ""))


def _words(annotation: Any) -> str:
    kind, null = _resolve(annotation)
    names: dict[Any, str] = {Json: "Json", LocalTime: "LocalTime"}
    name = names[kind] if kind in names else getattr(kind, "__name__", str(kind))
    return f"{name} | None" if null else name


def _check_names(row: type[Row], names: Sequence[str]) -> None:
    for name in names:
        check_name(name, f"{row.__name__}: {name!r}")
    if len(set(names[1:])) < len(names[1:]):
        raise ConfigurationError(f"{row.__name__} declares a column that the platform adds itself")


def _check_indexes(row: type[Row], columns: set[str]) -> None:
    for index in row.indexes:
        check_name(index.name, f"{row.__name__}: index {index.name!r}")
        if unknown := set(index.columns) - columns:
            raise ConfigurationError(
                f"{row.__name__}: index {index.name!r} names no column: {', '.join(unknown)}"
            )
    names = [index.name for index in row.indexes]
    if len({*names, "updated"}) <= len(names):
        raise ConfigurationError(f"{row.__name__} declares two indexes of one name")


def check_name(name: str, what: str) -> None:
    """Refuse what PostgreSQL would not take as a name, or would cut."""
    if not name or storable_text(name) != name:
        raise ConfigurationError(f"{what} is no name for a table or column")
    if len(name.encode()) > _LONGEST_NAME:
        raise ConfigurationError(f"{what} is longer than {_LONGEST_NAME} bytes")
