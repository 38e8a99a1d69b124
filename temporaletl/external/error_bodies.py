"""Error messages of servers, from response bodies of the usual shapes."""

from typing import Any

import msgspec
import requests

from temporaletl.secrets import redacted

_MESSAGE_CHARACTERS = 300
#: An error's body that is larger, or nested deeper, is no message to a person.
_LARGEST_BODY = 256 * 1024
_MOST_NESTED = 8
_MEMBERS = ("errorMessages", "errorMessage", "message", "error_description", "error", "title")


def message_of(response: requests.Response) -> str:
    """Return the server's own error message, as far as there is one; never fails."""
    text = message_in(response.content)
    if not text and response.headers.get("Content-Type", "").startswith("text/plain"):
        text = _cut(response.content[:_LARGEST_BODY].decode("utf-8", "replace"))
    return text


def message_in(body: bytes) -> str:
    """Return the messages that JSON of the usual shapes of errors holds; empty where it is none."""
    if len(body) > _LARGEST_BODY:
        return ""
    try:
        return _cut("; ".join(_sentences(msgspec.json.decode(body), 0)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def _cut(text: str) -> str:
    # Before it is cut: half a secret is not recognised any more.
    text = redacted(" ".join(text.split()))
    return text if len(text) <= _MESSAGE_CHARACTERS else f"{text[:_MESSAGE_CHARACTERS]}…"


def _sentences(body: Any, depth: int) -> list[str]:
    if isinstance(body, str):
        return [body]
    if depth > _MOST_NESTED:
        return []
    if isinstance(body, list):
        return [sentence for part in body for sentence in _sentences(part, depth + 1)]
    if not isinstance(body, dict):
        return []
    found: list[str] = []
    for name in _MEMBERS:
        found += _sentences(body.get(name), depth + 1)
    errors = body.get("errors")
    if isinstance(errors, dict):
        found += [
            f"{name}: {text}"
            for name, part in errors.items()
            for text in _sentences(part, depth + 1)
        ]
    else:
        found += _sentences(errors, depth + 1)
    return found
