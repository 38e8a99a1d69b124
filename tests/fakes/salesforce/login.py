"""The login flows of the fake org: SOAP, JWT bearer and client credentials."""

import base64
import binascii
import re
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from html import unescape
from xml.sax.saxutils import escape

import jwt

from tests.fakes.exchange import Request, Response

ORG_ID = "00D5g0000000001EAA"
_LOGINS_AN_HOUR = 3_600


@dataclass
class Doors:
    """The accepted credentials by login flow; a flow without any accepts everybody.

    `users` are passwords with the token appended, by user name. `apps` are consumer secrets by
    consumer key; `keys` are public keys (PEM) by consumer key, `subjects` the users that may
    come by JWT (None: all).
    """

    users: dict[str, str] | None = None
    apps: dict[str, str] | None = None
    keys: dict[str, str] | None = None
    subjects: set[str] | None = None
    expired_passwords: set[str] = field(default_factory=set)
    #: Open sessions.
    sessions: set[str] = field(default_factory=set)
    logins: deque[float] = field(default_factory=deque)
    opened: int = 0

    def open(self) -> str:
        self.opened += 1
        session = f"00D5g0!{secrets.token_urlsafe(24)}"
        self.sessions.add(session)
        return session

    def too_many(self) -> bool:
        """Note a login, and return whether there were too many within an hour."""
        now = time.monotonic()
        self.logins.append(now)
        while self.logins and self.logins[0] < now - 3_600:
            self.logins.popleft()
        return len(self.logins) > _LOGINS_AN_HOUR


def soap(doors: Doors, request: Request, base_url: str) -> Response:
    """Answer a SOAP login; a refusal is a fault with status 500."""
    text = request.body.decode()
    user, password = (unescape(_element(text, name)) for name in ("username", "password"))
    if doors.too_many():
        return _fault("LOGIN_RATE_EXCEEDED", "login rate exceeded")
    if not user or (doors.users is not None and doors.users.get(user) != password):
        return _fault(
            "INVALID_LOGIN", "Invalid username, password, security token; or user locked out."
        )
    expired = "true" if user in doors.expired_passwords else "false"
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope '
        'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns="urn:partner.soap.sforce.com"><soapenv:Body><loginResponse><result>'
        f"<passwordExpired>{expired}</passwordExpired><sandbox>false</sandbox>"
        f"<serverUrl>{base_url}/services/Soap/u/59.0/00D5g0</serverUrl>"
        f"<sessionId>{doors.open()}</sessionId><userId>0055g0000000001AAA</userId>"
        "</result></loginResponse></soapenv:Body></soapenv:Envelope>"
    )
    return Response(200, body.encode(), "text/xml;charset=UTF-8")


def token(doors: Doors, request: Request, base_url: str) -> Response:
    """Answer at the OAuth token endpoint."""
    form = request.form()
    if doors.too_many():
        return _oauth("invalid_grant", "login rate exceeded")
    match form.get("grant_type"):
        case "urn:ietf:params:oauth:grant-type:jwt-bearer":
            refused = _check_assertion(doors, form.get("assertion", ""), base_url)
        case "client_credentials":
            refused = _check_secret(doors, request, form)
        case _:
            refused = _oauth("unsupported_grant_type", "grant type not supported")
    if refused is not None:
        return refused
    return Response.of(
        {
            "access_token": doors.open(),
            "instance_url": base_url,
            "id": f"{base_url}/id/00D5g0/0055g0",
            "token_type": "Bearer",
            "scope": "api",
        }
    )


def _check_assertion(doors: Doors, assertion: str, base_url: str) -> Response | None:
    try:
        claims = jwt.decode(assertion, options={"verify_signature": False})
        key = claims["iss"]
        if doors.keys is not None:
            if key not in doors.keys:
                return _oauth("invalid_client_id", "client identifier invalid")
            jwt.decode(
                assertion,
                doors.keys[key],
                algorithms=["RS256"],
                audience=[
                    "https://login.salesforce.com",
                    "https://test.salesforce.com",
                    base_url,
                ],
            )
    except jwt.ExpiredSignatureError:
        return _oauth("invalid_grant", "token expired")
    except jwt.InvalidAudienceError:
        return _oauth("invalid_grant", "audience is invalid")
    except (jwt.PyJWTError, KeyError):
        return _oauth("invalid_grant", "invalid assertion")
    if doors.subjects is not None and claims.get("sub") not in doors.subjects:
        return _oauth("invalid_grant", "user hasn't approved this consumer")
    return None


def _check_secret(doors: Doors, request: Request, form: dict[str, str]) -> Response | None:
    key, secret = form.get("client_id", ""), form.get("client_secret", "")
    scheme, _, encoded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "basic":
        try:
            key, _, secret = base64.b64decode(encoded).decode().partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return _oauth("invalid_client", "invalid client credentials")
    if doors.apps is None:
        return None
    if key not in doors.apps:
        return _oauth("invalid_client_id", "client identifier invalid")
    if doors.apps[key] != secret:
        return _oauth("invalid_client", "invalid client credentials")
    return None


def _oauth(error: str, description: str) -> Response:
    return Response.of({"error": error, "error_description": description}, 400)


def _fault(code: str, message: str) -> Response:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope '
        'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
        'xmlns:sf="urn:fault.partner.soap.sforce.com"><soapenv:Body><soapenv:Fault>'
        f"<faultcode>sf:{code}</faultcode><faultstring>{code}: {escape(message)}</faultstring>"
        f"<detail><sf:LoginFault><sf:exceptionCode>{code}</sf:exceptionCode>"
        f"<sf:exceptionMessage>{escape(message)}</sf:exceptionMessage></sf:LoginFault></detail>"
        "</soapenv:Fault></soapenv:Body></soapenv:Envelope>"
    )
    return Response(500, body.encode(), "text/xml;charset=UTF-8")


def _element(text: str, name: str) -> str:
    found = re.search(rf"<(?:\w+:)?{name}>(.*?)</(?:\w+:)?{name}>", text, re.DOTALL)
    return found[1] if found else ""
