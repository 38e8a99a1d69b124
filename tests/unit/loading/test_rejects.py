from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from temporaletl.rows import Event, storable_text
from temporaletl.worker.loading.rejects import storable_json


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError


@pytest.mark.parametrize(
    ("payload", "stored"),
    [
        (b'{"b": 1, "a": 2}', '{"a":2,"b":1}'),
        (msgspec.Raw(b"[1]"), "[1]"),
        (b"", '""'),
        (b"not json", '"not json"'),
        (b"\xff", '"�"'),
        (b"[1e5, 1.50, 12345678901234567890123]", "[1E+5,1.50,12345678901234567890123]"),
        (b"[1e999999, -Infinity]", '"[1e999999, -Infinity]"'),
        (b"[1e999999]", '["1E+999999"]'),
        (b'"\\ud800\\u0000"', '"��"'),
        ({"n": Decimal("1.10"), "f": float("inf"), 3: ("\0",)}, '{"3":["�"],"f":"inf","n":1.10}'),
        (None, "null"),
    ],
)
def test_payloads_become_json_that_postgresql_takes(payload: Any, stored: str) -> None:
    assert storable_json(payload) == stored


def test_what_cannot_be_encoded_is_described() -> None:
    assert "object object at" in storable_json({"a": object()})
    assert storable_json(Unshowable()) == '"<Unshowable that cannot be shown: RuntimeError>"'
    endless: list[Any] = []
    endless.append(endless)
    assert storable_json(endless) == '"[[...]]"'


def test_a_row_is_kept_field_by_field() -> None:
    row = Event(event_id="1", event_type="t\ud800", event_time_utc=datetime(2024, 1, 1, tzinfo=UTC))
    kept = msgspec.json.decode(storable_json(row))
    assert kept["event_type"] == "t�"
    assert kept["event_time_utc"] == "2024-01-01T00:00:00Z"


def test_text_keeps_all_but_nul_and_lone_surrogates() -> None:
    assert storable_text("a\0b\udfff 🚀 ü") == "a�b� 🚀 ü"
