"""Cursors as the ledger keeps them: any text survives, though jsonb cannot hold all of it."""

import re
from collections.abc import Callable

from pydantic import JsonValue

# A character that Unicode gives no meaning, and the code point in four digits.
_MARK = "\ufdd0"
_UNSTORABLE = re.compile(f"[\0\ud800-\udfff{_MARK}]")
_ESCAPED = re.compile(f"{_MARK}([0-9a-f]{{4}})")


def escaped(cursor: JsonValue) -> JsonValue:
    """The cursor with NUL and lone surrogates escaped: what jsonb, and every message, can hold.

    Most cursors are the same. `unescaped` gives it back.
    """
    return _each_text(cursor, lambda text: _UNSTORABLE.sub(_escape, text))


def unescaped(cursor: JsonValue) -> JsonValue:
    """The cursor as its source made it."""
    return _each_text(cursor, lambda text: _ESCAPED.sub(_unescape, text))


def _escape(found: re.Match[str]) -> str:
    return f"{_MARK}{ord(found[0]):04x}"


def _unescape(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))


def _each_text(value: JsonValue, change: Callable[[str], str]) -> JsonValue:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _each_text(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(each, change) for each in value]
    return value
