"""Values as Trino's protocol has them, as plain JSON.

Numbers stay numbers, also decimals where a double keeps all their digits (else they are text).
Times become ISO 8601 with all their digits; times with a zone carry the zone's offset. Rows
become objects, maps too. What JSON has no form for (NaN, intervals, bytes) is the text that Trino
sends: bytes in base64.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

from temporaletl.external.answers import DECODE_FAULTS
from temporaletl.external.trino.results import Undecodable

#: A column's type as the protocol spells it out: `rawType`, and `arguments`.
Signature = Mapping[str, Any]
Convert = Callable[[Any], Any]

_SECONDS = 19  # characters of YYYY-MM-DD HH:MM:SS


@dataclass(frozen=True, slots=True)
class Column:
    name: str
    type: str  # as a person writes it, e.g. timestamp(3) with time zone
    signature: Signature

    @property
    def is_time(self) -> bool:
        return self.signature["rawType"] in {"timestamp", "timestamp with time zone", "date"}


class Row:
    """Turns the rows of one query into objects by column name."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._names = [column.name for column in columns]
        self._conversions = [
            (column.name, convert)
            for column in columns
            if (convert := conversion(column.signature)) is not None
        ]

    def read(self, values: Sequence[Any]) -> dict[str, Any]:
        """Return a row as an object; values beyond the columns are left out.

        `Undecodable` values stay what they are.
        """
        row = dict(zip(self._names, values, strict=False))
        for name, convert in self._conversions:
            if row[name] is not None and not isinstance(row[name], Undecodable):
                row[name] = convert(row[name])
        return row


def conversion(signature: Signature) -> Convert | None:
    """Return what makes JSON of a type's values other than null; None where they are JSON."""
    kind = signature["rawType"]
    if kind in _CONVERSIONS:
        return _CONVERSIONS[kind]
    arguments = [argument["value"] for argument in signature.get("arguments", ())]
    if kind == "array":
        inner = conversion(arguments[0])
        return None if inner is None else partial(_array, inner)
    if kind == "map":
        inner = conversion(arguments[1])
        return None if inner is None else partial(_map, inner)
    if kind == "row":
        names = [(argument.get("fieldName") or {}).get("name") for argument in arguments]
        inners = [conversion(argument["typeSignature"]) for argument in arguments]
        if None in names or len(set(names)) < len(names):
            return partial(_list, inners)
        return partial(_row, [str(name) for name in names], inners)
    return None


def _array(convert: Convert, values: Sequence[Any]) -> list[Any]:
    return [None if value is None else convert(value) for value in values]


def _map(convert: Convert, values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: None if value is None else convert(value) for key, value in values.items()}


def _list(converts: Sequence[Convert | None], values: Sequence[Any]) -> list[Any]:
    return [
        value if value is None or convert is None else convert(value)
        for convert, value in zip(converts, values, strict=True)
    ]


def _row(
    names: Sequence[str], converts: Sequence[Convert | None], values: Sequence[Any]
) -> dict[str, Any]:
    return dict(zip(names, _list(converts, values), strict=True))


def _decimal(value: Any) -> int | float | str:
    text = str(value)
    if "." not in text:
        return int(text)
    number = float(text)
    return number if Decimal(repr(number)) == Decimal(text) else text


def _json(text: Any) -> Any:
    try:
        return msgspec.json.decode(text)
    except DECODE_FAULTS:
        # Numbers that no double holds, depths beyond sense: as they are.
        return text


def _timestamp(text: str) -> str:
    return text.replace(" ", "T")


def _zoned(text: str) -> str:
    local, _, zone = text.rpartition(" ")
    if zone == "UTC":
        return local.replace(" ", "T") + "+00:00"
    if zone[:1] not in "+-":
        try:
            timestamp = datetime.fromisoformat(local[:_SECONDS]).replace(tzinfo=ZoneInfo(zone))
        except (ValueError, ZoneInfoNotFoundError):
            return text  # a year or a zone that Python does not know
        # Within the hour that a zone repeats, Trino does not say which of the two it is.
        zone = timestamp.isoformat()[_SECONDS:]
    return local.replace(" ", "T") + zone


_CONVERSIONS: dict[str, Convert] = {
    "decimal": _decimal,
    "number": _decimal,
    "json": _json,
    "timestamp": _timestamp,
    "timestamp with time zone": _zoned,
}


def utc_timestamp(text: str) -> datetime:
    """Read `YYYY-MM-DD HH:MM:SS[.digits] UTC`; digits beyond microseconds are cut off.

    Raises:
        ValueError: it is none, or lies outside of the years 1 to 9999.
    """
    local, _, zone = text.rpartition(" ")
    if zone != "UTC" or local[_SECONDS : _SECONDS + 1] not in {"", "."}:
        raise ValueError(f"{text!r} is no time in UTC")
    return datetime.fromisoformat(local[: _SECONDS + 7]).replace(tzinfo=UTC)
