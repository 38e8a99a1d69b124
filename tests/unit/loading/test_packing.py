import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from temporaletl.rows import Event, Row
from temporaletl.worker.loading.columns import layout_of
from temporaletl.worker.loading.copying import seed_of
from temporaletl.worker.loading.packing import ROWS_PER_BLOCK, Packed

LAYOUT = layout_of(Event)
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


def event(n: int, **changes: Any) -> Event:
    made = Event(
        event_id=f"{n:05d}",
        event_type="made",
        event_time_utc=NOON + timedelta(seconds=n),
        metrics={"b": n, "a": [None, 1.5]},
    )
    return msgspec.structs.replace(made, **changes)


def packed(rows: Sequence[Row], *, version: str = "1") -> Packed:
    made = Packed(LAYOUT, rows, seed_of(LAYOUT, "jira", version, "1.0"))
    made.finish()
    return made


def hash_of(row: Row, **options: Any) -> bytes:
    (only,) = packed([row], **options).hashes
    return only


def ids(made: Packed) -> list[str]:
    return [row.event_id for row in made.rows if isinstance(row, Event)]


def test_rows_come_in_the_order_of_their_keys() -> None:
    rows = [event(n) for n in range(2 * ROWS_PER_BLOCK + 7)]
    random.Random(1).shuffle(rows)  # noqa: S311 - not a secret
    made = packed(rows)
    assert ids(made) == sorted(row.event_id for row in rows)
    assert len(made.data) == len(made.hashes) == len(made.keys[0]) == len(rows)


def test_blocks_are_packed_when_they_are_reached() -> None:
    made = Packed(LAYOUT, [event(n) for n in range(3 * ROWS_PER_BLOCK)], b"")
    blocks = made.blocks()
    assert next(blocks) == slice(0, ROWS_PER_BLOCK)
    assert len(made.rows) == ROWS_PER_BLOCK
    assert sum(block.stop - block.start for block in blocks) == 2 * ROWS_PER_BLOCK
    # A second look finds all of them packed, in blocks of any size.
    assert [block.stop for block in made.blocks(1000)] == [1000, 3 * ROWS_PER_BLOCK]


def test_a_faulty_row_does_not_take_its_neighbours_along() -> None:
    rows = [event(n, event_type=None if n in (3, 500) else "made") for n in range(1000)]
    made = packed(rows)
    assert len(made.rows) == 998
    assert [reject.key for reject in made.rejects] == ["00003", "00500"]
    assert "column event_type: None is not a str" in made.rejects[0].reason


def test_of_rows_with_one_key_the_last_good_one_stays() -> None:
    made = packed(
        [event(1, employee_id="a"), event(1, employee_id="b"), event(1, employee_id="\ud800")]
    )
    assert [row.employee_id for row in made.rows if isinstance(row, Event)] == ["b"]
    assert (made.superseded, len(made.rejects)) == (1, 1)


def test_equal_values_have_equal_hashes() -> None:
    same = event(1, metrics={"a": [None, 1.5], "b": 1})
    elsewhere = event(1, event_time_utc=(NOON + timedelta(seconds=1)).astimezone(tz=None))
    assert hash_of(event(1)) == hash_of(same) == hash_of(elsewhere)


@pytest.mark.parametrize(
    "changes",
    [
        {"event_id": "00002"},
        {"event_type": "mad"},
        {"event_time_utc": NOON},
        {"parent_item_id": ""},
        {"relation_type": "x"},
        {"employee_id": "x"},
        {"timezone": "Europe/London"},
        {"event_properties": {"a": None}},
        {"relation_properties": []},
        {"metrics": {"b": 1, "a": [None, 1.25]}},
    ],
)
def test_any_other_value_has_another_hash(changes: dict[str, Any]) -> None:
    assert hash_of(event(1)) != hash_of(event(1, **changes))


def test_values_that_only_move_between_columns_have_another_hash() -> None:
    one, other = (event(1, **{name: "x"}) for name in ("relation_type", "employee_id"))
    assert hash_of(one) != hash_of(other)


def test_the_version_is_part_of_the_hash() -> None:
    assert hash_of(event(1)) != hash_of(event(1), version="2")


def test_the_hash_is_the_same_in_every_release() -> None:
    """Another hash would rewrite every table at the next reload."""
    assert hash_of(event(1)).hex() == "9a05867327d0617b"
