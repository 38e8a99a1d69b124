"""The file of streams: what it may say, and the errors in one."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from temporaletl import ConfigurationError, Window
from temporaletl.external.trino.streams import (
    BEGINNING,
    END,
    FromColumn,
    Stream,
    load_streams,
    placeholders,
    read_streams,
    stream_names,
)

GOOD = '''
[orders]
sql = """
SELECT * FROM orders -- event_id = "not this"
WHERE at >= :start AND at < :end
"""
event_time = "at"
event_id = "id"
event_type = "order_placed"
'''


def written(folder: Path, text: str) -> Path:
    file = folder / "streams.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_stream_is_a_table_of_the_file(tmp_path: Path) -> None:
    more = '[refunds]\nsql = "SELECT 1"\nevent_time = "t"\nevent_id = ["a", "b"]\n'
    found = read_streams(written(tmp_path, f'{GOOD}{more}event_type = {{ column = "kind" }}'))
    assert list(found.streams) == ["orders", "refunds"]
    orders, refunds = found.get("orders"), found.get("refunds")
    assert (orders.event_id, orders.cursor_column) == (("id",), "at")
    assert refunds.event_type == FromColumn(column="kind")
    assert refunds.named_columns == {"t", "a", "b", "kind"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("event_id", "event_ids"), r":8: orders.event_ids: is no key of a stream; those are sql,"),
        (('event_id = "id"', ""), r":2: orders.event_id: is missing"),
        (('event_id = "id"', "event_id = 3"), r":8: orders.event_id: "),
        (('event_id = "id"', "event_id = []"), r":8: orders.event_id: "),
        (('"order_placed"', '{ colum = "x" }'), r":9: orders.event_type: "),
        (('"order_placed"', '"x"\nslice_hours = 0'), r":10: orders.slice_hours: .* greater than 0"),
        (('"order_placed"', '"x"\noverlap_minutes = "long"'), r":10: orders.overlap_minutes: "),
        (
            ('"order_placed"', '"x"\ntimezone = "Mars"'),
            r":10: orders.timezone: 'Mars' is no time",
        ),
        (('"order_placed"', '"x"\nparameters.start = 1'), r":10: orders.parameters: .*window's"),
        (('"order_placed"', '"x"\n[orders.parameters]\nend = 1'), r":10: orders.parameters: "),
        ((":start", ":begin"), r":3: orders.sql: :begin has no value; give it one in parameters"),
        ((":start", "?"), r":3: orders.sql: has a \?: parameters have names here"),
        (("[orders]", "[Orders]"), r":2: stream 'Orders': names have small letters"),
        (
            ("[orders]", "x = 1\n[orders]"),
            r":2: x stands outside of a stream: .* \[x\]",
        ),
        (('event_time = "at"', "event_time = at"), r": not TOML: .*line 7"),
        (('event_time = "at"', f"event_time = {'[' * 5_000}"), "nested too deep"),
    ],
)
def test_a_mistake_is_told_with_file_line_and_key(
    tmp_path: Path, change: tuple[str, str], reason: str
) -> None:
    # In the query stands a line that looks like a key, and must not be taken for it.
    before, after = change
    first = GOOD.rindex(before) if before == "event_id" else GOOD.index(before)
    if before.startswith("event_id"):
        first = GOOD.rindex("event_id")
    text = GOOD[:first] + after + GOOD[first + len(before) :]
    file = written(tmp_path, text)
    with pytest.raises(ConfigurationError, match=reason) as refused:
        read_streams(file)
    assert str(refused.value).startswith(str(file))


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace('event_type = "order_placed"', "metric = 1") + "[empty]\n"
    with pytest.raises(ConfigurationError) as refused:
        read_streams(written(tmp_path, text))
    reason = str(refused.value)
    assert ":9: orders.metric: " in reason
    assert ":2: orders.event_type: is missing" in reason
    assert ":10: empty.sql: is missing" in reason


def test_a_file_without_streams_or_none_at_all_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no streams: each is a table"):
        read_streams(written(tmp_path, "# nothing"))
    with pytest.raises(ConfigurationError, match=r"TRINO_STREAMS_FILE: .*No such file"):
        read_streams(tmp_path / "none.toml")


def test_the_file_is_read_again_when_it_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRINO_STREAMS_FILE", str(written(tmp_path, GOOD)))
    assert stream_names() == ("orders",)
    assert load_streams() is load_streams()
    written(tmp_path, GOOD.replace("[orders]", "[purchases]"))
    assert stream_names() == ("purchases",)
    with pytest.raises(ConfigurationError, match=r"no stream 'orders'; its streams: purchases"):
        load_streams().get("orders")


def stream(sql: str, **more: object) -> Stream:
    known = {"event_time": "at", "event_id": "id", "event_type": "seen"}
    return Stream.model_validate({"sql": sql, **known, **more})


def test_placeholders_in_texts_names_and_comments_are_none() -> None:
    sql = """
    SELECT ':a', "b:c", 'it''s :d' -- :e ?
    /* :f
       ? */ FROM t WHERE x = :g AND y>:h
    """
    assert placeholders(sql) == ["g", "h"]


def test_a_query_is_bound_in_the_order_of_its_placeholders() -> None:
    window = Window(start=datetime(2024, 1, 1, tzinfo=UTC), end=datetime(2024, 2, 1, tzinfo=UTC))
    bound_stream = stream(
        "SELECT :x WHERE a < :end AND b >= :start AND c = :x;", parameters={"x": 1}
    )
    assert bound_stream.bound(window, {"x": "it's"}) == (
        "SELECT ? WHERE a < ? AND b >= ? AND c = ?",
        ["it's", window.end, window.start, "it's"],
    )
    assert bound_stream.bound(Window(), {})[1] == [1, END, BEGINNING, 1]
    with pytest.raises(ConfigurationError, match="y is none of this stream's; it has x"):
        bound_stream.bound(window, {"y": 2})


def test_a_backfill_goes_by_the_event_time_and_leaves_the_query_unbounded() -> None:
    window = Window(start=datetime(2024, 1, 1, tzinfo=UTC))
    changing = stream("SELECT 1", cursor="changed")
    assert changing.ordered_by("incremental") == "changed"
    assert changing.ordered_by("backfill") == "at"
    assert changing.window_of_sql(window, "incremental") == window
    assert changing.window_of_sql(window, "backfill") == Window()
    assert stream("SELECT 1").window_of_sql(window, "backfill") == window
