"""What Salesforce's refusals mean, by the codes they carry."""

import re
from datetime import timedelta
from typing import Any

import msgspec
import requests
from requests import codes

from temporaletl.errors import (
    ConfigurationError,
    CredentialsError,
    ETLError,
    RateLimitedError,
    SourceProtocolError,
    SourceUnavailableError,
)
from temporaletl.external.http import message_of

#: A day's requests are counted over the last 24 hours: some are free again every while.
DAILY_LIMIT_PAUSE = timedelta(minutes=30)
_CONCURRENCY_PAUSE = timedelta(seconds=30)

#: Statuses whose body says more than the status does.
JUDGED = frozenset({400, 403, 404, 405, 409, 412, 414, 415, 431})

_NO_COLUMN = re.compile(r"No such column '([^']+)' on entity")
_NO_RELATION = re.compile(r"Didn't understand relationship '([^']+)'")
_UNAVAILABLE = frozenset(
    {"QUERY_TIMEOUT", "SERVER_UNAVAILABLE", "UNABLE_TO_LOCK_ROW", "UNKNOWN_EXCEPTION"}
)
_GONE = frozenset({"NOT_FOUND", "INVALIDJOB", "INVALIDENTITY"})
_FORBIDDEN = {
    "API_DISABLED_FOR_ORG": "the org's edition, or the user's profile, has no API: grant the "
    "permission 'API Enabled'",
    "API_CURRENTLY_DISABLED": "the API is switched off for this org",
    "FUNCTIONALITY_NOT_ENABLED": "the org has not enabled this",
    "INVALID_OPERATION_WITH_EXPIRED_PASSWORD": "the password has expired: set a new one, and "
    "correct SF_PASSWORD",
    "INSUFFICIENT_ACCESS": "the user lacks a permission",
    "INSUFFICIENT_ACCESS_OR_READONLY": "the user lacks a permission",
}


class InvalidFieldError(ConfigurationError):
    """A query names a field that does not exist, or that the user may not see.

    `field` is its name; of a relation, the relation's name. None where it could not be read.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class InvalidTypeError(CredentialsError):
    """A query names an object that the org does not have, or that the user may not see."""


class StaleLocatorError(SourceUnavailableError):
    """Salesforce has let go of a query's cursor: the query must be begun anew."""


class GoneError(SourceProtocolError):
    """There is nothing at that address, or no longer: a bulk job ends its life after a week."""


class _Fault(msgspec.Struct):
    errorCode: str = ""  # noqa: N815 - Salesforce's name
    message: str = ""


def faults_in(response: requests.Response) -> list[_Fault]:
    """Return an answer's error codes with their texts; empty where it holds none."""
    try:
        body: Any = msgspec.json.decode(response.content)
        return msgspec.convert(body if isinstance(body, list) else [body], list[_Fault])
    except (msgspec.DecodeError, msgspec.ValidationError):
        return []


def refusal_of(response: requests.Response, what: str, credentials: str) -> ETLError:
    """Return the error that a refused request means.

    `what` is what was asked for; `credentials` names the settings of the login.
    """
    found = faults_in(response)
    code = found[0].errorCode if found else ""
    words = message_of(response)
    said = f"{what}: {code or response.status_code}" + (f": {words}" if words else "")
    text = found[0].message if found else ""
    user = f"the user behind {credentials}"
    match code:
        case "REQUEST_LIMIT_EXCEEDED":
            refusal: ETLError = _limit(said, text)
        case "INVALID_QUERY_LOCATOR":
            refusal = StaleLocatorError(said)
        case "INVALID_FIELD":
            said = f"{said}; {user} may not see that field, or there is none"
            refusal = InvalidFieldError(said, _field_in(text))
        case "INVALID_TYPE":
            refusal = InvalidTypeError(f"{said}; {user} may not see that object, or there is none")
        case _ if code in _UNAVAILABLE:
            refusal = SourceUnavailableError(said)
        case _ if code in _FORBIDDEN:
            refusal = CredentialsError(f"{said}; {_FORBIDDEN[code]} ({user})")
        case _ if code in _GONE or response.status_code in {codes.not_found, codes.gone}:
            refusal = GoneError(f"{said}; check SF_INSTANCE_URL and SF_API_VERSION")
        case _ if response.status_code == codes.unauthorized:
            refusal = CredentialsError(
                f"{said}; the login with {credentials} succeeds, but its sessions are refused: "
                "check the session policies of the org and of the user's profile"
            )
        case _ if response.status_code == codes.forbidden:
            refusal = CredentialsError(f"{said}; {user} may not do this")
        case _:
            refusal = SourceProtocolError(said)
    return refusal


def _limit(said: str, message: str) -> RateLimitedError:
    if message.startswith("Concurrent"):
        return RateLimitedError(
            f"{said}; the org has too many long requests at once", delay=_CONCURRENCY_PAUSE
        )
    return RateLimitedError(
        f"{said}; the org's requests of the last 24 hours are used up: wait, ask Salesforce for "
        "more, or run the source less often",
        delay=DAILY_LIMIT_PAUSE,
    )


def _field_in(message: str) -> str | None:
    found = _NO_COLUMN.search(message) or _NO_RELATION.search(message)
    return found[1] if found else None
