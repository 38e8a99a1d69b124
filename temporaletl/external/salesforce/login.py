"""The three logins to Salesforce, by simple-salesforce over our own requests."""

import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit
from xml.parsers.expat import ExpatError, ParserCreate

import msgspec
import requests
from requests import codes

from temporaletl.errors import (
    CredentialsError,
    ETLError,
    RateLimitedError,
    SourceProtocolError,
    SourceUnavailableError,
)
from temporaletl.external.answers import (
    GarbledAnswerError,
    MisfitAnswerError,
    reading,
    text_of,
)
from temporaletl.external.http import TRANSIENT, HttpClient
from temporaletl.external.salesforce.refusals import UNREASONABLE, faults_in
from temporaletl.external.salesforce.settings import SalesforceSettings
from temporaletl.secrets import redacted, remember_login, remember_secret

if TYPE_CHECKING:
    from simple_salesforce.exceptions import SalesforceAuthenticationFailed

#: A refused login answers 400 or 401, by SOAP 500; the library reads why.
_ANSWERED = frozenset({400, 401, 403, 500})
#: 3,600 logins an hour are a user's limit.
_LOGIN_PAUSE = timedelta(minutes=10)
_MOST_WORDS = 300
_CHECK_ADDRESS = "check SF_DOMAIN and SF_INSTANCE_URL"
_STATUS = re.compile(r"[0-9]{3}")
_HTML = re.compile(rb"<html[\s>]", re.IGNORECASE)
_SOAP_SESSION = (re.compile(rb"<sessionId>[^<]+<"), re.compile(rb"<serverUrl>[^<]+<"))

_REMEDIES = {
    "INVALID_LOGIN": "check {names}; SF_TOKEN, the security token, is wanted from networks that "
    "are not trusted and changes with the password; SF_DOMAIN=test is for sandboxes",
    "INVALID_OPERATION_WITH_EXPIRED_PASSWORD": "set a new password, and correct SF_PASSWORD and "
    "SF_TOKEN",
    "invalid_grant": "check {names}, SF_DOMAIN, and that the connected app lets this user in",
    "invalid_client_id": "check SF_CONSUMER_KEY",
    "invalid_client": "check SF_CONSUMER_KEY and SF_CONSUMER_SECRET",
}


@dataclass(frozen=True, slots=True)
class Login:
    """An open session, and the address of the org's instance."""

    session_id: str = field(repr=False)
    instance: str


class Wire(requests.Session):
    """The session that simple-salesforce is given: each of its requests is sent by `send`."""

    def __init__(self, send: Callable[..., requests.Response]) -> None:
        super().__init__()
        self._send = send

    def request(  # type: ignore[override]
        self, method: str, url: str, **more: Any
    ) -> requests.Response:
        """Send; of what requests can do, what simple-salesforce uses."""
        known = {name: more.get(name) for name in ("params", "data", "json", "headers")}
        return self._send(method, url, **known)


def unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Authentication that leaves a request as it is, so that no .netrc file is read."""
    return request


def log_in(settings: SalesforceSettings) -> Login:
    """Open a session. Blocks; retries a few times where Salesforce is unavailable.

    Raises:
        CredentialsError: refused; names the settings to correct.
        RateLimitedError: too many logins.
        SourceUnavailableError: no usable answer.
        SourceProtocolError: an answer that is no login's.
    """
    with requests.Session() as transport:
        transport.auth = unsigned
        http = HttpClient(
            transport,
            source="salesforce login",
            credentials=settings.credentials,
            address="SF_DOMAIN, SF_INSTANCE_URL",
            connect_timeout=timedelta(seconds=settings.connect_timeout_seconds),
            read_timeout=timedelta(seconds=min(60, settings.read_timeout_seconds)),
            transient=TRANSIENT | UNREASONABLE,
        )

        def send(method: str, url: str, **more: Any) -> requests.Response:
            address = _at(settings.instance_url, url) if settings.instance_url else url
            # What the library reads by itself would not be requested again.
            whole = partial(_whole, soap="/services/Soap/" in url)
            response = http.request(method, address, accept=_ANSWERED, read=whole, **more)
            if b"<passwordExpired>true<" in response.content:
                from simple_salesforce.exceptions import SalesforceAuthenticationFailed

                # Salesforce opens a session then in which nothing but a new password is taken.
                raise SalesforceAuthenticationFailed(
                    "INVALID_OPERATION_WITH_EXPIRED_PASSWORD", "the password has expired"
                )
            return response

        session_id, host = _by_library(settings, Wire(send))
    remember_secret(session_id)
    return Login(session_id, settings.instance_url or f"https://{host}")


class _Token(msgspec.Struct):
    access_token: str
    instance_url: str


def _whole(response: requests.Response, *, soap: bool) -> requests.Response:
    """Return the answer of a login, if it is whole.

    Raises:
        SourceUnavailableError: it broke off, or comes from somebody in between.
        MisfitAnswerError: it opens no session.
    """
    body = response.content.strip()
    if not response.ok:
        unknown = any(fault.errorCode == "UNKNOWN_EXCEPTION" for fault in faults_in(response))
        if unknown or (response.status_code >= codes.server_error and not _is_xml(body)):
            raise SourceUnavailableError(
                f"salesforce login: HTTP {response.status_code} that is no fault of a login"
            )
    elif not soap:
        try:
            reading(_Token, source="salesforce login")(response)
        except MisfitAnswerError as error:
            raise MisfitAnswerError(f"{error}; {_CHECK_ADDRESS}") from None
        # Without what the library would stumble over: a byte-order mark, another charset.
        response._content, response.encoding = text_of(response), "utf-8"  # noqa: SLF001
    elif not _is_xml(body) or _HTML.search(body):
        raise GarbledAnswerError(
            "salesforce login: the answer is no login's, or broke off in the middle; "
            f"{_CHECK_ADDRESS}"
        )
    elif not all(pattern.search(body) for pattern in _SOAP_SESSION):
        raise MisfitAnswerError(f"salesforce login: the answer names no session; {_CHECK_ADDRESS}")
    return response


def _is_xml(body: bytes) -> bool:
    try:
        ParserCreate().Parse(body, True)  # noqa: FBT003 - it takes no name
    except ExpatError:
        return False
    return True


def _by_library(settings: SalesforceSettings, wire: Wire) -> tuple[str, str]:
    from simple_salesforce.exceptions import SalesforceAuthenticationFailed
    from simple_salesforce.login import SalesforceLogin

    try:
        with warnings.catch_warnings():
            # It says on a channel of its own what it raises as well.
            warnings.simplefilter("ignore", UserWarning)
            session_id, host = SalesforceLogin(session=wire, **_arguments(settings))
    except SalesforceAuthenticationFailed as error:
        raise _refused(settings, error) from None
    except ETLError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError, ExpatError) as error:
        raise SourceProtocolError(
            f"salesforce login: the answer is no login's ({type(error).__name__}); check SF_DOMAIN "
            "and SF_INSTANCE_URL"
        ) from None
    if not session_id or not host:
        raise SourceProtocolError(
            "salesforce login: the answer names no session; check SF_DOMAIN and SF_INSTANCE_URL"
        )
    return session_id, host


def _arguments(settings: SalesforceSettings) -> dict[str, Any]:
    secret = settings.consumer_secret
    if settings.way == "client credentials" and secret is not None:
        # The library refuses the common domains, which an explicit address takes the place of.
        domain = settings.domain if "." in settings.domain else "instance.my"
        remember_login(settings.consumer_key or "", secret.get_secret_value())
        return {
            "consumer_key": settings.consumer_key,
            "consumer_secret": secret.get_secret_value(),
            "domain": domain,
        }
    if settings.way == "jwt" and settings.private_key is not None:
        return {
            "username": settings.username,
            "consumer_key": settings.consumer_key,
            "privatekey": settings.private_key.get_secret_value(),
            "domain": _audience(settings),
            "instance_url": settings.domain,
        }
    password = settings.password.get_secret_value() if settings.password else ""
    token = settings.token.get_secret_value() if settings.token else ""
    return {
        "username": settings.username,
        # The library escapes the password for XML, but not the token.
        "password": password + token,
        "security_token": "",
        "sf_version": settings.api_version,
        "domain": settings.domain,
    }


def _audience(settings: SalesforceSettings) -> str:
    """Return whom a JWT is for: all of production is `login`, all sandboxes are `test`."""
    host = urlsplit(settings.instance_url or "").hostname or settings.domain
    sandbox = settings.domain == "test" or ".sandbox." in f"{host}." or "--" in host
    return "test" if sandbox else "login"


def _at(instance: str, url: str) -> str:
    """Return the same path at the given address."""
    there, parts = urlsplit(instance), urlsplit(url)
    return urlunsplit((there.scheme, there.netloc, parts.path, parts.query, ""))


def _refused(settings: SalesforceSettings, error: "SalesforceAuthenticationFailed") -> ETLError:
    code = str(error.code or "").rpartition(":")[2]
    words = redacted(" ".join((error.auth_message or "").split()))[:_MOST_WORDS]
    where = settings.instance_url or f"https://{settings.domain}.salesforce.com"
    if _STATUS.fullmatch(code) and int(code) >= codes.server_error:
        return SourceUnavailableError(f"salesforce login at {where}: HTTP {code}")
    said = f"salesforce login at {where} is refused: {code}: {words}"
    if "RATE_EXCEEDED" in code.upper() or "rate exceeded" in words.lower():
        return RateLimitedError(f"{said}; too many logins in an hour", delay=_LOGIN_PAUSE)
    if code == "SERVER_UNAVAILABLE":
        return SourceUnavailableError(said)
    remedy = _REMEDIES.get(code, "check {names}").format(names=settings.credentials)
    return CredentialsError(f"{said}; {remedy}")
