"""The HTTP API as a client has it: requests, and answers read into the platform's own classes."""

import asyncio
import threading
import time
import uuid
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import requests
from pydantic import TypeAdapter, ValidationError

from temporaletl.control.client.problems import ApiProtocolError, ApiUnavailableError, error_of
from temporaletl.control.client.settings import ClientSettings
from temporaletl.errors import ConfigurationError, SourceProtocolError, SourceUnavailableError
from temporaletl.external.deadline import deadline, watch_connections
from temporaletl.external.exchange import exchange
from temporaletl.warehouse.idempotency import RequestRunningError

_ROOT = "/api/v1"
_CONNECT_WITHIN = timedelta(seconds=5)
#: How long an answer may take, unless it is said: the bounds of the API itself are shorter.
ANSWER_WITHIN = timedelta(seconds=30)
_MOST_BYTES = 256_000_000
#: Items of one page of a list.
_PAGE = 200
#: How often a request with a key is sent to which no answer came, and how long one is waited for.
_MOST_ATTEMPTS = 3
_SENT_AGAIN_FOR = timedelta(seconds=60)
_PAUSE = timedelta(milliseconds=500)


class _Bearer(requests.auth.AuthBase):
    """Sends the token, of a file the one that it holds now.

    Without it, `requests` would send what a `.netrc` has instead.
    """

    def __init__(self, settings: ClientSettings) -> None:
        self._settings = settings

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if (header := self._header()) is not None:
            request.headers["Authorization"] = header
        return request

    def is_other_than(self, request: requests.PreparedRequest) -> bool:
        """Whether the token was replaced since a request was sent."""
        return request.headers.get("Authorization") != self._header()

    def _header(self) -> str | None:
        token = self._settings.renewed().token
        return None if token is None else f"Bearer {token.get_secret_value()}"


class Api:
    """Requests to the API of one platform; for one event loop.

    The token goes to `address` and nowhere else: redirects are not followed.
    """

    def __init__(self, settings: ClientSettings) -> None:
        """Raises ConfigurationError: no address, or a token's file that cannot be read."""
        if settings.url is None:
            raise ConfigurationError("ETL_API_URL is not set")
        self.address = settings.url
        self._auth = _Bearer(settings)
        self._session = requests.Session()
        # Without encryption, the environment's proxy would read the token.
        self._session.trust_env = settings.url.startswith("https:")
        watch_connections(self._session)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session.close()

    async def get[T](
        self, answer: type[T], *path: str, params: Mapping[str, Any] | None = None
    ) -> T:
        """Read something. Raises: as `send`."""
        return await self.send("GET", answer, *path, params=params)

    async def tagged[T](self, answer: type[T], *path: str) -> tuple[T, str]:
        """Read something with its ETag, by which it is changed. Raises: as `send`."""
        url = self._url(_ROOT, path)
        found = await self._answer("GET", url, {"auth": self._auth}, ANSWER_WITHIN)
        return self._read_body(answer, found.content), found.headers.get("ETag", "")

    async def health[T](self, answer: type[T]) -> T:
        """Read the health of all parts, also where one is down. Raises: as `send`."""
        url, call = self._url("", ("health",)), {"auth": self._auth}
        found = await self._answer("GET", url, call, ANSWER_WITHIN, unhealthy=True)
        return self._read_body(answer, found.content)

    async def pages[T](
        self, item: type[T], *path: str, limit: int, params: Mapping[str, Any] | None = None
    ) -> tuple[list[T], dict[str, Any]]:
        """Read the first `limit` items of a list, and the last page that was read of it.

        Raises: as `send`.
        """
        found: list[T] = []
        after = None
        while True:
            wanted = {**(params or {}), "limit": min(limit - len(found), _PAGE), "after": after}
            page = await self.get(dict[str, Any], *path, params=wanted)
            found += [self.read(item, one) for one in self.read(list[Any], page.get("items"))]
            after = page.get("next")
            if after is None or len(found) >= limit:
                return found, page

    async def send[T](
        self,
        method: str,
        answer: type[T],
        *path: str,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        within: timedelta = ANSWER_WITHIN,
    ) -> T:
        """Send a request once, and read its answer.

        Raises:
            ApiUnavailableError: no whole answer came.
            ApiProtocolError: the answer is none of this version's API.
            ETLError: the one that the API answers with, by its class.
        """
        call = {"params": _given(params), "json": json, "headers": headers, "auth": self._auth}
        found = await self._answer(method, self._url(_ROOT, path), call, within)
        return self._read_body(answer, found.content)

    async def start[T](self, answer: type[T], *path: str, json: Any) -> T:
        """Send a request that starts something: again where no answer came, but done once.

        Raises: as `send`.
        """
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        attempts, until = 1, time.monotonic() + _SENT_AGAIN_FOR.total_seconds()
        while True:
            try:
                return await self.send("POST", answer, *path, json=json, headers=headers)
            except ApiUnavailableError:
                if attempts >= _MOST_ATTEMPTS or time.monotonic() >= until:
                    raise
                attempts += 1
            except RequestRunningError:
                # The one whose answer was cut off.
                if time.monotonic() >= until:
                    raise
            await asyncio.sleep(_PAUSE.total_seconds())

    async def _answer(
        self,
        method: str,
        url: str,
        call: dict[str, Any],
        within: timedelta,
        *,
        unhealthy: bool = False,
    ) -> requests.Response:
        stop = threading.Event()
        try:
            answer = await asyncio.to_thread(self._exchange, method, url, call, within, stop)
        except asyncio.CancelledError:
            stop.set()
            raise
        is_report = unhealthy and answer.headers.get("Content-Type") == "application/json"
        if not is_report and (not answer.ok or answer.is_redirect):
            raise error_of(self.address, answer)
        return answer

    def _url(self, root: str, path: tuple[str, ...]) -> str:
        return "/".join([f"{self.address}{root}", *(quote(part, safe="") for part in path)])

    def _exchange(
        self,
        method: str,
        url: str,
        call: dict[str, Any],
        within: timedelta,
        stop: threading.Event,
    ) -> requests.Response:
        what = f"the API at {self.address}"

        def send() -> requests.Response:
            return exchange(
                self._session,
                method,
                url,
                call,
                what=what,
                timeout=(_CONNECT_WITHIN.total_seconds(), within.total_seconds()),
                most_bytes=_MOST_BYTES,
            )

        try:
            with deadline(within, stop) as limit:
                answer = send()
                refused = answer.status_code == HTTPStatus.UNAUTHORIZED
                if refused and self._auth.is_other_than(answer.request):
                    # Replaced and revoked while it was on its way: nothing was done.
                    answer = send()
                return answer
        except SourceUnavailableError as error:
            reason = str(error).removeprefix(f"{what}: ")
            if limit.passed:
                reason = f"no whole answer within {within.total_seconds():g} s"
            raise ApiUnavailableError(f"{what} does not answer: {reason}") from None
        except SourceProtocolError as error:
            raise ApiProtocolError(str(error)) from None

    def read[T](self, answer: type[T], found: object) -> T:
        """Read a part of an answer into a class; raises ApiProtocolError where it does not fit."""
        try:
            return TypeAdapter(answer).validate_python(found)
        except ValidationError as error:
            raise self._misfit(error) from None

    def _read_body[T](self, answer: type[T], body: bytes) -> T:
        try:
            return TypeAdapter(answer).validate_json(body or b"null")
        except ValidationError as error:
            raise self._misfit(error) from None

    def _misfit(self, error: ValidationError) -> ApiProtocolError:
        where = ".".join(map(str, error.errors(include_input=False)[0]["loc"])) or "all of it"
        return ApiProtocolError(
            f"the API at {self.address} is of another version: its answer does not fit ({where})"
        )


def _given(params: Mapping[str, Any] | None) -> dict[str, Any]:
    return {name: value for name, value in (params or {}).items() if value is not None}
