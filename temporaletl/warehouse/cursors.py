"""Escaping of cursors for the ledger: jsonb cannot hold NUL and lone surrogates."""

import re
from collections.abc import Callable

from pydantic import JsonValue

# A character that Unicode gives no meaning, and the code point in four digits.
_MARK = "\ufdd0"
_UNSTORABLE = re.compile(f"[\0\ud800-\udfff{_MARK}]")
_ESCAPED = re.compile(f"{_MARK}([0-9a-f]{{4}})")


def escaped(cursor: JsonValue) -> JsonValue:
    """Escape NUL and lone surrogates of a cursor, so that jsonb and messages can hold it.

    Most cursors are the same. `unescaped` gives it back.
    """
    return _map_texts(cursor, lambda text: _UNSTORABLE.sub(_escape, text))


def unescaped(cursor: JsonValue) -> JsonValue:
    """Restore an escaped cursor."""
    return _map_texts(cursor, lambda text: _ESCAPED.sub(_unescape, text))


def _escape(found: re.Match[str]) -> str:
    return f"{_MARK}{ord(found[0]):04x}"


def _unescape(found: re.Match[str]) -> str:
    return chr(int(found[1], 16))


def _map_texts(value: JsonValue, change: Callable[[str], str]) -> JsonValue:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _map_texts(item, change) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_map_texts(item, change) for item in value]
    return value
