"""Source `trino`: rows that were loaded and that the query finds no more."""

from datetime import timedelta
from typing import Any

import pytest

from temporaletl import ConfigurationError, SourceProtocolError
from temporaletl.messages import Mode
from tests.integration.job_reading import NOW, read
from tests.integration.trino_reading import DAY, ORDERS, Lake, jobs_of, order

#: The server takes long to start where the machine is busy.
SWEPT = "find_deleted = true"


def rows(*numbers: int) -> str:
    return ", ".join(order(n, changed=DAY + timedelta(hours=n)) for n in numbers)


async def test_rows_that_are_gone_leave_with_the_next_run(lake: Lake) -> None:
    lake.orders(rows(*range(1, 31)), more=SWEPT)
    found = await read(jobs_of())
    lake.orders(rows(1, *range(4, 31)), more=SWEPT)
    # The window holds none of them.
    await read(jobs_of("incremental", start=DAY + timedelta(days=9)), into=found)
    assert found.numbers == {1, *range(4, 31)}


async def test_ids_of_several_columns_and_of_any_text_are_told_apart(lake: Lake) -> None:
    columns = "id, part, at"

    def lines(*values: str) -> str:
        texts = ", ".join(f"({value}, DATE '2025-03-01')" for value in values)
        return lake.table(f"SELECT * FROM (VALUES {texts}) AS t ({columns})")

    stream = """
    [lines]
    sql = "SELECT * FROM {table}"
    event_time = "at"
    event_id = ["id", "part"]
    event_type = "line_seen"
    find_deleted = true
    """
    everything = ["1, 'a:b'", "1, 'a'", "10, 'a'", "1, '%'", "1, NULL"]
    lake.streams(stream, table=lines(*everything))
    found = await read(jobs_of(stream="lines"))
    assert len(found.events) == 4
    lake.streams(stream, table=lines("1, 'a:b'", "10, 'a'", "1, '%'"))
    await read(jobs_of(stream="lines"), into=found)
    assert set(found.events) == {"lines:1:%25", "lines:1:a%3Ab", "lines:10:a"}


async def test_a_row_that_changed_since_is_not_gone(lake: Lake) -> None:
    lake.orders(rows(1, 2), more=SWEPT)
    found = await read(jobs_of())
    later = order(2, changed=NOW + timedelta(days=1))
    lake.orders(f"{rows(1)}, {later}", more=SWEPT)
    await read(jobs_of(), into=found)
    assert found.numbers == {1, 2}


async def test_much_that_is_gone_at_once_must_be_accepted(lake: Lake) -> None:
    lake.orders(rows(*range(1, 31)), more=SWEPT)
    found = await read(jobs_of())
    lake.orders(rows(1), more=SWEPT)
    with pytest.raises(SourceProtocolError, match=r"29 of the 30 rows of orders.*accept_deletions"):
        await read(jobs_of(), into=found)
    await read(jobs_of(accept_deletions=True), into=found)
    assert found.numbers == {1}


@pytest.mark.parametrize(
    ("more", "mode", "params", "taken"),
    [
        (SWEPT, "full", {}, True),
        (SWEPT, "incremental", {}, True),
        (SWEPT, "backfill", {}, False),
        (SWEPT, "full", {"parameters": {"least": 2}}, False),
        ("", "full", {}, False),
    ],
)
async def test_deletions_are_looked_for_where_it_is_asked_for(
    lake: Lake, more: str, mode: Mode, params: dict[str, Any], taken: bool
) -> None:
    table = lake.orders(rows(1))
    text = ORDERS.replace("-- the window's", "AND order_id >= :least")
    lake.streams(f"{text}\nparameters = {{ least = 1 }}\n{more}", table=table)
    start = None if mode == "full" else DAY
    jobs = jobs_of(mode, start=start, **params)
    assert any(job.scan for job in jobs) == taken


def test_whether_rows_are_looked_for_is_yes_or_no(lake: Lake) -> None:
    lake.orders(rows(1), more='find_deleted = "often"')
    with pytest.raises(ConfigurationError, match="find_deleted"):
        jobs_of()
