"""One Salesforce org per process: its session, its threads, its API limits."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import requests
from requests import codes

from temporaletl.errors import CredentialsError, ETLError, RateLimitedError, SourceUnavailableError
from temporaletl.external.cooldown import CoolDown
from temporaletl.external.exchange import keep_connections
from temporaletl.external.http import TRANSIENT, HttpClient
from temporaletl.external.salesforce.login import Login, log_in
from temporaletl.external.salesforce.refusals import (
    DAILY_LIMIT_PAUSE,
    JUDGED,
    UNREASONABLE,
    QueryTimeoutError,
    StaleLocatorError,
    refusal_of,
)
from temporaletl.external.salesforce.settings import SalesforceSettings
from temporaletl.external.shared import Shared
from temporaletl.external.threads import Begun, start
from temporaletl.telemetry.logs import get_logger

log = get_logger("salesforce")

#: Refusals of one request in sessions of which none was good for anything: not theirs to mend.
_MOST_SESSIONS = 3
#: Refusals of one request in sessions that are good for others, and may end under many at once.
_MOST_REFUSALS = 10
#: No login is tried for so long after a refused one: a few wrong ones lock the user out.
_REFUSED_SECONDS = 60.0
_ANSWERED = JUDGED | {codes.unauthorized}
#: Attempts at what most likely fails again, as one row in it cannot be rendered.
_FEW_ATTEMPTS = 2
_ATTEMPTS = 5
_REPORTED_STEP = 0.05  # share of the limit


@dataclass(frozen=True, slots=True)
class _Refused:
    status: int
    error: ETLError


#: What passes, though not by asking for the very same thing at once.
_ONCE = (QueryTimeoutError, StaleLocatorError)


class SalesforceOrg:
    """An org behind one login. Safe to use from many threads.

    Logs in at the first request, and anew once for each refused session.
    """

    def __init__(self, settings: SalesforceSettings) -> None:
        self.settings = settings
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="salesforce")
        self._transport = requests.Session()
        keep_connections(self._transport, settings.concurrency)
        self._transport.auth = self._sign
        self._http, self._brief = (
            HttpClient(
                self._transport,
                source="salesforce",
                credentials=settings.credentials,
                address="SF_INSTANCE_URL",
                connect_timeout=timedelta(seconds=settings.connect_timeout_seconds),
                read_timeout=timedelta(seconds=settings.read_timeout_seconds),
                attempts=attempts,
                transient=TRANSIENT | UNREASONABLE,
                renew=self._renew,
            )
            for attempts in (_ATTEMPTS, _FEW_ATTEMPTS)
        )
        self._guard = threading.Lock()
        self._login: Login | None = None
        self._refused: tuple[float, str] | None = None
        self._untried = 0  # sessions opened since the last that was let in
        self._usage = 0.0  # share of the daily limit
        self._cool_down = CoolDown("salesforce")
        #: Names of fields that the org does not show, by object; see `with_seen_columns`.
        self.hidden: dict[str, frozenset[str]] = {}
        #: Objects already warned of.
        self.absent: set[str] = set()

    def close(self) -> None:
        """Let go of threads and connections; requests under way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._transport.close()

    def start[T](self, function: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
        """Run a blocking function in one of the org's threads."""
        return start(self._threads, function, *args)

    def begin[T](self, function: Callable[..., T], *args: Any) -> Begun[T]:
        """Run a blocking function in one of the org's threads, beside the caller's."""
        return Begun(self._threads, function, *args)

    @property
    def let_in(self) -> bool:
        """Whether the newest session has been good for a request.

        Else one request must be alone: what refuses it would refuse many at once.
        """
        return self._login is not None and not self._untried

    @property
    def api(self) -> str:
        """The path of the API's version."""
        return f"/services/data/v{self.settings.api_version}"

    def request[T](
        self,
        method: str,
        path: str,
        *,
        read: Callable[[requests.Response], T],
        about: str = "",
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        stop: threading.Event | None = None,
        briefly: bool = False,
    ) -> T:
        """Request a path of the instance, and return what `read` makes of the success. Blocks.

        An answer that it cannot read is requested again, as is one of those that Salesforce gives
        now and then for no reason; `briefly` fewer times. `about` is the object that is read, for
        the words of a refusal.

        Raises:
            RateLimitedError: the org's daily requests are used up, or nearly (SF_API_USAGE_LIMIT).
            UnrenderableError: Salesforce failed at it in every attempt.
            ETLError: as `refusal_of`, `HttpClient.request`, `log_in`.
        """
        what = f"salesforce: {method} {path.partition('?')[0]}" + (about and f" for {about}")

        def take(response: requests.Response) -> T | _Refused:
            self._note_usage(response)
            if response.ok:
                return read(response)
            refusal = refusal_of(response, what, self.settings.credentials)
            if isinstance(refusal, SourceUnavailableError) and not isinstance(refusal, _ONCE):
                raise refusal
            return _Refused(response.status_code, refusal)

        call = {"params": params, "json": json, "headers": headers, "stop": stop}
        http = self._brief if briefly else self._http
        refusals = 0
        while True:
            self._wait_for_opening()
            url = f"{self._session().instance}{path}"
            answer: T | _Refused = http.request(method, url, accept=_ANSWERED, read=take, **call)
            if not isinstance(answer, _Refused):
                self._untried = 0
                return answer
            if answer.status != codes.unauthorized:
                break
            refusals += 1
            none_is_good = self._untried >= _MOST_SESSIONS
            if refusals >= (_MOST_SESSIONS if none_is_good else _MOST_REFUSALS):
                if none_is_good:  # whoever asks beside this one need not find it out again
                    self._refuse_logins(answer.error)
                break
        if isinstance(answer.error, RateLimitedError) and answer.error.delay:
            self._cool_down.begin(answer.error.delay, str(answer.error))
        raise answer.error

    def _session(self) -> Login:
        with self._guard:
            return self._login or self._open()

    def _renew(self) -> None:
        with self._guard:
            self._open()
        log.info("salesforce_session_renewed")

    def _open(self) -> Login:
        if self._refused is not None and time.monotonic() < self._refused[0]:
            raise CredentialsError(self._refused[1])
        try:
            self._login = log_in(self.settings)
        except CredentialsError as error:
            self._refuse_logins(error)
            raise
        self._untried += 1
        return self._login

    def _refuse_logins(self, error: ETLError) -> None:
        self._refused = (time.monotonic() + _REFUSED_SECONDS, str(error))

    def _sign(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._login is not None:
            request.headers["Authorization"] = f"Bearer {self._login.session_id}"
        return request

    def _wait_for_opening(self) -> None:
        remaining, reason = self._cool_down.remaining()
        if remaining > timedelta(0):
            raise RateLimitedError(reason, delay=remaining)

    def _note_usage(self, response: requests.Response) -> None:
        from simple_salesforce.api import Salesforce

        usage = Salesforce.parse_api_usage(response.headers.get("Sforce-Limit-Info", ""))
        shares = [(limit.used / limit.total, limit) for limit in usage.values() if limit.total]
        if not shares:
            return
        share, most = max(shares, key=lambda item: item[0])
        with self._guard:
            before, self._usage = self._usage, share
        if share // _REPORTED_STEP != before // _REPORTED_STEP:
            log.info("salesforce_api_usage", used=most.used, limit=most.total)
        if share >= self.settings.api_usage_limit:
            self._cool_down.begin(
                DAILY_LIMIT_PAUSE,
                f"salesforce: {most.used} of the org's {most.total} API requests a day are used, "
                f"and SF_API_USAGE_LIMIT={self.settings.api_usage_limit:g} leaves the rest to "
                "others: wait, raise it, or run the source less often",
            )


open_org = Shared(SalesforceOrg)
close_orgs = open_org.close_all
