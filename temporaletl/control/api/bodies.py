"""Bodies of requests: read within a size and a time, and checked before anything parses them."""

import asyncio
import json
import re
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import timedelta
from http import HTTPStatus
from typing import Any, NamedTuple

from starlette.datastructures import Headers
from starlette.types import Message, Receive

#: JSON that is nested deeper makes parsers recurse; no request of ours is.
MOST_DEPTH = 32
#: How many times the size that is taken is read of a body that is too large.
_MOST_DISCARDED = 16
#: Python makes no integer of more digits.
_MOST_DIGITS = sys.get_int_max_str_digits() or sys.int_info.default_max_str_digits
_DIGITS = re.compile(rb"[0-9]{%d}" % (_MOST_DIGITS + 1))
_LONG = object()
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]')


class Refusal(NamedTuple):
    """Why a request is not taken: status, code and detail of the answer."""

    status: HTTPStatus
    code: str
    detail: str


class DisconnectedError(Exception):
    """The client went away before its request was whole."""


async def read_body(
    headers: Headers, receive: Receive, *, most_bytes: int, within: timedelta
) -> bytes | Refusal:
    """Read a body of `most_bytes` at most, for no longer than `within`.

    What is too large is read and forgotten, within bounds: many clients look for an answer only
    when they have sent everything.

    Raises:
        DisconnectedError: nobody waits for an answer.
    """
    length = headers.get("content-length", "")
    announced = int(length) if length.isdigit() else 0
    body, more, size = bytearray(), announced <= _MOST_DISCARDED * most_bytes, 0
    try:
        async with asyncio.timeout(within.total_seconds()):
            while more and size <= _MOST_DISCARDED * most_bytes:
                message = await receive()
                if message["type"] != "http.request":
                    raise DisconnectedError
                part = message.get("body", b"")
                size, more = size + len(part), message.get("more_body", False)
                if max(size, announced) <= most_bytes:
                    body += part
    except TimeoutError:
        if size <= most_bytes:
            return Refusal(
                HTTPStatus.REQUEST_TIMEOUT,
                "too-slow",
                f"the body did not arrive within {within.total_seconds():g} seconds",
            )
    if max(size, announced) > most_bytes:
        return Refusal(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            "too-large",
            f"the body has more than {most_bytes:,} bytes",
        )
    return bytes(body)


def check_json(headers: Headers, body: bytes) -> Refusal | None:
    """Check that a body says that it is JSON, which can be parsed; None where it is fine.

    It is not nested too deep, and has no key twice and no integer that is too long. What is no
    JSON passes, as whoever parses it will say.
    """
    if not body:
        return None
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        given = kind or "no content type"
        return Refusal(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            "unsupported-media-type",
            f"the body is {given[:100]}: send JSON, with `Content-Type: application/json`",
        )
    if (fault := _fault_of(body)) is not None:
        return Refusal(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid", fault)
    return None


def _fault_of(body: bytes) -> str | None:
    if is_deep(body):
        return f"the body's JSON is nested more than {MOST_DEPTH} deep"
    try:
        parsed = json.loads(body, object_pairs_hook=_distinct, parse_int=_integer)
    except _TwiceError as error:
        return str(error)
    except ValueError:
        return None
    if _DIGITS.search(body) and (place := next(_places_of_long(parsed, "body"), None)):
        return f"{place}: an integer of more than {_MOST_DIGITS:,} digits: send it as a text"
    return None


class _TwiceError(Exception):
    """A key stands twice in an object: of what it is sent for, one half would be lost."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    parsed = dict(pairs)
    if len(parsed) < len(pairs):
        again = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _TwiceError(f"the body has the key {again[:100]!r} twice in one object")
    return parsed


def _integer(digits: str) -> object:
    return _LONG if len(digits.lstrip("-")) > _MOST_DIGITS else 0


def is_deep(body: bytes) -> bool:
    """Whether JSON is nested deeper than `MOST_DEPTH`."""
    if body.count(b"[") + body.count(b"{") <= MOST_DEPTH:
        return False
    depth = 0
    for token in _TOKENS.finditer(body):
        sign = token[0]
        if sign in b"[{":
            depth += 1
            if depth > MOST_DEPTH:
                return True
        elif sign in b"]}":
            depth -= 1
    return False


def _places_of_long(value: Any, place: str) -> Iterator[str]:
    if value is _LONG:
        yield place
    elif isinstance(value, dict | list):
        for name, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _places_of_long(part, f"{place}.{name}")


def received(body: bytes, receive: Receive) -> Receive:
    """A channel that gives the body that was read, and then what still comes."""
    given = False

    async def receive_again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again
