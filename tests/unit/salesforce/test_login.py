"""Where logins go, and what comes of their answers."""

from collections.abc import Callable
from typing import Any

import jwt
import pytest
import requests

from temporaletl import CredentialsError, RateLimitedError, SourceProtocolError
from temporaletl.errors import SourceUnavailableError
from temporaletl.external import http
from temporaletl.external.salesforce.login import Login, log_in
from temporaletl.external.salesforce.settings import SalesforceSettings
from tests.keys import private_pem

SOAP = (
    b"<r><passwordExpired>false</passwordExpired><sessionId>S1</sessionId>"
    b"<serverUrl>https://na1.salesforce.com/services/Soap/u/59.0/00D</serverUrl></r>"
)
TOKEN = b'{"access_token": "T1", "instance_url": "https://example.my.salesforce.com"}'

Answers = Callable[[int, bytes], list[dict[str, Any]]]


def response_of(status: int, body: bytes, url: str = "") -> requests.Response:
    response = requests.Response()
    response.status_code, response._content, response.url = status, body, url
    return response


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Give every request one answer, and return the list of what was asked."""

    def give(status: int, body: bytes) -> list[dict[str, Any]]:
        requested: list[dict[str, Any]] = []

        def request(_session: object, method: str, url: str, **more: Any) -> requests.Response:
            requested.append({"method": method, "url": url, **more})
            return response_of(status, body, url)

        monkeypatch.setattr(requests.Session, "request", request)
        monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.0)
        return requested

    return give


def settings(**given: Any) -> SalesforceSettings:
    return SalesforceSettings(**given)


def by_password(**more: Any) -> SalesforceSettings:
    return settings(username="j&j@example.com", password="p<w", token="t>k", **more)


def by_app(**more: Any) -> SalesforceSettings:
    return settings(consumer_key="key", consumer_secret="secret", **more)


@pytest.fixture(scope="module")
def private_key() -> str:
    return private_pem()


@pytest.mark.parametrize(
    ("more", "address", "instance"),
    [
        ({}, "https://login.salesforce.com", "https://na1.salesforce.com"),
        ({"domain": "test"}, "https://test.salesforce.com", "https://na1.salesforce.com"),
        ({"domain": "a.my"}, "https://a.my.salesforce.com", "https://na1.salesforce.com"),
        ({"instance_url": "https://b.example"}, "https://b.example", "https://b.example"),
    ],
)
def test_a_login_goes_to_the_domain_and_queries_to_what_it_names(
    answers: Answers, more: dict[str, str], address: str, instance: str
) -> None:
    requested = answers(200, SOAP)
    assert log_in(by_password(**more)) == Login("S1", instance)
    assert [each["url"] for each in requested] == [f"{address}/services/Soap/u/59.0"]
    assert "<n1:username>j&amp;j@example.com</n1:username>" in requested[0]["data"]
    assert "<n1:password>p&lt;wt&gt;k</n1:password>" in requested[0]["data"]
    assert requested[0]["timeout"] == (10, 60)


def test_client_credentials_go_to_the_orgs_own_address(answers: Answers) -> None:
    requested = answers(200, TOKEN)
    login = log_in(by_app(domain="example.my"))
    assert login == Login("T1", "https://example.my.salesforce.com")
    assert requested[0]["url"] == "https://example.my.salesforce.com/services/oauth2/token"
    answers(200, TOKEN)
    assert log_in(by_app(instance_url="https://b.example")).instance == "https://b.example"


@pytest.mark.parametrize(
    ("more", "address", "audience"),
    [
        ({}, "https://login.salesforce.com", "https://login.salesforce.com"),
        ({"domain": "test"}, "https://test.salesforce.com", "https://test.salesforce.com"),
        ({"domain": "a.my"}, "https://a.my.salesforce.com", "https://login.salesforce.com"),
        (
            {"domain": "a--b.sandbox.my"},
            "https://a--b.sandbox.my.salesforce.com",
            "https://test.salesforce.com",
        ),
        (
            {"instance_url": "https://a--b.sandbox.my.salesforce.com"},
            "https://a--b.sandbox.my.salesforce.com",
            "https://test.salesforce.com",
        ),
    ],
)
def test_a_jwt_is_for_production_or_for_sandboxes_wherever_it_is_sent(
    answers: Answers, private_key: str, more: dict[str, str], address: str, audience: str
) -> None:
    requested = answers(200, TOKEN)
    log_in(settings(username="j", consumer_key="key", private_key=private_key, **more))
    assert requested[0]["url"] == f"{address}/services/oauth2/token"
    sent = jwt.decode(requested[0]["data"]["assertion"], options={"verify_signature": False})
    assert (sent["iss"], sent["sub"], sent["aud"]) == ("key", "j", audience)


def test_a_login_looks_for_no_password_in_a_netrc_file(answers: Answers) -> None:
    answers(200, TOKEN)
    seen: list[object] = []

    def request(session: requests.Session, *_: Any, **__: Any) -> requests.Response:
        seen.append(session.auth)
        return response_of(200, TOKEN)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(requests.Session, "request", request)
        log_in(by_app(domain="example.my"))
    assert seen != [None]


FAULT = (
    b'<e xmlns:sf="x"><sf:exceptionCode>%s</sf:exceptionCode>'
    b"<sf:exceptionMessage>words</sf:exceptionMessage></e>"
)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (500, FAULT % b"INVALID_LOGIN", CredentialsError, "SF_TOKEN.*SF_DOMAIN=test"),
        (500, FAULT % b"LOGIN_RATE_EXCEEDED", RateLimitedError, "too many logins"),
        (500, FAULT % b"SERVER_UNAVAILABLE", SourceUnavailableError, "words"),
        (500, FAULT % b"API_DISABLED_FOR_ORG", CredentialsError, "API_DISABLED_FOR_ORG"),
        (500, FAULT % "²".encode(), CredentialsError, "²: words"),
        (500, b"Internal error", SourceUnavailableError, "HTTP 500"),
        (503, b"", SourceUnavailableError, "503"),
        (200, b"<html></html>", SourceUnavailableError, "page of HTML.*SF_DOMAIN, SF_INSTANCE_URL"),
        (200, b"no xml", SourceUnavailableError, "no login's"),
        (200, b"", SourceUnavailableError, "no login's"),
        (200, SOAP[:-40], SourceUnavailableError, "SF_INSTANCE_URL"),
        (200, b"<r><sessionId></sessionId></r>", SourceProtocolError, "names no session"),
        (200, SOAP.replace(b"false", b"true"), CredentialsError, "expired.*SF_PASSWORD"),
    ],
)
def test_answers_to_a_soap_login(
    answers: Answers, status: int, body: bytes, kind: type[Exception], words: str
) -> None:
    answers(status, body)
    with pytest.raises(kind, match=words) as caught:
        log_in(by_password())
    assert "p<w" not in str(caught.value)
    assert "t>k" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, b'{"error": "invalid_client_id"}', CredentialsError, "check SF_CONSUMER_KEY"),
        (400, b'{"error": "invalid_client"}', CredentialsError, "SF_CONSUMER_SECRET"),
        (401, b'{"error": "x", "error_description": "y"}', CredentialsError, "x: y"),
        (200, b"{}", SourceProtocolError, "SF_DOMAIN and SF_INSTANCE_URL"),
        (200, b"<html>", SourceUnavailableError, "page of HTML.*SF_DOMAIN, SF_INSTANCE_URL"),
        (200, b"", SourceUnavailableError, "empty body"),
        (200, TOKEN[:-20], SourceUnavailableError, "no JSON"),
        (200, b'{"access_token": null, "instance_url": "x"}', SourceProtocolError, "access_token"),
        (404, b"<html>", SourceProtocolError, "404"),
    ],
)
def test_answers_at_the_token_endpoint(
    answers: Answers, status: int, body: bytes, kind: type[Exception], words: str
) -> None:
    answers(status, body)
    with pytest.raises(kind, match=words) as caught:
        log_in(by_app(domain="example.my"))
    assert "secret" not in str(caught.value).lower().replace("sf_consumer_secret", "")


@pytest.mark.parametrize("first", [b"<html>", b"", b'{"access_token": "T', b"{}"])
def test_an_answer_to_a_login_that_is_none_is_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, first: bytes
) -> None:
    bodies = [first, TOKEN]

    def request(_session: object, method: str, url: str, **more: Any) -> requests.Response:
        del method, more
        return response_of(200, bodies.pop(0), url)

    monkeypatch.setattr(requests.Session, "request", request)
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.0)
    assert log_in(by_app(domain="example.my")).session_id == "T1"
    assert not bodies


def test_a_byte_order_mark_before_a_login_is_no_part_of_it(answers: Answers) -> None:
    answers(200, b"\xef\xbb\xbf" + TOKEN)
    assert log_in(by_app(domain="example.my")).session_id == "T1"
    answers(200, b"\xef\xbb\xbf" + SOAP)
    assert log_in(by_password()).session_id == "S1"


def test_a_session_does_not_show() -> None:
    assert "S1" not in repr(Login("S1", "https://x"))
