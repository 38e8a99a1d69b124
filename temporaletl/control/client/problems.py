"""Problems (RFC 9457) of the API as the errors that they stand for."""

from datetime import timedelta
from http import HTTPStatus
from typing import Any

import msgspec
import requests

from temporaletl.control.error_codes import ERROR_CODES
from temporaletl.errors import (
    ConfigurationError,
    CredentialsError,
    ETLError,
    PermanentError,
    RetryableError,
)
from temporaletl.retry_after import retry_after

_LONGEST_TEXT = 300


class ApiUnavailableError(RetryableError):
    """The API does not answer, or a server before it says that it cannot."""


class ApiProtocolError(PermanentError):
    """What answers at the address is no API of this version."""


class ApiCredentialsError(CredentialsError):
    """The API refused the token: it is not valid, or may not do that."""

    of_source = False


#: Errors that are of the API alone.
_OWN: dict[str, type[ETLError]] = {
    "unauthenticated": ApiCredentialsError,
    "forbidden": ApiCredentialsError,
    "too-many-requests": RetryableError,
    "too-large": ConfigurationError,
}
_CLASSES: dict[str, type[ETLError]] = {code: kind for kind, _, code in ERROR_CODES} | _OWN
#: What servers before the API answer while it is away.
_AWAY = frozenset(
    {
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
        # Of no standard: networks of proxies answer these where they do not reach the server.
        *range(520, 531),
    }
)


def error_of(address: str, answer: requests.Response) -> ETLError:
    """The error that an answer stands for which is no success: by its code, with its text."""
    status = answer.status_code
    problem = _problem_in(answer)
    if problem is None:
        if status in _AWAY:
            return ApiUnavailableError(
                f"the API at {address} does not answer: HTTP {status}",
                delay=retry_after(answer.headers),
            )
        if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
            return ConfigurationError(
                f"ETL_API_URL: {address} redirects; the token is sent to no other address: set "
                "the one that it leads to"
            )
        return ApiProtocolError(
            f"what answers at {address} is no API of this platform: HTTP {status}"
        )
    detail, code = str(problem["detail"]), str(problem["code"])
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED) and (
        detail == HTTPStatus(status).phrase
    ):
        return ApiProtocolError(
            f"the API at {address} does not have this operation: it is of another version"
        )
    kind = _CLASSES.get(code, ETLError)
    if issubclass(kind, RetryableError):
        delay: timedelta | None = retry_after(answer.headers)
        return kind(detail, delay=delay)
    return kind(detail)


def _problem_in(answer: requests.Response) -> dict[str, Any] | None:
    if not answer.headers.get("Content-Type", "").startswith("application/problem+json"):
        return None
    try:
        found = msgspec.json.decode(answer.content, type=dict[str, Any])
    except msgspec.DecodeError:
        return None
    return found if {"detail", "code"} <= found.keys() else None
