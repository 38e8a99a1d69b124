"""What is kept of rejects, as a replay reads it."""

from typing import Any

import pytest

from temporaletl.worker.stored_rejects import rejected_of


def row(text: str) -> dict[str, Any]:
    return {
        "reject_id": 1,
        "stage": "transform",
        "times": 1,
        "reason": "a reason",
        "key": "A-1",
        "text": text,
        "params": {},
        "payload_bytes": None,
    }


@pytest.mark.parametrize("value", ["[" * 100_000 + "]" * 100_000, "NaN"])
def test_one_payload_that_cannot_be_decoded_costs_no_other(value: str) -> None:
    text = f'{{"id": {value}}}'
    found = rejected_of(row(text))
    assert found.payload is None
    assert found.cut is not None
    assert "cannot be decoded" in found.cut
    sound = rejected_of(row('{"id": 1}'))
    assert (sound.payload, sound.cut) == ({"id": 1}, None)


def test_a_number_beyond_all_types_is_no_reason_to_refuse_a_payload() -> None:
    text = f'{{"id": {"9" * 400}}}'
    found = rejected_of(row(text))
    assert (found.cut, str(found.payload["id"])) == (None, "9" * 400)
