"""What is kept of rejects, as a replay reads it."""

from datetime import UTC, datetime

import pytest

from worker.replay import _rejected

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("number", ["9" * 400, "1" + "0" * 30])
def test_one_payload_that_cannot_be_decoded_costs_no_other(number: str) -> None:
    text = f'{{"id": {number}}}'
    found = _rejected((1, "transform", "A-1", text, {}, NOW, "", NOW, None, "a reason"))
    assert found.payload is None
    assert found.cut is not None
    assert "cannot be decoded" in found.cut
    sound = _rejected((2, "transform", "A-2", '{"id": 1}', {}, NOW, "", NOW, None, "a reason"))
    assert (sound.payload, sound.cut) == ({"id": 1}, None)
