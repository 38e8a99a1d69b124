"""What a query computes of rows: the tests of its condition, and the values of its groups."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]
#: Reads a field, or one of a related row, from a row.
Getter = Callable[[Row], Any]
Test = Callable[[Row], bool]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A value of each group of rows, under its alias."""

    function: str
    get: Getter
    alias: str

    def of(self, rows: list[Row]) -> Any:
        values = [value for row in rows if (value := self.get(row)) is not None]
        if self.function == "COUNT":
            return len(values)
        return (min if self.function == "MIN" else max)(values, default=None)


def part_of(get: Getter, part: slice) -> Getter:
    """Read a part of a date; None of what is none, as in a record that a test has damaged."""

    def read(row: Row) -> int | None:
        digits = str(get(row))[part]
        return int(digits) if digits.isdecimal() else None

    return read


def folded(value: Any, kind: str) -> Any:
    return value.lower() if kind in {"string", "any"} and isinstance(value, str) else value


def equals(get: Getter, value: Any, kind: str, *, negated: bool) -> Test:
    wanted = folded(value, kind)
    return lambda row: (folded(get(row), kind) == wanted) is not negated


def is_in(get: Getter, values: list[Any], kind: str) -> Test:
    wanted = {folded(value, kind) for value in values}
    return lambda row: folded(get(row), kind) in wanted


def like(get: Getter, pattern: str) -> Test:
    parts = [{"%": ".*", "_": "."}.get(each, re.escape(each)) for each in pattern]
    shape = re.compile("".join(parts), re.IGNORECASE | re.DOTALL)
    return lambda row: shape.fullmatch(str(get(row) or "")) is not None
