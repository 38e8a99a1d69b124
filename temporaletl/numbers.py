"""Decimal numbers as JSON has them: with all their digits."""

from decimal import Decimal

from temporaletl.errors import RecordError

#: PostgreSQL's numeric, which holds jsonb's numbers, ends at 131,072 digits.
_MOST_DIGITS = 10_000


def json_number(value: Decimal) -> float | Decimal:
    """Return a double where it has the very same value, else the decimal itself.

    Rows may hold both; the loader writes either as a number. Whatever way the same value comes,
    be it `1.50` or `1.5`, the result is the same.

    Raises:
        RecordError: JSON has no form for it, or the warehouse no room.
    """
    if not value.is_finite() or abs(value.adjusted()) > _MOST_DIGITS:
        raise RecordError(f"{str(value)[:40]} is no number that JSON can hold")
    number = float(value)
    if Decimal(repr(number)) == value if number - number == 0 else False:
        return number
    # Digit by digit: `normalize` would round to the context's precision.
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # noqa: S101 - it is, in finite numbers
    while exponent < 0 and digits[-1] == 0:
        digits, exponent = digits[:-1], exponent + 1
    return Decimal((sign, digits, exponent))
