"""Errors of Salesforce, classified by their error codes."""

import re
from datetime import timedelta

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
from temporaletl.external.answers import DECODE_FAULTS
from temporaletl.external.error_bodies import message_of

#: A day's requests are counted over the last 24 hours: some are free again every while.
DAILY_LIMIT_PAUSE = timedelta(minutes=30)
_CONCURRENCY_PAUSE = timedelta(seconds=30)

#: Statuses whose body says more than the status does.
JUDGED = frozenset({400, 403, 404, 405, 409, 412, 414, 415, 431, 500})
#: Statuses that Salesforce gives now and then for no reason that a client could have.
UNREASONABLE = frozenset({406, 420})

_NO_COLUMN = re.compile(r"No such column '([^']+)' on entity")
_NO_RELATION = re.compile(r"Didn't understand relationship '([^']+)'")


class InvalidFieldError(ConfigurationError):
    """A query names a field that does not exist, or that the user may not see.

    `field` is its name; of a relation, the relation's name. None where it could not be read.
    """

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class ObjectRefusedError(CredentialsError):
    """The user may not do this with an object; others may still be read."""


class InvalidTypeError(ObjectRefusedError):
    """A query names an object that the org does not have, or that the user may not see."""


class QueryTimeoutError(SourceUnavailableError):
    """A query took longer than the two minutes that Salesforce gives it."""


class NotInBulkError(SourceProtocolError):
    """The Bulk API does not have this object; REST may."""


class StaleLocatorError(SourceUnavailableError):
    """Salesforce has let go of a query's cursor: the query must be begun anew."""


class UnrenderableError(SourceUnavailableError):
    """Salesforce fails at an answer: it is out of order, or at one row that lies in the answer."""


class GoneError(ConfigurationError):
    """There is nothing at that address, or no longer: a bulk job ends its life after a week.

    It is no fault of an object or of a query: whatever is requested there is refused.
    """


class _Fault(msgspec.Struct):
    errorCode: str = ""  # noqa: N815 - Salesforce's name
    message: str = ""


_faults = msgspec.json.Decoder(list[_Fault])
_one_fault = msgspec.json.Decoder(_Fault)
#: Some errors come as XML, whatever was requested: <Errors><Error><errorCode>…
_XML_CODE = re.compile(rb"<(?:\w+:)?(?:errorCode|exceptionCode)>\s*([A-Z_]+)\s*<")
_XML_MESSAGE = re.compile(rb"<(?:\w+:)?(?:message|exceptionMessage)>([^<]*)<")
_UNKNOWN = re.compile(rb"unknown[_ ]exception", re.IGNORECASE)
_CODE_WITHIN = 8_192


def faults_in(response: requests.Response) -> list[_Fault]:
    """Return an answer's error codes with their texts; empty where it holds none."""
    body = response.content
    for decode in (_faults.decode, lambda one: [_one_fault.decode(one)]):
        try:
            return decode(body)
        except DECODE_FAULTS:
            continue
    head = body[:_CODE_WITHIN]
    code = _XML_CODE.search(head)
    if code is None and not _UNKNOWN.search(head):
        return []
    message = _XML_MESSAGE.search(head)
    return [
        _Fault(
            code[1].decode() if code else "UNKNOWN_EXCEPTION",
            message[1].decode("utf-8", "replace") if message else "",
        )
    ]


#: What each code means, and what is to be said beside Salesforce's own words.
_KINDS: dict[str, tuple[type[ETLError], str]] = {
    "API_CURRENTLY_DISABLED": (CredentialsError, "the API is switched off for this org"),
    "API_DISABLED_FOR_ORG": (
        CredentialsError,
        "the org's edition or the profile of {user} has no API: grant 'API Enabled'",
    ),
    "FUNCTIONALITY_NOT_ENABLED": (ObjectRefusedError, "the org has not enabled this"),
    "INSUFFICIENT_ACCESS": (ObjectRefusedError, "{user} lacks a permission"),
    "INSUFFICIENT_ACCESS_OR_READONLY": (ObjectRefusedError, "{user} lacks a permission"),
    "INVALIDENTITY": (NotInBulkError, ""),
    "INVALIDJOB": (GoneError, ""),
    "INVALID_OPERATION_WITH_EXPIRED_PASSWORD": (
        CredentialsError,
        "the password has expired: set a new one, and correct SF_PASSWORD",
    ),
    "INVALID_QUERY_LOCATOR": (StaleLocatorError, ""),
    "INVALID_TYPE": (InvalidTypeError, "{user} may not see that object, or there is none"),
    "NOT_FOUND": (GoneError, "check SF_INSTANCE_URL and SF_API_VERSION"),
    "QUERY_TIMEOUT": (QueryTimeoutError, ""),
    "SERVER_UNAVAILABLE": (SourceUnavailableError, ""),
    "UNABLE_TO_LOCK_ROW": (SourceUnavailableError, ""),
    "UNKNOWN_EXCEPTION": (UnrenderableError, ""),
}
#: The same where the code says nothing.
_BY_STATUS: dict[int, tuple[type[ETLError], str]] = {
    codes.unauthorized: (
        CredentialsError,
        "its sessions are refused, though the login succeeds: check the session policies of {user}",
    ),
    codes.forbidden: (ObjectRefusedError, "{user} may not do this"),
    codes.not_found: (GoneError, "check SF_INSTANCE_URL and SF_API_VERSION"),
    codes.server_error: (UnrenderableError, ""),
}


def refusal_of(response: requests.Response, what: str, credentials: str) -> ETLError:
    """Return the error that a refused request means.

    `what` is what was requested; `credentials` names the settings of the login.
    """
    found = faults_in(response)
    code, text = (found[0].errorCode, found[0].message) if found else ("", "")
    words = message_of(response) or text
    said = f"{what}: {code or response.status_code}" + (f": {words}" if words else "")
    user = f"the user behind {credentials}"
    if code == "REQUEST_LIMIT_EXCEEDED":
        return _limit(said, text)
    if code == "INVALID_FIELD":
        said = f"{said}; {user} may not see that field, or there is none"
        return InvalidFieldError(said, _field_in(text))
    kind, remedy = _KINDS.get(code) or _BY_STATUS.get(
        response.status_code, (SourceProtocolError, "")
    )
    return kind(said + (f"; {remedy.format(user=user)}" if remedy else ""))


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
