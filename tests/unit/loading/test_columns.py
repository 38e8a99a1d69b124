import types
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


def row_class(name: str, *, key: str = "a", table: str | None = "t", **fields: Any) -> Any:
    """A row class of this table, key and fields."""
    namespace: dict[str, Any] = {"__module__": __name__, "__annotations__": fields}
    if table is not None:
        namespace |= {"table": table, "key": (key,)}
        namespace["__annotations__"] = {"table": ClassVar[str], "key": ClassVar[Any], **fields}
    options = {"frozen": True, "kw_only": True}
    return types.new_class(name, (Row,), options, lambda body: body.update(namespace))


@pytest.mark.parametrize(
    "row",
    [
        row_class("Unknown", a=str, odd=list[int]),
        row_class("TwoTypes", a=str, odd=int | str),
        row_class("NullKey", key="odd", odd=str | None),
        row_class("JsonKey", key="odd", odd=Json),
        row_class("MissingKey", key="odd", a=str),
        row_class("LongName", table="odd" * 30, a=str),
        row_class("NoTable", table=None, odd=str),
    ],
    ids=lambda row: row.__name__,
)
def test_a_class_that_makes_no_table_is_refused_by_name(row: Any) -> None:
    with pytest.raises(ConfigurationError, match=row.__name__) as caught:
        layout_of(row)
    assert "odd" in str(caught.value) or "table" in str(caught.value)
