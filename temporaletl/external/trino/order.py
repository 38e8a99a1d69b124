"""Keyset pagination over a query's rows, from any position on, that never loses one.

Whatever the query is, it becomes the inner part of one that orders by a time and then by keys, and
begins at a position. Trino pushes the bounds on the time down into the query where it can.

A position is where the last delivered row stands, and how many rows stand there that were
delivered: rows that share even their keys are neither lost between two readings nor read forever.
"""

import contextlib
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from pydantic import JsonValue

from temporaletl.errors import ConfigurationError
from temporaletl.external.trino.results import Undecodable
from temporaletl.external.trino.server import Parameter, Statement, TrinoServer

#: What the query's own lines come after, for Trino's words on them.
_LINES_BEFORE = 1
_TIMESTAMP = "timestamp(12) with time zone"


class Position(msgspec.Struct, frozen=True):
    """The position of a row: its time in UTC as Trino writes it (None sorts first), and its keys.

    `rows` of those that stand there were delivered.
    """

    time: str | None
    keys: tuple[str, ...]
    rows: int = 0

    @classmethod
    def of(cls, cursor: JsonValue) -> "Position | None":
        """Read a page's cursor; None at the beginning.

        Raises:
            ConfigurationError: it is none of ours.
        """
        if cursor is None:
            return None
        try:
            return msgspec.convert(cursor, cls)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"no cursor of rows from Trino: {error}") from None

    @property
    def cursor(self) -> JsonValue:
        return {"time": self.time, "keys": list(self.keys), "rows": self.rows}


#: A position without its count.
_Location = tuple[str | None, tuple[str, ...]]


def _location(position: Position | None) -> _Location | None:
    return None if position is None else (position.time, position.keys)


def quoted(name: str) -> str:
    """Return a column's or table's name for use in SQL."""
    return '"' + name.replace('"', '""') + '"'


def as_utc(expression: str) -> str:
    """SQL for a time as text in UTC, to the last digit; null where it is no time at all."""
    return f"CAST(TRY_CAST({expression} AS {_TIMESTAMP}) AT TIME ZONE 'UTC' AS varchar)"


@dataclass(frozen=True, slots=True)
class Ordered:
    """A query's rows with start <= time < end, ordered by `time` and `keys`, which are columns.

    Without a start, rows whose time is null come first. After the query's own columns come the
    `extra` expressions, then the row's position.
    """

    sql: str
    parameters: Sequence[Parameter]
    time: str
    keys: Sequence[str]
    start: datetime | None = None
    end: datetime | None = None
    extra: Sequence[str] = ()

    def statement(self, server: TrinoServer, after: Position | None, *, name: str) -> Statement:
        """Make the query, from a position on."""
        time = quoted(self.time)
        keys = [f"COALESCE(CAST({quoted(key)} AS varchar), '')" for key in self.keys]
        conditions, values = self._window()
        if after is not None:
            self._go_on(after, time, keys, conditions, values)
        where = _where(conditions)
        selected = ", ".join(["q.*", *self.extra, as_utc(time), *keys])
        order = ", ".join([f"{time} NULLS FIRST", *keys])
        text = f"SELECT {selected} {_inner(self.sql)}{where} ORDER BY {order}"
        return Statement(
            server, text, [*self.parameters, *values], name=name, lines_before=_LINES_BEFORE
        )

    def count(self, server: TrinoServer, *, name: str) -> int:
        """Return how many rows there are. Blocks; raises as `Statement.fetch`."""
        conditions, values = self._window()
        text = f"SELECT count(*) {_inner(self.sql)}{_where(conditions)}"
        ((count,),) = server.ask(text, [*self.parameters, *values], name=name)
        return int(count)

    def _window(self) -> tuple[list[str], list[Parameter]]:
        time = quoted(self.time)
        conditions: list[str] = []
        values: list[Parameter] = []
        if self.start is not None:
            conditions.append(f"{time} >= ?")
            values.append(self.start)
        if self.end is not None:
            conditions.append(
                f"({time} < ? OR {time} IS NULL)" if self.start is None else f"{time} < ?"
            )
            values.append(self.end)
        return conditions, values

    def _go_on(
        self,
        after: Position,
        time: str,
        keys: Sequence[str],
        conditions: list[str],
        values: list[Parameter],
    ) -> None:
        if len(after.keys) != len(keys):
            raise ConfigurationError(
                "the job was begun with other keys than are configured now: run it anew"
            )
        beyond, beyond_values = _at_or_beyond(keys, after.keys)
        if after.time is None:
            conditions.append(f"({time} IS NOT NULL OR {beyond})")
            values += beyond_values
            return
        timestamp = f"CAST(? AS {_TIMESTAMP})"
        conditions.append(f"{time} >= {timestamp} AND ({time} > {timestamp} OR {beyond})")
        values += [after.time, after.time, *beyond_values]

    async def read(
        self, server: TrinoServer, statement: Statement, after: Position | None, count: int
    ) -> AsyncGenerator[tuple[list[list[Any]], Position]]:
        """Yield rows behind a position, at most `count` at a time, and where they end.

        A row whose position cannot be read has none: reading would go on before it.

        Raises: as `Statement.fetch`.
        """
        delivered = 0 if after is None else after.rows
        async with contextlib.aclosing(server.batches(statement, count)) as batches:
            async for batch in batches:
                at = 0
                while at < min(delivered, len(batch)) and self._location(batch[at]) == _location(
                    after
                ):
                    at += 1
                delivered = delivered - at if at == len(batch) else 0
                if rows := batch[at:]:
                    after = self._behind(after, rows)
                    yield rows, after

    def _behind(self, before: Position | None, rows: Sequence[Sequence[object]]) -> Position:
        """The position behind rows that were delivered behind a position."""
        locations = [location for location in map(self._location, rows) if location is not None]
        if not locations:
            # Nothing sorts before nulls and empty texts.
            return before or Position(None, ("",) * len(self.keys))
        last = locations[-1]
        count = 1
        while count < len(locations) and locations[-1 - count] == last:
            count += 1
        if count == len(locations) and before is not None and _location(before) == last:
            count += before.rows
        return Position(*last, rows=count)

    def _location(self, row: Sequence[object]) -> _Location | None:
        time, *keys = row[-1 - len(self.keys) :]
        if any(isinstance(value, Undecodable) for value in (time, *keys)):
            return None
        return None if time is None else str(time), tuple(map(str, keys))

    @property
    def trailing(self) -> int:
        """The number of the statement's columns that are not the query's own."""
        return len(self.extra) + 1 + len(self.keys)


def _inner(sql: str) -> str:
    # On lines of its own, as it may end with a comment.
    return f"FROM (\n{sql}\n) AS q"


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _at_or_beyond(keys: Sequence[str], values: Sequence[str]) -> tuple[str, list[Parameter]]:
    """A condition for keys at or behind those given, in their order."""
    if len(keys) == 1:
        return f"{keys[0]} >= ?", [values[0]]
    rest, rest_values = _at_or_beyond(keys[1:], values[1:])
    return (
        f"({keys[0]} > ? OR ({keys[0]} = ? AND {rest}))",
        [values[0], values[0], *rest_values],
    )


def columns_of_all(
    server: TrinoServer,
    sql: str,
    parameters: Sequence[Parameter],
    columns: Sequence[str],
    *,
    name: str,
) -> Statement:
    """Make a query for some columns of all of a query's rows, in no order."""
    text = f"SELECT {', '.join(map(quoted, columns))} {_inner(sql)}"
    return Statement(server, text, parameters, name=name, lines_before=_LINES_BEFORE)


def outer_times(
    server: TrinoServer, sql: str, parameters: Sequence[Parameter], time: str, *, name: str
) -> tuple[str | None, str | None]:
    """Return the earliest and the latest time of a query's rows, as text in UTC. Blocks.

    Raises: as `Statement.fetch`.
    """
    column = quoted(time)
    text = f"SELECT {as_utc(f'min({column})')}, {as_utc(f'max({column})')} {_inner(sql)}"
    ((first, last),) = server.ask(text, parameters, name=name)
    return first, last
