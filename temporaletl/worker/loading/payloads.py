"""Sizes of reject payloads, and the beginnings of those that are too large to be kept."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from xxhash import xxh3_64

_CHARACTERS_AT_ONCE = 1 << 16
_MOST_NESTED = 400


def exceeds(payload: Any, most: int) -> bool:
    """Whether the payload's text has more than about so many bytes. Stops counting there."""
    size = 0
    pending = [payload]
    while pending:
        value = pending.pop()
        if isinstance(value, msgspec.Raw):
            size += memoryview(value).nbytes
        elif isinstance(value, str | bytes | bytearray):
            size += len(value)
        elif isinstance(value, memoryview):
            size += value.nbytes
        elif isinstance(value, Mapping):
            size += 2 * len(value)
            pending += value.keys()
            pending += value.values()
        elif isinstance(value, list | tuple | set | frozenset):
            size += 2 * len(value)
            pending += value
        elif isinstance(value, msgspec.Struct):
            pending += msgspec.structs.astuple(value)
        else:
            size += 8
        # Of an endless structure more is pending, whatever it weighs.
        if size + len(pending) > most:
            return True
    return False


def beginning_of(payload: Any, most: int) -> tuple[str, int, str]:
    """The first `most` bytes of a payload's text, its size in bytes, and a digest of all of it."""
    if isinstance(payload, msgspec.Raw | bytes | bytearray | memoryview):
        view = memoryview(payload).cast("B")
        # A character that the cut divides is left out.
        text = bytes(view[:most]).decode(errors="replace").rstrip("\N{REPLACEMENT CHARACTER}")
        return text, view.nbytes, xxh3_64(view).hexdigest()
    kept: list[str] = []
    left, size, digest = most, 0, xxh3_64()
    for piece in _pieces(payload, 0):
        encoded = piece.encode(errors="replace")
        size += len(encoded)
        digest.update(encoded)
        if left > 0:
            kept.append(encoded[:left].decode(errors="ignore"))
            left -= len(encoded)
    return "".join(kept), size, digest.hexdigest()


def _pieces(value: Any, depth: int) -> Iterator[str]:
    """The value as JSON, little by little."""
    if isinstance(value, str):
        yield '"'
        for first in range(0, len(value), _CHARACTERS_AT_ONCE):
            part = value[first : first + _CHARACTERS_AT_ONCE]
            yield json.dumps(part, ensure_ascii=False)[1:-1]
        yield '"'
    elif depth > _MOST_NESTED:
        yield '"..."'
    elif isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        yield from _pieces(fields, depth)
    elif isinstance(value, Mapping):
        opening = "{"
        for key, item in value.items():
            yield f"{opening}{json.dumps(str(key), ensure_ascii=False)}:"
            yield from _pieces(item, depth + 1)
            opening = ","
        yield "}" if value else "{}"
    elif isinstance(value, list | tuple | set | frozenset):
        opening = "["
        for item in value:
            yield opening
            yield from _pieces(item, depth + 1)
            opening = ","
        yield "]" if value else "[]"
    elif isinstance(value, msgspec.Raw | bytes | bytearray | memoryview):
        yield from _pieces(bytes(memoryview(value)).decode(errors="replace"), depth)
    else:
        yield _scalar(value)


def _scalar(value: Any) -> str:
    try:
        return msgspec.json.encode(value, enc_hook=repr).decode()
    except Exception:  # noqa: BLE001 - a payload of any kind must not cost the page
        return f'"<{type(value).__name__}>"'
