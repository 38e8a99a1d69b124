"""Requests that the service refuses, in its problem shape, and the parameters it checks."""

import itertools

import msgspec

from tests.fakes.exchange import Request, Response
from tests.fakes.servicetitan.timestamps import parse

_TITLES = {
    400: "One or more validation errors occurred.",
    401: "Unauthorized",
    403: "The application has no access to this tenant or resource.",
    404: "Not Found",
    405: "Method Not Allowed",
    429: "Rate limit is exceeded. Try again later.",
}
_traces = itertools.count(1)


class RefusedError(Exception):
    """A request gets an error answer."""

    def __init__(self, status: int, name: str = "", text: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.errors = {name: [text]} if text else {}


def problem(
    status: int, errors: dict[str, list[str]] | None = None, *, title: str | None = None
) -> Response:
    """Return an error as the vendor's API descriptions have it."""
    body = {
        "type": f"https://httpstatuses.com/{status}",
        "title": title or _TITLES[status],
        "status": status,
        "traceId": f"00-{next(_traces):032x}-00",
        "errors": errors or {},
        "data": {},
    }
    encoded = msgspec.json.encode(body)
    return Response(status, encoded, "application/problem+json; charset=utf-8")


def number(request: Request, name: str, default: int, *, most: int | None = None) -> int:
    """Return a whole number from 1.

    Raises:
        RefusedError: it is none, or too large.
    """
    text = request.first(name)
    if not text:
        return default
    try:
        value = int(text)
    except ValueError:
        raise RefusedError(400, name, f"The value '{text}' is not valid.") from None
    if value < 1 or (most is not None and value > most):
        limit = f"between 1 and {most}" if most else "1 or more"
        raise RefusedError(400, name, f"The value must be {limit}.")
    return value


def instant(request: Request, name: str) -> int | None:
    """Return a time in ticks.

    Raises:
        RefusedError: it is none.
    """
    text = request.first(name)
    if not text:
        return None
    try:
        # A plus sign that was not encoded arrives as a space.
        return parse(text.replace(" ", "+") if text.count(":") > 2 else text)
    except ValueError:
        raise RefusedError(400, name, f"The value '{text}' is not valid.") from None


def flag(request: Request, name: str) -> bool:
    """Return a truth value.

    Raises:
        RefusedError: it is none.
    """
    text = request.first(name).lower()
    if text not in {"", "true", "false"}:
        raise RefusedError(400, name, f"The value '{text}' is not valid.")
    return text == "true"
