"""What Salesforce's refusals mean."""

import json
from datetime import timedelta

import pytest
import requests

from temporaletl import (
    ConfigurationError,
    CredentialsError,
    RateLimitedError,
    SourceProtocolError,
    SourceUnavailableError,
)
from temporaletl.external.salesforce.refusals import (
    GoneError,
    InvalidFieldError,
    InvalidTypeError,
    NotInBulkError,
    ObjectRefusedError,
    QueryTimeoutError,
    StaleLocatorError,
    refusal_of,
)


def answer(status: int, body: object) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response._content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return response


def refusal(status: int, code: str, message: str = "words") -> Exception:
    body = [{"errorCode": code, "message": message}]
    return refusal_of(answer(status, body), "salesforce: GET x", "SF_USERNAME")


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (403, "REQUEST_LIMIT_EXCEEDED", RateLimitedError),
        (400, "QUERY_TIMEOUT", QueryTimeoutError),
        (400, "INVALIDENTITY", NotInBulkError),
        (503, "SERVER_UNAVAILABLE", SourceUnavailableError),
        (400, "INVALID_QUERY_LOCATOR", StaleLocatorError),
        (400, "INVALID_FIELD", InvalidFieldError),
        (400, "INVALID_TYPE", InvalidTypeError),
        (400, "MALFORMED_QUERY", SourceProtocolError),
        (403, "INSUFFICIENT_ACCESS", ObjectRefusedError),
        (400, "INSUFFICIENT_ACCESS_OR_READONLY", ObjectRefusedError),
        (403, "API_DISABLED_FOR_ORG", CredentialsError),
        (403, "SOMETHING_ELSE", ObjectRefusedError),
        (404, "NOT_FOUND", GoneError),
        (401, "INVALID_SESSION_ID", CredentialsError),
        (400, "QUERY_TOO_COMPLICATED", SourceProtocolError),
    ],
)
def test_each_code_has_its_error(status: int, code: str, kind: type[Exception]) -> None:
    error = refusal(status, code)
    assert type(error) is kind
    assert code in str(error)
    assert "words" in str(error)


def test_errors_recover_as_their_kind_says() -> None:
    assert issubclass(InvalidFieldError, ConfigurationError)
    assert issubclass(InvalidTypeError, CredentialsError)
    assert issubclass(StaleLocatorError, SourceUnavailableError)


def test_a_days_limit_is_waited_for_longer_than_that_of_requests_at_once() -> None:
    day = refusal(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.")
    once = refusal(403, "REQUEST_LIMIT_EXCEEDED", "ConcurrentPerOrgLongTxn Limit exceeded.")
    assert isinstance(day, RateLimitedError)
    assert isinstance(once, RateLimitedError)
    assert day.delay is not None
    assert once.delay is not None
    assert timedelta(seconds=10) < once.delay < timedelta(minutes=5) < day.delay


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("\nSELECT X\n ^\nNo such column 'X__c' on entity 'Case'. If you are…", "X__c"),
        ("Didn't understand relationship 'Boss' in field path. If…", "Boss"),
        ("something else", None),
    ],
)
def test_the_field_is_read_from_the_words(message: str, field: str | None) -> None:
    error = refusal(400, "INVALID_FIELD", message)
    assert isinstance(error, InvalidFieldError)
    assert error.field == field


@pytest.mark.parametrize("body", [b"<html>", b"", {"message": "m"}, [], [1], {"errorCode": 1}])
def test_bodies_of_any_shape_are_survived(body: object) -> None:
    assert isinstance(refusal_of(answer(400, body), "x", "y"), SourceProtocolError)
    assert isinstance(refusal_of(answer(403, body), "x", "y"), CredentialsError)
