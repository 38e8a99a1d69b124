"""Trino's values as JSON."""

from datetime import UTC, datetime
from typing import Any

import pytest

from temporaletl.external.trino.values import Column, Row, conversion, utc_timestamp


def converted(kind: str, value: Any, *arguments: Any) -> Any:
    signature = {"rawType": kind, "arguments": [{"value": each} for each in arguments]}
    convert = conversion(signature)
    return value if convert is None else convert(value)


def of(kind: str) -> dict[str, Any]:
    return {"rawType": kind, "arguments": []}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("decimal", "12", 12),
        ("decimal", "-0.50", -0.5),
        ("decimal", "123456789012345678901234567890", 123456789012345678901234567890),
        ("decimal", "1.234567890123456789", "1.234567890123456789"),
        ("double", "NaN", "NaN"),
        ("json", '{"a":[1,{"b":null}]}', {"a": [1, {"b": None}]}),
        ("json", '"text"', "text"),
        ("json", "[1e999]", "[1e999]"),
        ("timestamp", "2024-05-01 10:00:00.123456789", "2024-05-01T10:00:00.123456789"),
        ("timestamp with time zone", "2024-05-01 10:00:00.1 UTC", "2024-05-01T10:00:00.1+00:00"),
        ("timestamp with time zone", "2024-05-01 10:00:00 -03:30", "2024-05-01T10:00:00-03:30"),
        (
            "timestamp with time zone",
            "2024-12-01 10:00:00.5 Europe/Helsinki",
            "2024-12-01T10:00:00.5+02:00",
        ),
        (
            "timestamp with time zone",
            "+15000-12-01 10:00:00 Europe/Helsinki",
            "+15000-12-01 10:00:00 Europe/Helsinki",
        ),
        ("varchar", "as it is", "as it is"),
        ("interval day to second", "1 00:00:00.000", "1 00:00:00.000"),
    ],
)
def test_single_values(kind: str, value: Any, expected: Any) -> None:
    assert converted(kind, value) == expected


def test_values_within_values() -> None:
    named = [
        {"fieldName": {"name": "a"}, "typeSignature": of("decimal")},
        {"fieldName": {"name": "b"}, "typeSignature": of("varchar")},
    ]
    assert converted("row", ["1", None], *named) == {"a": 1, "b": None}
    alike = [named[0], named[0]]
    assert converted("row", ["1", "2"], *alike) == [1, 2]
    assert converted("array", ["1", None], of("decimal")) == [1, None]
    assert converted("map", {"k": "1", "l": None}, of("varchar"), of("decimal")) == {
        "k": 1,
        "l": None,
    }
    assert conversion({"rawType": "array", "arguments": [{"value": of("bigint")}]}) is None


def test_a_row_is_an_object_of_its_columns() -> None:
    row = Row([Column("n", "decimal(3,0)", of("decimal")), Column("t", "varchar", of("varchar"))])
    assert row.read(["1", "x", "beyond"]) == {"n": 1, "t": "x"}
    assert row.read([None, None]) == {"n": None, "t": None}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2024-05-01 10:00:00 UTC", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        (
            "2024-05-01 10:00:00.123456999999 UTC",
            datetime(2024, 5, 1, 10, 0, 0, 123456, tzinfo=UTC),
        ),
    ],
)
def test_a_moment_is_cut_to_microseconds(text: str, expected: datetime) -> None:
    assert utc_timestamp(text) == expected


@pytest.mark.parametrize(
    "text", ["2024-05-01 10:00:00 Europe/Helsinki", "+15000-05-01 10:00:00 UTC", "", "x UTC"]
)
def test_what_is_no_moment_in_utc_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"no time in UTC|isoformat|month|day"):
        utc_timestamp(text)
