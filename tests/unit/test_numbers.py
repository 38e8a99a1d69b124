"""Decimals as JSON's numbers."""

from decimal import Decimal

import pytest

from temporaletl import RecordError
from temporaletl.numbers import json_number
from temporaletl.worker.loading.encode import jsonb


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("1.50", b"1.5"),
        ("100", b"100.0"),
        ("90071992547409.93", b"90071992547409.93"),
        ("90071992547409.930", b"90071992547409.93"),
        ("1234567890123456789012345678.0123456789", b"1234567890123456789012345678.0123456789"),
        ("-0.1", b"-0.1"),
        ("1E+400", b"1E+400"),
    ],
)
def test_a_decimal_is_written_with_all_its_digits(text: str, written: bytes) -> None:
    _, (body,) = jsonb([{"n": json_number(Decimal(text))}])
    assert body == b'{"n":' + written + b"}"


@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1E+100000", "1E-100000"])
def test_what_json_has_no_form_for_is_refused(text: str) -> None:
    with pytest.raises(RecordError, match="no number that JSON can hold"):
        json_number(Decimal(text))
