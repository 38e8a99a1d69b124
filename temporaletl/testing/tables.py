"""What two loads hold, compared; and which windows cut what they hold best."""

# ruff: noqa: S101 - pytest's assertions

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime

from temporaletl.testing.contents import Content
from temporaletl.testing.rig import Rig

#: Rows by table and key.
Tables = Mapping[str, Mapping[str, Content]]


def assert_same(found: Tables, expected: Tables) -> None:
    """Fail with the rows that differ, few of them."""
    for table in expected.keys() | found.keys():
        ours, theirs = found.get(table, {}), expected.get(table, {})
        assert not (missing := sorted(theirs.keys() - ours.keys())[:5]), f"{table} lacks {missing}"
        assert not (extra := sorted(ours.keys() - theirs.keys())[:5]), f"{table} also has {extra}"
        for key, row in theirs.items():
            assert ours[key] == row, f"{table} {key}"


def keys_alone(tables: Tables) -> dict[str, dict[str, Content]]:
    """The same rows, whatever they say."""
    return {table: {key: {} for key in rows} for table, rows in tables.items()}


def moments_of(rig: Rig, tables: Tables) -> list[datetime]:
    """The times that decide on the rows' windows, in order."""
    times = (
        row[column]
        for table, column in rig.time_columns.items()
        for row in tables.get(table, {}).values()
    )
    return sorted(time.astimezone(UTC) for time in times if time is not None)


def middle_of(moments: list[datetime]) -> datetime:
    """A time in the middle half that most rows share: the hardest place for two windows to meet."""
    inner = [m for m in moments[len(moments) // 4 : -len(moments) // 4] if m > moments[0]]
    return Counter(inner or moments[-1:]).most_common(1)[0][0]


def timed(rig: Rig, tables: Tables) -> Tables:
    """The rows that belong to some window."""
    return {
        table: {key: row for key, row in rows.items() if row[rig.time_columns[table]] is not None}
        for table, rows in tables.items()
        if table in rig.time_columns
    }


def within(rig: Rig, tables: Tables, start: datetime, end: datetime) -> Tables:
    """The rows that belong to this window, its end exclusive."""
    return {
        table: {k: r for k, r in rows.items() if start <= r[rig.time_columns[table]] < end}
        for table, rows in timed(rig, tables).items()
    }
