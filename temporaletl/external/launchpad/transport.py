"""The transport to Launchpad: requests signed by launchpadlib, sent by `HttpClient`.

launchpadlib's own connection sleeps up to half a minute over a 503, takes a 429 for an answer,
waits without end, and may be used by one thread only. `Transport` takes its place.
"""

import re
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urljoin, urlsplit
from xml.etree import ElementTree as ET

import msgspec
import requests
from requests import codes

from temporaletl.errors import CredentialsError, SourceProtocolError
from temporaletl.external.answers import GarbledAnswerError, decode
from temporaletl.external.error_bodies import message_of
from temporaletl.external.http import HttpClient

if TYPE_CHECKING:
    import httplib2  # type: ignore[import-untyped]

WADL = "application/vnd.sun.wadl+xml"
JSON = "application/json"

_UNREADABLE = frozenset({401, 403, 404, 410})
_MOVED = frozenset({301, 302, 303, 307, 308})
_MOST_HOPS = 5
_ROOT_OF_DESCRIPTIONS = "{http://research.sun.com/wadl/2006/10}application"
#: How Launchpad words a 401 that is about the credentials, not about the requested object.
_BAD_TOKEN = re.compile(
    r"\b(expired|invalid|unknown|revoked|no|bad)\s+(access\s+|oauth\s+|request\s+)?"
    r"(token|consumer|nonce|signature|credentials?)",
    re.IGNORECASE,
)


class UnreadableError(SourceProtocolError):
    """The requested object is private, or not there: Launchpad does not distinguish these."""

    def __init__(self, what: str, status: int) -> None:
        super().__init__(f"{what} may not be read, or is not there (HTTP {status})")
        self.status = status

    @property
    def may_be_credentials(self) -> bool:
        """Whether a loss of all access would look the same."""
        return self.status in {401, 403}


class Authorizer(Protocol):
    """The signer of requests: launchpadlib's credentials."""

    def authorizeRequest(  # noqa: N802 - the name is the library's
        self, absolute_uri: str, method: str, body: Any, headers: dict[str, str]
    ) -> None: ...


class Signature(requests.auth.AuthBase):
    """Signs each attempt anew: a nonce is good for one."""

    def __init__(self, authorizer: Authorizer) -> None:
        self._authorizer = authorizer

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        signed: dict[str, str] = {}
        self._authorizer.authorizeRequest(
            request.url or "", request.method or "GET", request.body, signed
        )
        request.headers.update(signed)
        return request


class Transport:
    """HTTP transport to one Launchpad, which replaces launchpadlib's connection.

    Safe to use from many threads. Descriptions of the service (WADL, over a megabyte each) are
    requested once.
    """

    #: launchpadlib keeps responses on disk unless there is no cache.
    cache = None

    def __init__(self, http: HttpClient, *, root: str, credentials: str) -> None:
        self._http = http
        self._origin = urlsplit(root)[:2]
        self._credentials = credentials
        self._descriptions: dict[str, bytes] = {}
        self._guard = threading.Lock()

    def request(
        self,
        uri: str,
        method: str = "GET",
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> "tuple[httplib2.Response, bytes]":
        """Answer as httplib2 does; launchpadlib calls it.

        Raises: as `get`, and SourceProtocolError for anything but reading.
        """
        if method != "GET" or body:
            raise SourceProtocolError(f"launchpad: {method} {urlsplit(uri).path} is not reading")
        accept = (headers or {}).get("Accept", JSON)
        if accept != WADL:
            return self.get(uri, _entry, accept=accept)
        with self._guard:
            if uri not in self._descriptions:
                self._descriptions[uri] = self.get(uri, _description, accept=WADL)
            description = self._descriptions[uri]
        return _response({"status": "200", "content-type": WADL}), description

    def get[T](
        self,
        url: str,
        read: Callable[[requests.Response], T],
        *,
        accept: str = JSON,
        stop: threading.Event | None = None,
    ) -> T:
        """Return what `read` makes of what is at a URL of this Launchpad. Blocks.

        Follows it where it has moved.

        Raises:
            UnreadableError: it is private, or not there.
            CredentialsError: the access token is refused.
            SourceProtocolError: a link leads away from this Launchpad, or in circles.
            Others as `HttpClient.request`.
        """
        for _ in range(_MOST_HOPS):
            answer, found = self._send(url, read, accept, stop)
            if answer.status_code == codes.not_found:
                # A copy of the database that lags behind does not have it yet.
                answer, found = self._send(url, read, accept, stop)
            if answer.status_code not in _MOVED:
                break
            url = _moved_to(url, answer.headers.get("Location", ""))
        else:
            raise SourceProtocolError(f"launchpad: {urlsplit(url).path} moves in circles")
        if answer.status_code in _UNREADABLE:
            raise self._refusal(answer)
        return found

    def _send[T](
        self,
        url: str,
        read: Callable[[requests.Response], T],
        accept: str,
        stop: threading.Event | None,
    ) -> tuple[requests.Response, T]:
        def take(answer: requests.Response) -> tuple[requests.Response, Any]:
            refused = answer.status_code in _UNREADABLE | _MOVED
            return answer, None if refused else read(answer)

        # The token goes along with each request, so none goes anywhere else.
        if urlsplit(url)[:2] != self._origin:
            host = urlsplit(url).hostname or url
            raise SourceProtocolError(
                f"launchpad: a link leads to {host}, away from {self._origin[1]}; "
                "check LP_SERVICE_ROOT"
            )
        return self._http.request(
            "GET",
            url,
            read=take,
            headers={"Accept": accept},
            accept=_UNREADABLE | _MOVED,
            stop=stop,
        )

    def _refusal(self, answer: requests.Response) -> Exception:
        location = urlsplit(answer.url)
        words = _BAD_TOKEN.search(message_of(answer))
        if answer.status_code == codes.unauthorized and words:
            # Launchpad's own words repeat the token.
            return CredentialsError(
                f"launchpad: {location.netloc} refuses the access token ({words[0].lower()}); "
                f"check {self._credentials}"
            )
        return UnreadableError(f"launchpad: {location.path}", answer.status_code)


class _Entry(msgspec.Struct):
    """The type of the service's root, or of a target, as launchpadlib needs it."""

    resource_type_link: str


def _entry(answer: requests.Response) -> "tuple[httplib2.Response, bytes]":
    """Return an entry whose type launchpadlib can read, as httplib2 would.

    Its links only: all that is needed, and nothing that people write.
    """
    decode(_Entry, answer, source="launchpad")
    members = decode(dict[str, msgspec.Raw], answer, source="launchpad")
    links = {name: raw for name, raw in members.items() if name.endswith("_link")}
    headers = {name.lower(): value for name, value in answer.headers.items()}
    status = {"status": str(answer.status_code), "content-type": JSON}
    return _response({**headers, **status}), msgspec.json.encode(links)


def _response(headers: Mapping[str, str]) -> "httplib2.Response":
    import httplib2

    return httplib2.Response(headers)


def _description(answer: requests.Response) -> bytes:
    """Return a description of the service.

    Raises:
        GarbledAnswerError: it is none, or cut off: kept, it would break all later requests.
    """
    try:
        # As launchpadlib itself will read it.
        found = ET.fromstring(answer.content).tag == _ROOT_OF_DESCRIPTIONS  # noqa: S314
    except (ET.ParseError, ValueError, LookupError):
        found = False
    if not found:
        raise GarbledAnswerError(
            f"launchpad: {urlsplit(answer.url).path} answered {answer.status_code} with something "
            "else than a description of the service (WADL); check LP_SERVICE_ROOT"
        )
    return answer.content


def _moved_to(url: str, location: str) -> str:
    try:
        moved = urljoin(url, location)
        urlsplit(moved)
    except ValueError as error:
        path = urlsplit(url).path
        raise SourceProtocolError(f"launchpad: {path} moved to what is no link: {error}") from None
    return moved
