"""Rows that are read in pieces: each once, also those that nothing tells apart."""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import pytest

from temporaletl.external.trino.order import Ordered, Position
from temporaletl.external.trino.server import Statement, TrinoServer

ORDERED = Ordered(sql="SELECT 1", parameters=(), time="at", keys=("id",))
NOON, LATER = "2025-03-01 12:00:00 UTC", "2025-03-01 13:00:00 UTC"


def row(name: str, at: str | None, key: str) -> list[Any]:
    return [name, at, key]


ROWS = [
    row("a", None, "1"),
    row("b", NOON, "1"),
    row("c", NOON, "2"),
    row("d", NOON, "2"),
    row("e", NOON, "2"),
    row("f", LATER, "2"),
    row("g", LATER, "2"),
]


class Server:
    """Gives the rows at and behind a position, as the statement would."""

    def __init__(self, rows: Sequence[list[Any]], after: Position | None) -> None:
        locations = [(at or "", key) for _, at, key in rows]
        begin = (after.time or "", *after.keys) if after else ("", "")
        self._rows = [
            row for row, location in zip(rows, locations, strict=True) if location >= begin
        ]

    async def batches(self, _statement: object, count: int) -> AsyncGenerator[list[list[Any]]]:
        for first in range(0, len(self._rows), count):
            yield self._rows[first : first + count]


async def read(
    after: Position | None, count: int, rows: Sequence[list[Any]] = ROWS
) -> list[tuple[str, Position]]:
    """The names of each batch's rows, and where it ends."""
    server = cast("TrinoServer", Server(rows, after))
    batches = ORDERED.read(server, cast("Statement", None), after, count)
    return [("".join(row[0] for row in batch), position) async for batch, position in batches]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 10])
async def test_reading_on_from_any_position_brings_the_rest_and_nothing_twice(count: int) -> None:
    whole = await read(None, count)
    assert "".join(names for names, _ in whole) == "abcdefg"
    done = ""
    for names, position in whole:
        done += names
        again = Position.of(position.cursor)
        assert done + "".join(rest for rest, _ in await read(again, count)) == "abcdefg"


@pytest.mark.parametrize("count", [1, 2, 3])
async def test_reading_one_batch_at_a_time_comes_to_the_end(count: int) -> None:
    done, after = "", None
    for _ in range(len(ROWS)):
        batches = await read(after, count)
        if not batches:
            break
        names, after = batches[0]
        done += names
    assert done == "abcdefg"
    assert await read(after, count) == []


async def test_what_no_longer_stands_at_a_position_is_not_missed() -> None:
    ((_, position), *_) = [each for each in await read(None, 3) if each[0].endswith("c")]
    without_c = [each for each in ROWS if each[0] != "c"]
    # Of the rows that nothing tells apart one is passed over: they are one event.
    assert [names for names, _ in await read(position, 10, without_c)] == ["efg"]
    none_left = [each for each in ROWS if each[0] not in "cde"]
    assert [names for names, _ in await read(position, 10, none_left)] == ["fg"]


async def test_a_cursor_without_a_count_brings_the_rows_at_it_again() -> None:
    position = Position.of({"time": NOON, "keys": ["2"]})
    assert [names for names, _ in await read(position, 10)] == ["cdefg"]
