"""The retrying call that every source over HTTP shares.

Short troubles are sat out here. A longer wait is raised with its delay instead, so that the
platform waits without holding a thread, a connection or a worker slot.
"""

import random
import threading
import time
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import msgspec
import requests
import tenacity
from requests import codes
from requests import exceptions as failures

from temporaletl.budget import counted_request, take_permit
from temporaletl.errors import (
    ConfigurationError,
    CredentialsError,
    RateLimitedError,
    RetryableError,
    SourceProtocolError,
    SourceUnavailableError,
)

#: Statuses that may pass by themselves. 500 is among them: behind load balancers it mostly is
#: one node's trouble, and what is asked for here is safe to ask again.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})

_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 4.0
_MESSAGE_CHARACTERS = 300


class HttpClient:
    """Makes calls that are safe to repeat, and says what came of them in the platform's errors.

    Safe to use from many threads. After an answer with `Retry-After` no thread sends anything
    before that time is over: limits count the account, not the request.

    `credentials` names the settings to correct when the source refuses them. `renew` logs in
    anew; it is called at most once for each refusal, however many threads meet it.
    """

    def __init__(
        self,
        session: requests.Session,
        *,
        source: str,
        credentials: str,
        connect_timeout: timedelta = timedelta(seconds=10),
        read_timeout: timedelta = timedelta(seconds=60),
        attempts: int = 5,
        longest_wait: timedelta = timedelta(seconds=5),
        longest_call: timedelta = timedelta(minutes=2),
        renew: Callable[[], None] | None = None,
    ) -> None:
        self._session = session
        self._source = source
        self._credentials = credentials
        self._timeout = (connect_timeout.total_seconds(), read_timeout.total_seconds())
        self._longest_wait = longest_wait
        self._give_up = tenacity.stop_after_attempt(attempts) | tenacity.stop_after_delay(
            longest_call.total_seconds()
        )
        self._renew = renew
        self._logins = 0
        self._guard = threading.Lock()
        self._closed_until = 0.0  # monotonic seconds
        self._closed_by_limit = False

    def request(
        self,
        method: str,
        url: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        data: Any = None,
        headers: Mapping[str, str] | None = None,
        accept: Collection[int] = (),
        stop: threading.Event | None = None,
    ) -> requests.Response:
        """Return the whole answer: a success, or a status that the caller `accept`s.

        Setting `stop` ends waiting and retrying, not a request under way.

        Raises:
            RateLimitedError: the source wants us to stay away longer than is waited for here.
            SourceUnavailableError: no usable answer in the attempts there are.
            CredentialsError: 401 or 403.
            ConfigurationError: the address is wrong.
            SourceProtocolError: any other refusal, with the source's own words.
        """
        stopped = stop or threading.Event()
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self._is_short),
            wait=_pause,
            stop=self._give_up | tenacity.stop_when_event_set(stopped),
            sleep=tenacity.sleep_using_event(stopped),
            reraise=True,
        )
        call = {
            "params": params,
            "data": data if json is None else msgspec.json.encode(json),
            "headers": {**({} if json is None else _JSON), **(headers or {})},
        }
        return retrying(self._attempt, method, url, call, accept, stopped)

    def _is_short(self, error: BaseException) -> bool:
        return isinstance(error, RetryableError) and (
            error.delay is None or error.delay <= self._longest_wait
        )

    def _attempt(
        self,
        method: str,
        url: str,
        call: Mapping[str, Any],
        accept: Collection[int],
        stopped: threading.Event,
    ) -> requests.Response:
        what = f"{self._source}: {method} {_place(url)}"
        logins = self._logins
        self._wait_for_opening(what, stopped)
        take_permit(stopped)
        response = self._send(method, url, call, what)
        if response.status_code == codes.unauthorized and self._renew is not None:
            with self._guard:
                if logins == self._logins:
                    self._renew()
                    self._logins += 1
            take_permit(stopped)
            response = self._send(method, url, call, what)
        if response.ok and not response.is_redirect:
            return response
        self._note_closing(response)
        if response.status_code in accept:
            return response
        raise self._refusal(response, what)

    def _send(self, method: str, url: str, call: Mapping[str, Any], what: str) -> requests.Response:
        # Exceptions of requests carry the whole URL, query included: none is chained.
        try:
            # The plain request, also where a library's session overrides it with retries of
            # its own. It reads the whole body, so that a break in the middle is met here.
            with counted_request():
                return requests.Session.request(
                    self._session, method, url, timeout=self._timeout, allow_redirects=False, **call
                )
        except failures.SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise ConfigurationError(
                    f"{what}: the server's certificate cannot be verified; for a certificate "
                    "authority of your own, name its file in REQUESTS_CA_BUNDLE"
                ) from None
            raise SourceUnavailableError(f"{what}: the TLS connection failed") from None
        except failures.ConnectTimeout:
            raise SourceUnavailableError(
                f"{what}: no connection within {self._timeout[0]:g} s"
            ) from None
        except failures.Timeout:
            raise SourceUnavailableError(
                f"{what}: no answer within {self._timeout[1]:g} s"
            ) from None
        except failures.ConnectionError as error:
            raise SourceUnavailableError(
                f"{what}: the connection failed ({_cause(error)})"
            ) from None
        except (failures.ChunkedEncodingError, failures.ContentDecodingError):
            raise SourceUnavailableError(f"{what}: the answer broke off in the middle") from None
        except failures.RequestException as error:
            raise ConfigurationError(
                f"{what}: cannot be asked for ({type(error).__name__})"
            ) from None

    def _wait_for_opening(self, what: str, stopped: threading.Event) -> None:
        while (remaining := self._closed_until - time.monotonic()) > 0:
            delay = timedelta(seconds=remaining)
            if delay > self._longest_wait or stopped.is_set():
                kind = RateLimitedError if self._closed_by_limit else SourceUnavailableError
                raise kind(f"{what}: the source asks to wait {remaining:.0f} s", delay=delay)
            stopped.wait(remaining)

    def _note_closing(self, response: requests.Response) -> None:
        if response.status_code not in TRANSIENT:
            return
        delay = retry_after(response)
        if delay is not None:
            with self._guard:
                closed_until = time.monotonic() + delay.total_seconds()
                if closed_until > self._closed_until:
                    self._closed_until = closed_until
                    self._closed_by_limit = response.status_code == codes.too_many_requests

    def _refusal(self, response: requests.Response, what: str) -> Exception:
        status = response.status_code
        message = message_of(response)
        answered = f"{what} answered {status} {response.reason}" + (message and f": {message}")
        if status == codes.too_many_requests:
            return RateLimitedError(answered, delay=retry_after(response))
        if status in TRANSIENT or status >= codes.server_error:
            return SourceUnavailableError(answered, delay=retry_after(response))
        if status == codes.unauthorized:
            return CredentialsError(f"{answered}; check {self._credentials}")
        if status == codes.forbidden:
            path = urlsplit(response.url).path
            return CredentialsError(
                f"{answered}; the account behind {self._credentials} may not read {path}"
            )
        if response.is_redirect:
            target = _place(response.headers["Location"])
            return ConfigurationError(f"{answered}, a redirect to {target}; use the final address")
        return SourceProtocolError(answered)


_JSON = {"Content-Type": "application/json"}


def retry_after(response: requests.Response) -> timedelta | None:
    """Return how long the answer asks us to stay away, None where it does not say."""
    value = response.headers.get("Retry-After", "").strip()
    if not value:
        return None
    try:
        return max(timedelta(0), timedelta(seconds=float(value)))
    except (ValueError, OverflowError):
        until = _http_date(value)
    if until is None:
        return None
    # Against the server's own clock, where it shows it: ours may be fast.
    now = _http_date(response.headers.get("Date", "")) or datetime.now(UTC)
    return max(timedelta(0), until - now)


def _http_date(value: str) -> datetime | None:
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, TypeError):
        return None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _pause(state: tenacity.RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, RetryableError) and error.delay:
        return error.delay.total_seconds()
    grown = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (state.attempt_number - 1))
    return float(grown * random.uniform(0.5, 1.0))  # noqa: S311 - spreads clients, guards nothing


def _place(url: str) -> str:
    """Host and path; what follows them may hold secrets."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{host}{parts.path}"


def _cause(error: BaseException) -> str:
    """The innermost reason in the system's words."""
    known: list[BaseException] = []
    todo: list[BaseException | None] = [error]
    while todo:
        inner = todo.pop()
        if inner is None or inner in known:
            continue
        known.append(inner)
        if isinstance(inner, OSError) and inner.strerror:
            return inner.strerror
        reason = getattr(inner, "reason", None)
        todo += [
            inner.__context__,
            reason if isinstance(reason, BaseException) else None,
            *(arg for arg in inner.args if isinstance(arg, BaseException)),
        ]
    return type(known[-1]).__name__


def message_of(response: requests.Response) -> str:
    """Return the server's own words for an error, as far as they are words."""
    try:
        text = "; ".join(_sentences(msgspec.json.decode(response.content)))
    except msgspec.DecodeError:
        plain = response.headers.get("Content-Type", "").startswith("text/plain")
        text = response.text if plain else ""
    text = " ".join(text.split())
    return text if len(text) <= _MESSAGE_CHARACTERS else f"{text[:_MESSAGE_CHARACTERS]}…"


def _sentences(body: Any) -> list[str]:
    if isinstance(body, str):
        return [body]
    if isinstance(body, list):
        return [sentence for each in body for sentence in _sentences(each)]
    if not isinstance(body, dict):
        return []
    found: list[str] = []
    for name in ("errorMessages", "errorMessage", "message", "error_description", "error", "title"):
        found += _sentences(body.get(name))
    errors = body.get("errors")
    if isinstance(errors, dict):
        found += [f"{name}: {text}" for name, each in errors.items() for text in _sentences(each)]
    else:
        found += _sentences(errors)
    return found
