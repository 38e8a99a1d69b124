"""Comparison of the rows of two loads, and their division into windows."""

# ruff: noqa: S101 - pytest's assertions

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

from temporaletl.testing.contents import Content
from temporaletl.testing.source_fixture import SourceFixture

#: Rows by table and key.
Tables = Mapping[str, Mapping[str, Content]]


def assert_same(found: Tables, expected: Tables) -> None:
    """Fail where rows differ, naming a few of them."""
    for table in expected.keys() | found.keys():
        ours, theirs = found.get(table, {}), expected.get(table, {})
        assert not (missing := sorted(theirs.keys() - ours.keys())[:5]), f"{table} lacks {missing}"
        assert not (extra := sorted(ours.keys() - theirs.keys())[:5]), f"{table} also has {extra}"
        for key, row in theirs.items():
            assert ours[key] == row, f"{table} {key}"


def keys_only(tables: Tables) -> dict[str, dict[str, Content]]:
    """The keys of the rows, without their content."""
    return {table: {key: {} for key in rows} for table, rows in tables.items()}


def timestamps_of(fixture: SourceFixture, tables: Tables) -> list[datetime]:
    """The timestamps that assign rows to windows, in order."""
    times = (
        row[column]
        for table, column in fixture.time_columns.items()
        for row in tables.get(table, {}).values()
    )
    return sorted(time.astimezone(UTC) for time in times if time is not None)


def middle_of(timestamps: list[datetime]) -> datetime:
    """The most frequent timestamp of the middle half: the hardest boundary of two windows."""
    inner = [
        t for t in timestamps[len(timestamps) // 4 : -len(timestamps) // 4] if t > timestamps[0]
    ]
    return Counter(inner or timestamps[-1:]).most_common(1)[0][0]


def timed(fixture: SourceFixture, tables: Tables) -> Tables:
    """The rows that have a timestamp, and so belong to a window."""
    return {
        table: {
            key: row for key, row in rows.items() if row[fixture.time_columns[table]] is not None
        }
        for table, rows in tables.items()
        if table in fixture.time_columns
    }


def within(fixture: SourceFixture, tables: Tables, start: datetime, end: datetime) -> Tables:
    """The rows of one window, its end exclusive."""
    return {
        table: {k: r for k, r in rows.items() if start <= r[fixture.time_columns[table]] < end}
        for table, rows in timed(fixture, tables).items()
    }
