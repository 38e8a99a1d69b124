from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar

import msgspec
import pytest

from temporaletl.errors import ConfigurationError
from temporaletl.rows import Event, Json, LocalTime, Row, TemporalWorkflow
from temporaletl.worker.loading.columns import layout_of


class Everything(Row, frozen=True, kw_only=True, gc=False):
    table: ClassVar[str] = "everything"
    key: ClassVar[tuple[str, ...]] = ("name", "number")

    flag: bool
    name: str
    number: int
    share: float | None
    price: Decimal
    at: datetime
    clock: LocalTime
    day: date
    details: Json
    more: Json | None
    short: Annotated[str, msgspec.Meta(max_length=5)] | None


def test_annotations_become_column_types_key_first() -> None:
    columns = {column.name: column.type for column in layout_of(Everything).columns}
    assert list(columns)[:4] == ["connection", "name", "number", "flag"]
    assert {name: columns[name] for name in list(columns)[:12]} == {
        "connection": "text",
        "name": "text",
        "number": "bigint",
        "flag": "boolean",
        "share": "double precision",
        "price": "numeric",
        "at": "timestamptz",
        "clock": "timestamp",
        "day": "date",
        "details": "jsonb",
        "more": "jsonb",
        "short": "text",
    }


def test_lineage_steps_aside_for_fields_of_the_same_name() -> None:
    names = [column.name for column in layout_of(TemporalWorkflow).columns]
    assert len(names) == len(set(names))
    assert names[-7:] == [
        *("job_id", "etl_workflow_id", "etl_run_id", "extracted_at", "loaded_at", "updated_at"),
        "row_hash",
    ]


def test_a_field_added_to_events_stands_behind_them() -> None:
    class Wider(Event, frozen=True, kw_only=True, gc=False):
        severity: int | None = None

    names = [column.name for column in layout_of(Wider).columns]
    assert names[names.index("metrics") + 1] == "severity"
    assert names[:3] == ["source_kind_id", "connection", "event_id"]


def unknown() -> type[Row]:
    class Unknown(Row, frozen=True, kw_only=True):
        table: ClassVar[str] = "t"
        key: ClassVar[tuple[str, ...]] = ("a",)
        a: str
        odd: list[int]

    return Unknown


def two_types() -> type[Row]:
    class TwoTypes(Row, frozen=True, kw_only=True):
        table: ClassVar[str] = "t"
        key: ClassVar[tuple[str, ...]] = ("a",)
        a: str
        odd: int | str

    return TwoTypes


def null_key() -> type[Row]:
    class NullKey(Row, frozen=True, kw_only=True):
        table: ClassVar[str] = "t"
        key: ClassVar[tuple[str, ...]] = ("odd",)
        odd: str | None

    return NullKey


def json_key() -> type[Row]:
    class JsonKey(Row, frozen=True, kw_only=True):
        table: ClassVar[str] = "t"
        key: ClassVar[tuple[str, ...]] = ("odd",)
        odd: Json

    return JsonKey


def missing_key() -> type[Row]:
    class MissingKey(Row, frozen=True, kw_only=True):
        table: ClassVar[str] = "t"
        key: ClassVar[tuple[str, ...]] = ("odd",)
        a: str

    return MissingKey


def long_name() -> type[Row]:
    class LongName(Row, frozen=True, kw_only=True):
        table: ClassVar[str] = "odd" * 30
        key: ClassVar[tuple[str, ...]] = ("a",)
        a: str

    return LongName


def no_table() -> type[Row]:
    class NoTable(Row, frozen=True, kw_only=True):
        odd: str

    return NoTable


@pytest.mark.parametrize(
    "make", [unknown, two_types, null_key, json_key, missing_key, long_name, no_table]
)
def test_a_class_that_makes_no_table_is_refused_by_name(make: Callable[[], Any]) -> None:
    row = make()
    with pytest.raises(ConfigurationError, match=row.__name__) as caught:
        layout_of(row)
    assert "odd" in str(caught.value) or "table" in str(caught.value)
