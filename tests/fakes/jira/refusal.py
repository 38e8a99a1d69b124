"""Requests that Jira refuses, and the numbers in requests that it reads before that."""

from typing import Any

from tests.fakes.exchange import Request


class RefusedError(Exception):
    """A request gets an error answer in Jira's shape."""

    def __init__(self, status: int, *messages: str) -> None:
        super().__init__(*messages)
        self.status = status
        self.messages = messages


def parameters(request: Request) -> dict[str, Any]:
    """Return a request's parameters, from the body of a POST, else from the query.

    Every value of the query is a list. A body's values are as sent, the nulls left out.

    Raises:
        RefusedError: the body is no JSON object.
    """
    if request.method != "POST":
        return dict(request.query)
    body = request.json()
    if not isinstance(body, dict):
        raise RefusedError(400, "The body must be a JSON object.")
    return {name: value for name, value in body.items() if value is not None}


def text_of(given: dict[str, Any], name: str) -> str:
    """Return a text parameter, empty when it was not given."""
    value = given.get(name, "")
    return str(value[0]) if isinstance(value, list) else str(value)


def texts_of(given: dict[str, Any], name: str) -> list[str]:
    """Return a parameter that may be given several times."""
    value = given.get(name, [])
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def number_of(given: dict[str, Any], name: str, default: int) -> int:
    """Return a whole number.

    Raises:
        RefusedError: it is none.
    """
    text = text_of(given, name)
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        raise RefusedError(400, f"The value '{text}' of '{name}' is not a number.") from None
