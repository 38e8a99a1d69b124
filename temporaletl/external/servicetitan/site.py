"""One ServiceTitan tenant per process: its session, its token, its answers."""

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, overload
from urllib.parse import urlsplit

import msgspec
import requests
from requests import codes

from temporaletl.credentials import for_header
from temporaletl.errors import ConfigurationError, CredentialsError, RecordError
from temporaletl.external.answers import MisfitAnswerError, decode, decode_record
from temporaletl.external.error_bodies import message_of
from temporaletl.external.exchange import keep_connections
from temporaletl.external.http import HttpClient
from temporaletl.external.servicetitan.resources import Resource
from temporaletl.external.servicetitan.settings import SOURCE, ServiceTitanSettings
from temporaletl.external.shared import Shared
from temporaletl.external.threads import Begun, start
from temporaletl.secrets import remember_secret

#: A token is renewed so long before it expires, or when a fifth of its life is left.
_LONGEST_MARGIN_SECONDS = 60.0
#: The life of a token that does not say how long it lives.
_SHORT_LIFE_SECONDS = 300.0
#: A token that claims to live longer is renewed all the same.
_LONGEST_LIFE_SECONDS = 86_400.0
_REFUSED = frozenset({codes.bad_request, codes.unauthorized, codes.forbidden})


class _Token(msgspec.Struct):
    access_token: str
    expires_in: float = _SHORT_LIFE_SECONDS
    #: What the app may read, separated by spaces. OAuth leaves it out where nothing was withheld.
    scope: str | None = None


class _Refusal(msgspec.Struct):
    error: str = ""


class Login:
    """The app's token, renewed before it expires. Safe to use from many threads."""

    def __init__(self, settings: ServiceTitanSettings) -> None:
        self._settings = settings
        self._session = requests.Session()
        # Otherwise a .netrc file could add credentials of its own.
        self._session.auth = _as_it_is
        self._http = _client(settings, self._session)
        self._guard = threading.Lock()
        self._token = ""
        self._scopes: str | None = None
        self._renewed_at = 0.0  # monotonic seconds

    def close(self) -> None:
        self._session.close()

    def ensure(self, stop: threading.Event | None = None) -> None:
        """Have a token that lives on for a while.

        Raises: as `renew`.
        """
        with self._guard:
            if time.monotonic() >= self._renewed_at:
                self._fetch(stop)

    def renew(self) -> None:
        """Get another token, whatever the present one is good for.

        Raises:
            CredentialsError: client id or secret is refused.
            RetryableError: the server does not give tokens just now.
        """
        with self._guard:
            self._fetch(None)

    @property
    def scopes(self) -> frozenset[str] | None:
        """The scopes of the present token; None where its server does not report them."""
        return None if self._scopes is None else frozenset(self._scopes.split())

    def sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the credentials to a request."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        request.headers["ST-App-Key"] = self._settings.app_key.get_secret_value()
        return request

    def _fetch(self, stop: threading.Event | None) -> None:
        settings = self._settings
        requested_at = time.monotonic()
        token = self._http.request(
            "POST",
            settings.auth_url,
            read=self._token_in,
            data={
                "grant_type": "client_credentials",
                "client_id": settings.client_id,
                "client_secret": settings.client_secret.get_secret_value(),
            },
            accept={*_REFUSED, codes.not_found},
            stop=stop,
        )
        life = min(max(0.0, token.expires_in), _LONGEST_LIFE_SECONDS)
        remember_secret(token.access_token)
        self._token, self._scopes = token.access_token, token.scope
        self._renewed_at = requested_at + life - min(_LONGEST_MARGIN_SECONDS, life / 5)

    def _token_in(self, answer: requests.Response) -> _Token:
        if answer.status_code == codes.not_found:
            raise ConfigurationError(
                f"{SOURCE}: {_host(self._settings.auth_url)} gives out no tokens there (404); "
                "correct SERVICETITAN_AUTH_URL"
            )
        if answer.status_code in _REFUSED:
            raise CredentialsError(self._refused(answer))
        token = decode(_Token, answer, source=SOURCE)
        try:
            for_header(token.access_token)
        except ValueError:
            raise MisfitAnswerError(
                f"{SOURCE}: {_host(self._settings.auth_url)} gives a token that no header can hold"
            ) from None
        return token

    def _refused(self, answer: requests.Response) -> str:
        what = f"{SOURCE}: {_host(self._settings.auth_url)} refuses the client"
        said = message_of(answer)
        if said:
            what += f" ({answer.status_code}: {said})"
        try:
            reason = decode_record(_Refusal, answer.content).error
        except RecordError:
            reason = ""
        if reason in {"unauthorized_client", "invalid_scope", "access_denied"}:
            return (
                f"{what}; have the tenant's administrator connect the app again, or correct "
                "SERVICETITAN_CLIENT_ID"
            )
        return (
            f"{what}; check SERVICETITAN_CLIENT_ID and SERVICETITAN_CLIENT_SECRET, and that they "
            "are for the environment of SERVICETITAN_AUTH_URL"
        )


class ServiceTitanSite:
    """One tenant as one process sees it. Safe to use from many threads."""

    def __init__(self, settings: ServiceTitanSettings) -> None:
        self.settings = settings
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix=SOURCE)
        self._login = Login(settings)
        self._session = requests.Session()
        self._session.auth = self._login.sign
        self._session.headers["Accept"] = "application/json"
        keep_connections(self._session, settings.concurrency)
        self._http = _client(settings, self._session, self._login)

    def close(self) -> None:
        """Let go of threads and connections; requests under way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._session.close()
        self._login.close()

    def start[T](self, function: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
        """Run a blocking function in one of the site's threads."""
        return start(self._threads, function, *args)

    def begin[T](self, function: Callable[..., T], *args: Any) -> Begun[T]:
        """Run a blocking function in one of the site's threads, beside the caller's."""
        return Begun(self._threads, function, *args)

    def scopes(self) -> frozenset[str] | None:
        """The app's scopes for the tenant, as the token's server reports them. Blocks.

        None where it does not. Asks for a token of its own, so that none from before counts.

        Raises: as `Login.renew`.
        """
        self._login.renew()
        return self._login.scopes

    @overload
    def read[T](
        self,
        resource: Resource,
        path: str,
        params: Mapping[str, Any],
        kind: type[T],
        *,
        stop: threading.Event | None = None,
        attempts: int | None = None,
    ) -> T: ...

    @overload
    def read[T](
        self,
        resource: Resource,
        path: str,
        params: Mapping[str, Any],
        kind: type[T],
        *,
        accept: Collection[int],
        stop: threading.Event | None = None,
        attempts: int | None = None,
    ) -> T | None: ...

    def read[T](
        self,
        resource: Resource,
        path: str,
        params: Mapping[str, Any],
        kind: type[T],
        *,
        accept: Collection[int] = (),
        stop: threading.Event | None = None,
        attempts: int | None = None,
    ) -> T | None:
        """Read what is at a path below the tenant in the resource's module.

        None where it answers with a status that is accepted. `attempts` are fewer than usual where
        a failure is expected.

        Raises:
            CredentialsError: client, app key or the app's rights are refused; says which.
            ConfigurationError: there is no such tenant, or no such address.
            RetryableError, SourceProtocolError: as `HttpClient.request`.
        """
        settings = self.settings
        url = f"{settings.url}/{resource.module}/v2/tenant/{settings.tenant_id}/{path}"
        self._login.ensure(stop)

        def take(answer: requests.Response) -> T | None:
            if answer.status_code >= codes.bad_request:
                self._check(resource, path, answer)
                return None
            return decode(kind, answer, source=SOURCE)

        return self._http.request(
            "GET",
            url,
            read=take,
            params=params,
            accept={*accept, codes.forbidden, codes.not_found},
            stop=stop,
            attempts=attempts,
        )

    def _check(self, resource: Resource, path: str, answer: requests.Response) -> None:
        settings = self.settings
        said = message_of(answer)
        said = said and f": {said}"
        if answer.status_code == codes.forbidden:
            raise CredentialsError(
                f"{SOURCE}: the app may not read {resource.stream} of tenant {settings.tenant_id} "
                f"(403{said}); give it the read scope for {resource.stream} ({resource.title}) in "
                "the developer portal and have the tenant accept it, or correct "
                "SERVICETITAN_TENANT_ID"
            )
        if answer.status_code == codes.not_found:
            raise ConfigurationError(
                f"{SOURCE}: {_host(settings.url)} has no {path} of tenant {settings.tenant_id} "
                f"(404{said}); correct SERVICETITAN_TENANT_ID or SERVICETITAN_URL"
            )


def _client(
    settings: ServiceTitanSettings, session: requests.Session, login: Login | None = None
) -> HttpClient:
    return HttpClient(
        session,
        source=SOURCE,
        credentials="SERVICETITAN_CLIENT_ID, SERVICETITAN_CLIENT_SECRET and SERVICETITAN_APP_KEY",
        address=f"SERVICETITAN_{'AUTH_URL' if login is None else 'URL'}",
        connect_timeout=timedelta(seconds=settings.connect_timeout_seconds),
        read_timeout=timedelta(seconds=settings.read_timeout_seconds),
        # One answer that never comes must leave time for another attempt.
        longest_call=timedelta(seconds=2.5 * settings.read_timeout_seconds),
        renew=None if login is None else login.renew,
    )


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _host(address: str) -> str:
    return urlsplit(address).netloc


open_site = Shared(ServiceTitanSite)
close_sites = open_site.close_all
