"""The retrying call that every source over HTTP shares.

Short troubles are sat out here. A longer wait is raised with its delay instead, so that the
platform waits without holding a thread, a connection or a worker slot.
"""

import random
import threading
from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, TypedDict, Unpack, overload
from urllib.parse import urlsplit

import msgspec
import requests
import tenacity
from pydantic import Field, PositiveFloat
from requests import codes

from temporaletl.budget import acquire
from temporaletl.errors import (
    ConfigurationError,
    CredentialsError,
    ETLError,
    ExcessiveWaitError,
    RateLimitedError,
    RetryableError,
    SourceProtocolError,
    SourceUnavailableError,
)
from temporaletl.external.answers import MisfitAnswerError, page_title
from temporaletl.external.cooldown import CoolDown
from temporaletl.external.deadline import deadline, watch_connections
from temporaletl.external.error_bodies import message_of
from temporaletl.external.exchange import endpoint_of, exchange
from temporaletl.retry_after import retry_after
from temporaletl.settings.platform import WaitSettings
from temporaletl.telemetry.logs import get_logger
from temporaletl.telemetry.metrics import note_wait
from temporaletl.troubles import one_request

log = get_logger("temporaletl.http")

#: Statuses that may pass by themselves. 500 is among them: behind load balancers it mostly is
#: one node's trouble, and requests here are safe to repeat.
TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})

_FIRST_PAUSE_SECONDS = 0.25
_LONGEST_PAUSE_SECONDS = 4.0
#: The shortest time that a whole answer is given, however short each silence may be.
_SHORTEST_ANSWER = timedelta(seconds=10)


class HttpSettings(WaitSettings):
    """Limits of all sources over HTTP: the longest wait, the largest answer."""

    answer_limit_megabytes: PositiveFloat = Field(
        256,
        validation_alias="ETL_ANSWER_LIMIT_MEGABYTES",
        description="the largest answer that is read, decompressed",
    )


class RequestOptions(TypedDict, total=False):
    """Options of one request."""

    params: Mapping[str, Any] | None
    json: Any
    data: Any
    headers: Mapping[str, str] | None
    accept: Collection[int]  # statuses that are answers, beside the successes
    stop: threading.Event | None  # setting it ends all at once
    attempts: int | None  # fewer than usual, where a failure is expected


class HttpClient:
    """Retrying HTTP client for calls that are safe to repeat; raises the platform's errors.

    Safe to use from many threads. After an answer with `Retry-After` no thread sends anything
    before that time is over: limits count the account, not the request.

    `credentials` names the settings to correct when the source refuses them, `address` the one of
    its address. `renew` logs in anew; it is called at most once for each refusal, however many
    threads meet it. `answer_timeout` bounds a whole exchange, however slowly its bytes come.
    """

    def __init__(
        self,
        session: requests.Session,
        *,
        source: str,
        credentials: str,
        address: str = "",
        connect_timeout: timedelta = timedelta(seconds=10),
        read_timeout: timedelta = timedelta(seconds=60),
        attempts: int = 5,
        longest_wait: timedelta = timedelta(seconds=5),
        longest_call: timedelta = timedelta(minutes=2),
        answer_timeout: timedelta | None = None,
        transient: Collection[int] = TRANSIENT,
        renew: Callable[[], None] | None = None,
    ) -> None:
        watch_connections(session)
        self._session = session
        self._source = source
        self._credentials = credentials
        self._settings = f"{address} and {credentials}" if address else credentials
        limits = HttpSettings.load()
        self._longest_delay = timedelta(minutes=limits.longest_wait_minutes)
        self._most_bytes = int(limits.answer_limit_megabytes * 1_000_000)
        self._answer_timeout = answer_timeout or max(2 * read_timeout, _SHORTEST_ANSWER)
        self._transient = frozenset(transient)
        self._timeout = (connect_timeout.total_seconds(), read_timeout.total_seconds())
        self._longest_wait = longest_wait
        self._give_up = tenacity.stop_after_attempt(attempts) | tenacity.stop_after_delay(
            longest_call.total_seconds()
        )
        self._renew = renew
        self._logins = 0
        self._guard = threading.Lock()
        self._cool_down = CoolDown(source)

    @overload
    def request(
        self, method: str, url: str, **options: Unpack[RequestOptions]
    ) -> requests.Response: ...

    @overload
    def request[T](
        self,
        method: str,
        url: str,
        *,
        read: Callable[[requests.Response], T],
        **options: Unpack[RequestOptions],
    ) -> T: ...

    def request(
        self,
        method: str,
        url: str,
        *,
        read: Callable[[requests.Response], Any] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Any:
        """Return the whole answer: a success, or a status that the caller `accept`s.

        `read` makes of either what is returned in its place, most often by decoding it. An answer
        that it cannot read, be it cut off, a page of a proxy or JSON without what it must have, is
        requested again like one that did not come.

            site.request("GET", url, read=reading(Projects, source="jira"))

        Raises:
            RateLimitedError: the source wants us to stay away longer than is waited for here.
            SourceUnavailableError: no usable answer in the attempts there are.
            CredentialsError: 401 or 403.
            ConfigurationError: the address is wrong.
            MisfitAnswerError: JSON of another shape each time; others as `read` raises.
            AnswerTooLargeError: more than ETL_ANSWER_LIMIT_MEGABYTES.
            SourceProtocolError: any other refusal, with the source's own words.
        """
        stopped = options.get("stop") or threading.Event()
        accept = options.get("accept", ())
        json = options.get("json")
        give_up = self._give_up
        if (attempts := options.get("attempts")) is not None:
            give_up = give_up | tenacity.stop_after_attempt(attempts)
        call = {
            "params": options.get("params"),
            "data": options.get("data") if json is None else msgspec.json.encode(json),
            "headers": {**({} if json is None else _JSON), **(options.get("headers") or {})},
        }
        with one_request() as failed:
            retrying = tenacity.Retrying(
                retry=tenacity.retry_if_exception(self._is_short),
                wait=_pause,
                stop=give_up | tenacity.stop_when_event_set(stopped),
                sleep=tenacity.sleep_using_event(stopped),
                before_sleep=partial(_note_retry, failed),
                reraise=True,
            )
            return retrying(self._attempt, method, url, call, accept, read, stopped)

    def _is_short(self, error: BaseException) -> bool:
        if isinstance(error, MisfitAnswerError):
            return True
        return isinstance(error, RetryableError) and (
            error.delay is None or error.delay <= self._longest_wait
        )

    def _attempt(
        self,
        method: str,
        url: str,
        call: Mapping[str, Any],
        accept: Collection[int],
        read: Callable[[requests.Response], Any] | None,
        stopped: threading.Event,
    ) -> Any:
        what = f"{self._source}: {method} {endpoint_of(url)}"
        logins = self._logins
        self._wait_for_opening(what, stopped)
        acquire(stopped)
        response = self._send(method, url, call, what, stopped)
        if response.status_code == codes.unauthorized and self._renew is not None:
            with self._guard:
                if logins == self._logins:
                    self._renew()
                    self._logins += 1
            acquire(stopped)
            response = self._send(method, url, call, what, stopped)
        if not response.ok or response.is_redirect:
            self._note_closing(response)
            if response.status_code not in accept:
                raise self._refusal(response, what)
        return response if read is None else self._read(read, response, what)

    def _read(
        self, read: Callable[[requests.Response], Any], response: requests.Response, what: str
    ) -> Any:
        try:
            return read(response)
        except ETLError as error:
            failure = error.with_traceback(None)
        unread = response.ok and isinstance(failure, SourceUnavailableError)
        page = page_title(response.content) if unread else None
        # The frames that an exception keeps would keep the body, too, of each attempt.
        response._content = b""  # noqa: SLF001 - requests has no other way to let go of it
        if page:
            # The address of some other site, or a log-in page in front of this one.
            raise type(failure)(
                f"{what} answered {response.status_code} with a page of HTML ({page}) in "
                f"place of the API's answer: if it stays so, check {self._settings}"
            )
        raise failure

    def _send(
        self,
        method: str,
        url: str,
        call: Mapping[str, Any],
        what: str,
        stopped: threading.Event,
    ) -> requests.Response:
        failure: SourceUnavailableError | ConfigurationError | None = None
        with deadline(self._answer_timeout, stopped) as ends:
            try:
                response = exchange(
                    self._session,
                    method,
                    url,
                    call,
                    what=what,
                    timeout=self._timeout,
                    most_bytes=self._most_bytes,
                )
            except (SourceUnavailableError, ConfigurationError) as error:
                failure = error
        # An answer that was ended from outside may look whole.
        if ends.stopped:
            raise SourceUnavailableError(f"{what}: nobody waits any more")
        if ends.passed:
            log.warning("answer_too_slow", what=what)
            seconds = self._answer_timeout.total_seconds()
            raise SourceUnavailableError(f"{what}: no whole answer within {seconds:g} s")
        if failure is not None:
            raise failure
        return response

    def _wait_for_opening(self, what: str, stopped: threading.Event) -> None:
        while (found := self._cool_down.remaining())[0] > timedelta(0):
            delay, began_by = found
            if delay > self._longest_wait or stopped.is_set():
                kind = RateLimitedError if began_by == _LIMIT else SourceUnavailableError
                seconds = delay.total_seconds()
                raise kind(f"{what}: the source asks to wait {seconds:.0f} s", delay=delay)
            note_wait("retry_after", delay.total_seconds())
            stopped.wait(delay.total_seconds())

    def _note_closing(self, response: requests.Response) -> None:
        if response.status_code not in self._transient:
            return
        delay = self._delay_of(response)
        if delay is not None:
            limited = response.status_code == codes.too_many_requests
            self._cool_down.begin(delay, _LIMIT if limited else "outage")

    def _delay_of(self, response: requests.Response) -> timedelta | None:
        delay = retry_after(response.headers)
        return None if delay is None else min(delay, self._longest_delay)

    def _excess(self, response: requests.Response, answered: str) -> ExcessiveWaitError | None:
        """The error of an answer that requests a longer wait than the limit; None for others."""
        delay = retry_after(response.headers)
        if delay is None or delay <= self._longest_delay:
            return None
        value = response.headers["Retry-After"][:_RETRY_AFTER_CHARACTERS]
        minutes = self._longest_delay.total_seconds() / 60
        return ExcessiveWaitError(
            f"{answered}; it asks to wait (Retry-After: {value}) for longer than "
            f"ETL_LONGEST_WAIT_MINUTES={minutes:g}: it is asked once more after that, and no more",
            delay=self._longest_delay,
        )

    def _refusal(self, response: requests.Response, what: str) -> Exception:
        status = response.status_code
        message = message_of(response)
        answered = f"{what} answered {status} {response.reason}" + (message and f": {message}")
        delay = self._delay_of(response)
        if (excess := self._excess(response, answered)) is not None:
            return excess
        if status in self._transient or status >= codes.server_error:
            limited = status == codes.too_many_requests
            return (RateLimitedError if limited else SourceUnavailableError)(answered, delay=delay)
        if status == codes.unauthorized:
            return CredentialsError(f"{answered}; check {self._credentials}")
        if status == codes.forbidden:
            path = urlsplit(response.url).path
            return CredentialsError(
                f"{answered}; the account behind {self._credentials} may not read {path}"
            )
        if response.is_redirect:
            target = endpoint_of(response.headers["Location"])
            return ConfigurationError(f"{answered}, a redirect to {target}; use the final address")
        return SourceProtocolError(answered)


_JSON = {"Content-Type": "application/json"}
_RETRY_AFTER_CHARACTERS = 40
_LIMIT = "rate limit"


def _error_of(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _note_retry(
    failed: Callable[[BaseException | None], None], state: tenacity.RetryCallState
) -> None:
    note_wait("retry", state.upcoming_sleep)
    failed(_error_of(state))


def _pause(state: tenacity.RetryCallState) -> float:
    error = _error_of(state)
    if isinstance(error, RetryableError) and error.delay:
        return error.delay.total_seconds()
    grown = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2 ** (state.attempt_number - 1))
    return float(grown * random.uniform(0.5, 1.0))  # noqa: S311 - spreads clients, guards nothing
