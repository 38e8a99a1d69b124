"""What is kept of rejects, as a replay reads it."""

from datetime import UTC, datetime

import pytest

from worker.replay import _rejected

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("value", ["[" * 100_000 + "]" * 100_000, "NaN"])
def test_one_payload_that_cannot_be_decoded_costs_no_other(value: str) -> None:
    text = f'{{"id": {value}}}'
    found = _rejected((1, "transform", "A-1", text, {}, NOW, "", NOW, None, "a reason"))
    assert found.payload is None
    assert found.cut is not None
    assert "cannot be decoded" in found.cut
    sound = _rejected((2, "transform", "A-2", '{"id": 1}', {}, NOW, "", NOW, None, "a reason"))
    assert (sound.payload, sound.cut) == ({"id": 1}, None)


def test_a_number_beyond_all_types_is_no_reason_to_refuse_a_payload() -> None:
    text = f'{{"id": {"9" * 400}}}'
    found = _rejected((1, "transform", "A-1", text, {}, NOW, "", NOW, None, "a reason"))
    assert (found.cut, str(found.payload["id"])) == (None, "9" * 400)
