"""Python values in PostgreSQL's binary format, a block of one column at a time.

Every function takes the column's values and gives one or more sequences of pieces, as long as
the values; a row's bytes are its pieces joined, each value with its length before it. They
work on columns because `map` over a C function costs a fraction of a loop over rows.

A value that the column cannot hold raises, whatever fits; the caller finds the row.

Text and json keep every character but NUL, which PostgreSQL cannot store: it becomes U+FFFD.
"""

import re
import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import repeat
from operator import add
from typing import Any

import msgspec

from temporaletl.rows import REPLACEMENT
from temporaletl.worker.loading import zones

Pieces = Sequence[bytes]
#: Values of one or more fields to pieces of one or more columns.
Packer = Callable[..., tuple[Pieces, ...]]

NULL = b"\xff\xff\xff\xff"

_pack_length = struct.Struct(">i").pack
_pack_int8 = struct.Struct(">iq").pack
_pack_float8 = struct.Struct(">id").pack
_pack_date = struct.Struct(">ii").pack
_pack_time_week_local = struct.Struct(">iqiiiq").pack
_pack_jsonb_length = struct.Struct(">iB").pack

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_NAIVE_EPOCH = _EPOCH.replace(tzinfo=None)
_EPOCH_DAY = date(2000, 1, 1).toordinal()

# Short texts repeat (types, people, zones); a column of long or ever new ones starts over.
_TEXTS_KEPT = 5_000
_LONGEST_KEPT = 200
_LENGTHS_KEPT = 8_192


class _Lengths(dict[int, bytes]):
    def __init__(self, pack: Callable[[int], bytes]) -> None:
        super().__init__((n, pack(n)) for n in range(_LENGTHS_KEPT))
        self._pack = pack

    def __missing__(self, n: int) -> bytes:
        return self._pack(n)


_length_of = _Lengths(_pack_length).__getitem__
# jsonb travels as a version, 1, and the text.
_jsonb_length_of = _Lengths(lambda n: _pack_jsonb_length(n + 1, 1)).__getitem__


def nullable(pack: Packer) -> Packer:
    """The same column where None is NULL."""

    def pack_nullable(values: Sequence[Any]) -> tuple[Pieces, ...]:
        if None not in values:
            return pack(values)
        present = zip(*pack([v for v in values if v is not None]), strict=True)
        return ([NULL if v is None else b"".join(next(present)) for v in values],)

    return pack_nullable


def distinct_text(values: Sequence[str]) -> tuple[Pieces, ...]:
    """Text whose values rarely repeat."""
    if "\0" in "".join(values):
        values = [value.replace("\0", REPLACEMENT) for value in values]
    encoded = list(map(str.encode, values))
    return (list(map(add, map(_length_of, map(len, encoded)), encoded)),)


class _Texts(dict[str | None, bytes]):
    def __init__(self, *, null: bool) -> None:
        super().__init__()
        self._null = null

    def __missing__(self, value: str | None) -> bytes:
        packed = NULL if value is None and self._null else text(value)  # type: ignore[arg-type]
        if len(packed) <= _LONGEST_KEPT:
            if len(self) >= _TEXTS_KEPT:
                self.clear()
            self[value] = packed
        return packed


def repeated_text(*, null: bool) -> Packer:
    """Text whose values often repeat."""
    texts = _Texts(null=null)
    return lambda values: (list(map(texts.__getitem__, values)),)


def text(value: str) -> bytes:
    """One text with its length."""
    encoded = str.encode(str.replace(value, "\0", REPLACEMENT))
    return _pack_length(len(encoded)) + encoded


def int8(values: Sequence[int]) -> tuple[Pieces, ...]:
    return (list(map(_pack_int8, repeat(8), values)),)


def float8(values: Sequence[float]) -> tuple[Pieces, ...]:
    return (list(map(_pack_float8, repeat(8), values)),)


_BOOLEANS = {True: b"\0\0\0\1\1", False: b"\0\0\0\1\0"}


def boolean(values: Sequence[bool]) -> tuple[Pieces, ...]:
    return ([_BOOLEANS[value] for value in values],)


def calendar_date(values: Sequence[date]) -> tuple[Pieces, ...]:
    if any(isinstance(value, datetime) for value in values):
        raise TypeError("a datetime is not a date")
    return ([_pack_date(4, value.toordinal() - _EPOCH_DAY) for value in values],)


def _microseconds(since: Iterable[timedelta]) -> list[int]:
    # Twice as fast as dividing timedeltas, and as exact.
    return [(d.days * 86_400 + d.seconds) * 1_000_000 + d.microseconds for d in since]


def timestamptz(values: Sequence[datetime]) -> tuple[Pieces, ...]:
    timestamps = _microseconds([value - _EPOCH for value in values])
    return (list(map(_pack_int8, repeat(8), timestamps)),)


def timestamp(values: Sequence[datetime]) -> tuple[Pieces, ...]:
    clocks = _microseconds([value - _NAIVE_EPOCH for value in values])
    return (list(map(_pack_int8, repeat(8), clocks)),)


_offsets = zones.Zones()
_mondays = zones.Mondays()


def event_times(values: Sequence[datetime], names: Sequence[str]) -> tuple[Pieces, ...]:
    """An event's time in UTC, the Monday of its local week, and its local time."""
    pieces = []
    for value, name in zip(values, names, strict=True):
        since = value - _EPOCH
        day, fraction = since.days, since.microseconds
        second = day * 86_400 + since.seconds
        try:
            clock = second + _offsets[name][day]
        except zones.ChangesError:
            clock = second + _offsets[name].at(second)
        pieces.append(
            _pack_time_week_local(
                8,
                second * 1_000_000 + fraction,
                4,
                _mondays[clock // 86_400],
                8,
                clock * 1_000_000 + fraction,
            )
        )
    return (pieces,)


# Base 10,000 digits, after PostgreSQL's numeric_send: digits, weight, sign, scale.
_NUMERIC_HEAD = struct.Struct(">iHhHH")
_NUMERIC_POSITIVE, _NUMERIC_NEGATIVE = 0x0000, 0x4000
_NUMERIC_SPECIAL = {"NaN": 0xC000, "Infinity": 0xD000, "-Infinity": 0xF000}
_MOST_DIGITS_AFTER_POINT = 16_383
_MOST_DIGITS_BEFORE_POINT = 131_072


def _numeric(value: Decimal | int) -> bytes:
    if not isinstance(value, Decimal):
        if not isinstance(value, int):
            raise TypeError("not a Decimal")
        value = Decimal(value)
    if not value.is_finite():
        return _NUMERIC_HEAD.pack(8, 0, 0, _NUMERIC_SPECIAL[str(value)], 0)
    sign, digits, exponent = value.as_tuple()
    assert isinstance(exponent, int)  # noqa: S101 - it is, in finite numbers
    scale = max(0, -exponent)
    if scale > _MOST_DIGITS_AFTER_POINT or len(digits) + exponent > _MOST_DIGITS_BEFORE_POINT:
        raise OverflowError("more digits than numeric has")
    # Groups of four count from the point; zeros fill the outer ones.
    text = "".join(map(str, digits)) + "0" * max(0, exponent)
    after = scale + -scale % 4
    text += "0" * (after - scale)
    text = "0" * (-len(text) % 4) + text
    groups = [int(text[i : i + 4]) for i in range(0, len(text), 4)]
    weight = len(groups) - after // 4 - 1
    while groups and groups[0] == 0:
        del groups[0]
        weight -= 1
    while groups and groups[-1] == 0:
        del groups[-1]
    n = len(groups)
    return _NUMERIC_HEAD.pack(
        8 + 2 * n,
        n,
        weight if n else 0,
        _NUMERIC_NEGATIVE if sign and n else _NUMERIC_POSITIVE,
        scale,
    ) + struct.pack(f">{n}H", *groups)


def numeric(values: Sequence[Decimal]) -> tuple[Pieces, ...]:
    return (list(map(_numeric, values)),)


# Sorted keys: equal values give equal bytes, and so equal hashes.
_json = msgspec.json.Encoder(order="sorted", decimal_format="number")
_encode_msgpack = msgspec.msgpack.Encoder().encode

# An escaped NUL: the backslash before u0000 is not itself escaped.
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
# In msgpack a float is cb and eight bytes; all exponent bits set is NaN or an infinity. Neither
# UTF-8 nor a small number has these bytes in a row; what else has is looked at more closely.
_PERHAPS_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")


def jsonb(values: Sequence[Any]) -> tuple[Pieces, ...]:
    # One call and a split are quicker than a call for each value.
    together = _json.encode_lines(values)
    encoded = together.split(b"\n")
    encoded.pop()
    if len(encoded) != len(values):
        # Only a msgspec.Raw can bring line ends of its own.
        encoded = list(map(_json.encode, values))
    # The first test is much quicker, and most often the last.
    if b"\\" in together and b"\\u0000" in together:
        encoded = [_NUL.sub(rb"\1\\ufffd", one) for one in encoded]
    if b"null" in together:
        _refuse_not_finite(values)
    return list(map(_jsonb_length_of, map(len, encoded))), encoded


def _refuse_not_finite(values: Sequence[Any]) -> None:
    """The encoder writes NaN and infinities as null; that would lose them silently."""
    try:
        packed = _encode_msgpack(values)
        # The first test is much quicker, and most often the last.
        suspicious = b"\xcb" in packed and _PERHAPS_NOT_FINITE.search(packed) is not None
    except (TypeError, ValueError, OverflowError):
        suspicious = True
    if suspicious and not _finite(msgspec.to_builtins(values)):
        raise ValueError("json has neither NaN nor infinities")


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return value - value == 0
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_finite, value))
    return True
