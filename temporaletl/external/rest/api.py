"""A REST API's settings: address and credentials, and its one session for all requests."""

import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Annotated, Any, Self
from urllib.parse import urljoin, urlsplit

import requests
from pydantic import (
    AfterValidator,
    Field,
    SecretStr,
    model_validator,
)
from requests.auth import AuthBase

from temporaletl.connections.source_settings import HttpSettings, RateSettings
from temporaletl.errors import SourceProtocolError
from temporaletl.external.http import HttpClient
from temporaletl.external.rest.records import Answer, Shape
from temporaletl.external.shared import Shared
from temporaletl.external.threads import start
from temporaletl.settings.addresses import check_encrypted, site_address

_EXAMPLE = "https://api.example.com/v1"


class RestSettings(RateSettings, HttpSettings):
    """Settings of an API without credentials; the base of `TokenSettings`.

    Subclass it with `alias_generator=variables("SHOP")`. For credentials of another kind, add
    fields, let `headers` send them and `credentials` name them.
    """

    url: Annotated[str, AfterValidator(partial(site_address, example=_EXAMPLE))] = Field(
        description=f"the API's address, e.g. {_EXAMPLE}"
    )

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        if self.secrets():
            check_encrypted(self.url, self.variable("url"))
        return self

    def headers(self) -> dict[str, str]:
        """The headers of every request."""
        return {"Accept": "application/json"}

    @classmethod
    def credentials(cls) -> str:
        """The settings to correct when the API refuses the credentials."""
        return cls.variable("url")


class TokenSettings(RestSettings):
    """Settings of an API that takes a bearer token."""

    token: SecretStr = Field(description="the access token")

    def headers(self) -> dict[str, str]:
        return super().headers() | {"Authorization": f"Bearer {self.token.get_secret_value()}"}

    @classmethod
    def credentials(cls) -> str:
        return cls.variable("token")


class _Headers(AuthBase):
    """Adds headers as requests' authentication, lest it takes credentials from a netrc file."""

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers.update(self._headers)
        return request


class RestApi:
    """One API as one process sees it. Safe to use from many tasks and threads."""

    def __init__(self, source: str, settings: RestSettings) -> None:
        self.source = source
        self.settings = settings
        self._session = requests.Session()
        self._session.auth = _Headers(settings.headers())
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix=source)
        self._http = HttpClient(
            self._session,
            source=source,
            credentials=settings.credentials(),
            address=settings.variable("url"),
            connect_timeout=timedelta(seconds=settings.connect_timeout_seconds),
            read_timeout=timedelta(seconds=settings.read_timeout_seconds),
            # A refusal may be a fault of one node: it is sent again once, and then believed.
            renew=self._session.cookies.clear,
        )

    def close(self) -> None:
        """Let go of threads and connections; requests under way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    async def get(
        self, path: str, params: Mapping[str, Any] | None = None, *, accept: Collection[int] = ()
    ) -> requests.Response:
        """Request a path below the API's address, or for one from its root (`/…`).

        Raises:
            SourceProtocolError: the path leads to another host, where no credential may go.
            Others as `HttpClient.request`.
        """
        return await self._ask(path, params, accept, lambda response: response)

    async def page(
        self,
        path: str,
        params: Mapping[str, Any] | None,
        shape: Shape,
        *,
        accept: Collection[int] = (),
    ) -> Answer | None:
        """Request a page of records; None where it is refused with a status of `accept`.

        An answer that cannot be read is requested again, as one that did not come.

        Raises: as `get`, and as `Answer`.
        """
        return await self._ask(
            path,
            params,
            accept,
            lambda response: (
                None if response.status_code in accept else Answer(self.source, response, shape)
            ),
        )

    async def _ask[T](
        self,
        path: str,
        params: Mapping[str, Any] | None,
        accept: Collection[int],
        read: Callable[[requests.Response], T],
    ) -> T:
        url = urljoin(f"{self.settings.url}/", path)
        if urlsplit(url)[:2] != urlsplit(self.settings.url)[:2]:
            raise SourceProtocolError(
                f"{self.source}: a link leads to {urlsplit(url).hostname}, away from "
                f"{urlsplit(self.settings.url).netloc}; check {self.settings.variable('url')}"
            )
        stop = threading.Event()

        def ask() -> T:
            return self._http.request(
                "GET", url, read=read, params=params, accept=accept, stop=stop
            )

        try:
            return await start(self._threads, ask)
        finally:
            # A request that nobody waits for any more is ended.
            stop.set()


open_api = Shared(RestApi)
close_apis = open_api.close_all
