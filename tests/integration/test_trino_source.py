"""Source `trino` against a real Trino, from the streams file to events."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from temporaletl import (
    ConfigurationError,
    Event,
    RecordError,
    TransformContext,
)
from temporaletl.worker.sources.trino.query import TrinoQuery
from temporaletl.worker.sources.trino.transform import transform
from tests.integration.job_reading import pages_of, read
from tests.integration.trino_reading import COLUMNS, DAY, ORDERS, SMALL, Lake, jobs_of, order


#: The server takes long to start where the machine is busy.
async def test_a_full_load_reads_every_row_as_an_event(lake: Lake) -> None:
    lake.orders(", ".join(order(n, placed=DAY + timedelta(minutes=n)) for n in range(1, 31)))
    found = await read(jobs_of(page_rows=7))
    assert found.numbers == set(range(1, 31))
    assert len(found.cursors) == 5
    event = found.events["orders:4"]
    assert event == Event(
        event_id="orders:4",
        event_type="order_placed",
        event_time_utc=DAY + timedelta(minutes=4),
        parent_item_id="N-4",
        relation_type="clerk",
        person="c1",
        metrics={"amount": 1.5},
    )


async def test_people_are_resolved(lake: Lake) -> None:
    lake.orders(order(4))
    (job,) = jobs_of()
    context = TransformContext(job=job, query=TrinoQuery(), identities={"c1": "E7"})
    async with pages_of(job) as pages:
        page = await anext(pages)
    (event,) = transform(page.records[0], context)
    assert event.employee_id == "E7"


async def test_a_window_has_its_start_and_not_its_end(lake: Lake) -> None:
    hours = {n: DAY + timedelta(hours=n) for n in range(5)}
    lake.orders(
        ", ".join(order(n, changed=changed) for n, changed in hours.items()),
        more="overlap_minutes = 0",
    )
    found = await read(jobs_of("incremental", start=hours[1], end=hours[3]))
    assert found.numbers == {1, 2}


async def test_an_incremental_window_reaches_back_by_the_streams_overlap(lake: Lake) -> None:
    lake.orders(
        ", ".join(order(n, changed=DAY + timedelta(minutes=10 * n)) for n in range(10)),
        more="overlap_minutes = 20",
    )
    found = await read(jobs_of("incremental", start=DAY + timedelta(minutes=60)))
    assert found.numbers == {4, 5, 6, 7, 8, 9}


async def test_a_backfill_goes_by_when_things_happened(lake: Lake) -> None:
    late = DAY + timedelta(days=90)
    lake.orders(
        ", ".join(order(n, placed=DAY + timedelta(days=n), changed=late) for n in range(10))
    )
    start, end = DAY + timedelta(days=2), DAY + timedelta(days=5)
    found = await read(jobs_of("backfill", start=start, end=end))
    assert found.numbers == {2, 3, 4}


async def test_a_window_is_cut_into_slices_that_overlap_nowhere(lake: Lake) -> None:
    lake.orders(
        ", ".join(order(n, changed=DAY + timedelta(hours=n)) for n in range(0, 72, 3)),
        more="slice_hours = 24",
    )
    jobs = jobs_of(end=DAY + timedelta(days=3))
    assert [job.window.start for job in jobs] == [None, *(DAY + timedelta(days=n) for n in (1, 2))]
    assert [job.window.end for job in jobs[:-1]] == [job.window.start for job in jobs[1:]]
    found = await read(jobs)
    assert found.numbers == set(range(0, 72, 3))
    assert found.records.total() == 24


async def test_behind_the_last_row_is_one_slice_that_has_what_comes_there_later(
    lake: Lake,
) -> None:
    table = lake.orders(
        ", ".join(order(n, changed=DAY + timedelta(hours=n)) for n in (0, 30)),
        more="slice_hours = 24",
    )
    jobs = jobs_of(end=DAY + timedelta(days=300))
    assert [job.window.start for job in jobs] == [None, DAY + timedelta(days=1)]
    assert jobs[-1].window.end == DAY + timedelta(days=300)
    lake.trino.execute(f"INSERT INTO {table} VALUES {order(7, changed=DAY + timedelta(days=9))}")
    assert (await read(jobs)).numbers == {0, 30, 7}


@pytest.mark.parametrize("size", [1, 3, 10])
async def test_reading_goes_on_from_every_cursor_also_among_ties(lake: Lake, size: int) -> None:
    rows = [order(n, changed=DAY + timedelta(hours=n // 8)) for n in range(24)]
    nowhen = "(99, 'N-99', NULL, TIMESTAMP '2025-03-01 00:00:00 UTC', NULL, NULL)"
    twin = order(5)  # the same key and time
    table = lake.orders(", ".join([*rows, nowhen, twin]))
    # The query's own bounds would leave out what changed nobody knows when.
    lake.streams(
        ORDERS.replace("WHERE changed_at >= :start AND changed_at < :end", ""), table=table
    )
    (job,) = jobs_of(page_rows=size)
    whole = await read([job])
    assert whole.numbers == {*range(24), 99}
    assert whole.records.total() == 26
    for position in range(0, len(whole.cursors), 7 if size == 1 else 1):
        first = await read([job], most_pages=position + 1, patience=0)
        rest = await read([job], cursor=first.cursors[-1], patience=0)
        assert first.events | rest.events == whole.events
        assert first.records + rest.records == whole.records


TYPED = """
[typed]
sql = "SELECT * FROM ({query}) t"
event_time = "at"
event_id = ["id", "part"]
event_type = { column = "kind" }
timezone = { column = "zone" }
metrics = ["big", "price", "ratio", "yes", "long"]
"""

VALUES = """
SELECT 7 AS id, 'a:b' AS part, 'thing_done' AS kind, 'Europe/Helsinki' AS zone,
  TIMESTAMP '2024-10-27 02:30:00.123456789 Europe/Berlin' AS at,
  BIGINT '9223372036854775807' AS big, DECIMAL '12.30' AS price, 0.25e0 AS ratio, true AS yes,
  CAST('12345678901234567.890' AS decimal(38,3)) AS long,
  TIMESTAMP '2024-05-01 10:00:00.123' AS local, TIMESTAMP '2024-05-01 10:00:00 +02:00' AS zoned,
  TIMESTAMP '2024-05-01 10:00:00 Europe/Berlin' AS named,
  DATE '2024-05-01' AS day, JSON '{"a": [1, null]}' AS document, ARRAY[DECIMAL '1.5', NULL] AS list,
  CAST(ROW(1, 'x', DATE '2024-05-01') AS row(n integer, t varchar, d date)) AS record,
  MAP(ARRAY['k'], ARRAY[JSON '[2]']) AS lookup,
  X'6162' AS data, NULL AS nothing, nan() AS no_number,
  UUID '12151fd2-7586-11e9-8f9e-2a86e4085a59' AS uuid, ROW(1, 2) AS unnamed
"""


async def test_every_type_of_value_is_kept(lake: Lake) -> None:
    lake.streams(TYPED.replace('"SELECT * FROM ({query}) t"', f"'''{VALUES}'''"))
    found = await read(jobs_of(stream="typed"))
    assert not found.rejects
    (event,) = found.events.values()
    assert event.event_id == "typed:7:a%3Ab"
    assert event.event_type == "thing_done"
    assert event.timezone == "Europe/Helsinki"
    # The first of the two half past two: Trino knows which.
    assert event.event_time_utc == datetime(2024, 10, 27, 0, 30, 0, 123456, tzinfo=UTC)
    assert event.metrics == {
        "big": 9223372036854775807,
        "price": 12.3,
        "ratio": 0.25,
        "yes": True,
        "long": Decimal("12345678901234567.89"),
    }
    assert event.event_properties == {
        "local": "2024-05-01T10:00:00.123",
        "zoned": "2024-05-01T10:00:00+02:00",
        "named": "2024-05-01T10:00:00+02:00",
        "day": "2024-05-01",
        "document": {"a": [1, None]},
        "list": [1.5, None],
        "record": {"n": 1, "t": "x", "d": "2024-05-01"},
        "lookup": {"k": [2]},
        "data": "YWI=",
        "nothing": None,
        "no_number": "NaN",
        "uuid": "12151fd2-7586-11e9-8f9e-2a86e4085a59",
        "unnamed": [1, 2],
    }


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("DATE '2024-05-01'", datetime(2024, 5, 1, tzinfo=UTC)),
        ("TIMESTAMP '2024-05-01 10:00:00'", datetime(2024, 5, 1, 10, tzinfo=UTC)),
        ("TIMESTAMP '2024-05-01 10:00:00 +05:30'", datetime(2024, 5, 1, 4, 30, tzinfo=UTC)),
    ],
)
async def test_a_time_without_a_zone_is_utc(lake: Lake, time: str, expected: datetime) -> None:
    lake.streams(SMALL, query=f"SELECT 1 AS id, {time} AS at")
    found = await read(jobs_of(stream="small"))
    assert found.events["small:1"].event_time_utc == expected


CHECKED = """
[small]
sql = '''{query}'''
event_time = "at"
event_id = "id"
event_type = { column = "kind" }
metrics = ["amount"]
timezone = { column = "zone" }
"""


async def test_a_row_that_cannot_be_an_event_is_rejected_with_the_column_at_fault(
    lake: Lake,
) -> None:
    at = "TIMESTAMP '2024-05-01 10:00:00'"
    lake.streams(
        CHECKED,
        query=f"""
        SELECT * FROM (VALUES
          ('1', {at}, 'seen', '1.5', 'UTC'), (NULL, {at}, 'seen', '1', 'UTC'),
          ('3', NULL, 'seen', '1', 'UTC'), ('4', {at}, NULL, '1', 'UTC'),
          ('5', {at}, 'seen', 'much', 'UTC'), ('6', {at}, 'seen', NULL, 'Mars/Base'),
          ('7', TIMESTAMP '15000-05-01 10:00:00', 'seen', '1', 'UTC')
        ) AS t (id, at, kind, amount, zone)
        """,
    )
    found = await read(jobs_of(stream="small", end=datetime(9999, 1, 1, tzinfo=UTC)))
    later = await read(jobs_of(stream="small"))
    assert set(found.events) == set(later.events) == {"small:1"}
    reasons = {reject.key: reject.reason for reject in found.rejects}
    assert reasons == {
        None: "column id is null, though events are known by it",
        "3": "column at is null, though it is the event's time",
        "4": "column kind is empty, though it is the event's type",
        "5": "column amount: 'much' is no number",
        "6": "column zone: 'Mars/Base' is no time zone",
    }
    (job,) = jobs_of(stream="small")
    context = TransformContext(job=job, query=TrinoQuery())
    for reject in found.rejects:
        payload = json.loads(json.dumps(reject.payload))
        with pytest.raises(RecordError, match=reject.reason):
            transform(payload, context)
    mended = {**next(r.payload for r in found.rejects if r.key == "5"), "amount": "2"}
    (event,) = transform(mended, context)
    assert event.metrics == {"amount": 2.0}


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("SELECT 1 AS id, nosuch AS at FROM (VALUES 1) t", r"line 1 of its SQL: Column 'nosuch'"),
        ("SELECT 1 AS id,\nnosuch AS at FROM (VALUES 1) t", r"line 2 of its SQL: Column 'nosuch'"),
        ("SELECT 1 AS id, current_date AS t", r"read by column at: .*'at' cannot be resolved"),
        ("SELECT 1 AS no, current_date AS at", r"'id' cannot be resolved"),
        ("SELECT 1 AS id, 'x' AS at", r"read by column at: .*Cannot apply operator: varchar"),
        ("SELECT 1 AS id, 2 AS ID, current_date AS at", "'id' is ambiguous"),
        ("SELECT 1 AS id, current_date AS at FROM memory.no.such", "Schema 'no' does not exist"),
        ("SELEC 1", "line 1 of its SQL: mismatched input"),
        ("SELECT 1 AS id, current_date AS at, 1 AS x, 2 AS X", "two columns called x"),
    ],
)
async def test_a_query_that_is_wrong_is_a_mistake_in_its_file(
    lake: Lake, query: str, told: str
) -> None:
    lake.streams(SMALL, query=query)
    with pytest.raises(ConfigurationError, match=told) as refused:
        await read(jobs_of(stream="small"))
    assert f"stream 'small' of {lake.folder / 'streams.toml'}" in str(refused.value)


async def test_a_column_that_the_query_lacks_is_named_also_without_rows(lake: Lake) -> None:
    lake.streams(SMALL + 'person = "who"', query="SELECT 1 AS id, current_date AS at WHERE 1 = 0")
    with pytest.raises(ConfigurationError, match="no column who; it has id, at"):
        await read(jobs_of(stream="small"))


async def test_an_event_time_must_be_a_time(lake: Lake) -> None:
    text = SMALL.replace('event_time = "at"', 'event_time = "told"\ncursor = "at"')
    lake.streams(text, query="SELECT 1 AS id, current_date AS at, '2024-05-01' AS told")
    with pytest.raises(ConfigurationError, match=r"told is .* but is a varchar.*from_iso8601"):
        await read(jobs_of(stream="small"))


async def test_parameters_are_data_whatever_they_say(lake: Lake) -> None:
    table = lake.orders(order(1))
    nasty = f"x' OR 1=1; DROP TABLE {table} --"
    lake.streams(
        ORDERS.replace("WHERE", "WHERE number = :number AND").replace(
            "[orders]", '[orders]\nparameters = { number = "N-1" }'
        ),
        table=table,
    )
    assert (await read(jobs_of())).numbers == {1}
    assert (await read(jobs_of(parameters={"number": nasty}))).numbers == set()
    assert (await read(jobs_of())).numbers == {1}
    with pytest.raises(ConfigurationError, match="parameters: colour is none of this stream's"):
        jobs_of(parameters={"colour": "red"})


async def test_what_changed_between_two_loads_is_what_a_full_load_finds(lake: Lake) -> None:
    rows = {n: DAY + timedelta(minutes=n) for n in range(40)}
    table = lake.orders(", ".join(order(n, placed=at) for n, at in rows.items()))
    upto = DAY + timedelta(minutes=30)
    first = await read(jobs_of(end=upto))
    changed = upto + timedelta(minutes=5)
    tied = ", ".join(order(n, placed=rows[n], changed=changed) for n in (3, 4, 5))
    late = order(100, placed=DAY, changed=upto - timedelta(minutes=2))
    fresh = order(101, placed=changed, changed=changed)
    state = (
        f"SELECT * FROM {table} WHERE order_id NOT IN (3, 4, 5) UNION ALL "
        f"SELECT * FROM (VALUES {tied}, {late}, {fresh}) t ({COLUMNS})"
    )
    lake.streams(ORDERS, table=lake.table(state))
    second = await read(jobs_of("incremental", start=upto))
    whole = await read(jobs_of())
    assert first.events | second.events == whole.events
    assert len(whole.events) == 42
    assert second.records.total() < whole.records.total() + 1
