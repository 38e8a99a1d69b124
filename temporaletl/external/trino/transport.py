"""The sessions under the `trino` library: its requests go through the platform's `HttpClient`."""

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import requests

from temporaletl.errors import ConfigurationError, ETLError, SourceUnavailableError
from temporaletl.external.http import HttpClient
from temporaletl.external.trino.results import read_answer

#: Trino is told that a query is not wanted any more; it drops it by itself later, too.
_CANCELS_WITHIN = timedelta(seconds=2)
#: Trino gets the limit, and may report first that it is reached; a proxy may never.
_GRACE = 1.1
_GONE = frozenset({404, 410})
#: Asks for spooled results.
_ENCODING = "X-Trino-Query-Data-Encoding"
_QUERY_PATH = re.compile(r"/v1/statement/[^\s:]+")


class Session(requests.Session):
    """Trusts the configured authority, over which the environment's would win otherwise."""

    def __init__(self, authority: str | None) -> None:
        super().__init__()
        self._authority = authority

    def merge_environment_settings(self, *args: Any, **kwargs: Any) -> Any:
        merged = super().merge_environment_settings(*args, **kwargs)
        if self._authority is not None:
            merged["verify"] = self._authority
        return merged


class Relay(requests.Session):
    """A session for the library: passes one query's requests on to the `HttpClient`."""

    def __init__(
        self,
        http: HttpClient,
        stop: threading.Event,
        *,
        secured: str | None,
        longest: timedelta,
        answered: Callable[[], None] | None = None,
    ) -> None:
        """`secured` is the address that our credentials are for, None without credentials.

        `longest` is how long the query may go on, from its first request. `answered` is called at
        the first answer: Trino has let us in.
        """
        super().__init__()
        self._answered = answered
        self._http = http
        self._stop = stop
        self._secured = secured
        self._longest = longest
        self._begun: float | None = None  # monotonic seconds

    def request(  # type: ignore[override]
        self, method: str, url: str, *, data: Any = None, headers: Any = None, **_: Any
    ) -> Any:
        if self._stop.is_set() and method != "DELETE":
            raise SourceUnavailableError("trino: the query was abandoned")
        if method != "DELETE":
            self._check_time()
        if self._secured is not None and not url.startswith(f"{self._secured}/"):
            # The links in answers are whatever a proxy makes Trino believe.
            parts = urlsplit(url)
            raise ConfigurationError(
                f"trino: its answers lead to {parts.scheme}://{parts.netloc} instead of "
                f"{self._secured}, where our credentials are not sent: a proxy in front of Trino "
                "must pass on the Host and X-Forwarded-* that it is asked with"
            )
        sent = {**self.headers, **(headers or {})}
        # Results as they are produced: spooled ones would come from hosts with rules of their own.
        sent.pop(_ENCODING, None)
        # Nobody waits for the query any more, and yet Trino must hear of it.
        patience = _set_after(_CANCELS_WITHIN) if method == "DELETE" else nullcontext(self._stop)
        try:
            with patience as stop:
                answer = self._http.request(
                    method,
                    url,
                    data=data,
                    headers={name: value for name, value in sent.items() if value is not None},
                    accept=_GONE,
                    stop=stop,
                    read=read_answer,
                )
        except ETLError as error:
            # Whoever knows a query's address may read its results; and Trino's authority has a
            # setting of its own.
            text = _QUERY_PATH.sub("/v1/statement", str(error))
            error.args = (text.replace("REQUESTS_CA_BUNDLE", "TRINO_CA_FILE"),)
            raise
        if answer.status_code not in _GONE:
            tell, self._answered = self._answered, None
            if tell is not None:
                tell()
            return answer
        if method == "POST":
            raise ConfigurationError(
                f"trino: there is no Trino at {url} ({answer.status_code}); check TRINO_HOST, "
                "TRINO_PORT and TRINO_HTTP_SCHEME"
            )
        raise SourceUnavailableError("trino: the server no longer knows the query")

    def _check_time(self) -> None:
        now = time.monotonic()
        if self._begun is None:
            self._begun = now
        if now - self._begun > self._longest.total_seconds() * _GRACE:
            raise SourceUnavailableError(
                f"trino: the query has not come to its end in {self._longest}, and is cancelled; "
                "TRINO_QUERY_MINUTES is the longest a query may run"
            )


@contextmanager
def _set_after(span: timedelta) -> Iterator[threading.Event]:
    """An event that is set once the time is over."""
    event = threading.Event()
    timer = threading.Timer(span.total_seconds(), event.set)
    timer.daemon = True
    timer.start()
    try:
        yield event
    finally:
        timer.cancel()
