"""Jira, Cloud and Data Center: one site per process, and its JQL queries.

The `jira` library makes the session and its authentication. Paging, retries and decoding are
ours: the library's own retries cut `Retry-After` short, and its lists stop at the first page.
"""

import asyncio
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Unpack, overload

import msgspec
import requests

from temporaletl.errors import ConfigurationError
from temporaletl.external.answers import (
    GarbledAnswerError,
    MisfitAnswerError,
    decode,
    page_title,
    reading,
)
from temporaletl.external.error_bodies import message_of
from temporaletl.external.exchange import keep_connections
from temporaletl.external.http import HttpClient, RequestOptions
from temporaletl.external.jira.login import LoginGuard
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.external.shared import Shared
from temporaletl.external.threads import Begun, start, submit
from temporaletl.secrets import remember_login

Order = Literal["created", "updated"]

#: Beyond it a query is posted: servers and proxies refuse long request lines.
_LONGEST_JQL_IN_URL = 1500
_BAD_REQUEST = frozenset({400})


def as_ms(timestamp: datetime) -> int:
    """Milliseconds since 1970 UTC, rounded down."""
    return int(timestamp.timestamp() * 1000 // 1)


@dataclass(frozen=True, slots=True)
class IssueRange:
    """The issues whose `order` time lies in [from_ms, to_ms), and that every filter lets through.

    Times are epoch milliseconds, also in the query's text: dates written out have minutes for
    precision there, and are read in the time zone of whoever's token it is.
    """

    order: Order = "created"
    from_ms: int | None = None
    to_ms: int | None = None
    updated_from_ms: int | None = None
    filters: tuple[str, ...] = ()

    def jql(self, *, ordered: bool = False) -> str:
        """Return the query's text; `ordered` for reading, oldest first, keys breaking ties."""
        clauses = [f"({text})" for text in self.filters]
        if self.updated_from_ms is not None:
            clauses.append(f"updated >= {self.updated_from_ms}")
        if self.from_ms is not None:
            clauses.append(f"{self.order} >= {self.from_ms}")
        if self.to_ms is not None:
            clauses.append(f"{self.order} < {self.to_ms}")
        # Cloud refuses a query without any restriction; imported issues may be older than 1970.
        where = " AND ".join(clauses or [f"{self.order} is not EMPTY"])
        return f"{where} ORDER BY {self.order} ASC, key ASC" if ordered else where


class _ServerInfo(msgspec.Struct, rename="camel"):
    deployment_type: str | None = None  # servers before 7.0 do not say
    version: str | None = None


class _Count(msgspec.Struct):
    count: int


class _Total(msgspec.Struct):
    total: int


class _Ids(msgspec.Struct, rename="camel"):
    issues: list[msgspec.Raw]
    next_page_token: str | None = None


class _Timed(msgspec.Struct):
    fields: dict[str, str | None]


class _Times(msgspec.Struct):
    issues: list[_Timed]


class JiraSite:
    """One Jira as one process sees it: its session, its threads, its kind.

    Safe to use from many threads. `concurrency` bounds the requests of all jobs together.
    """

    def __init__(self, settings: JiraSettings) -> None:
        import jira

        self.settings = settings
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="jira")
        timeouts = (settings.connect_timeout_seconds, settings.read_timeout_seconds)
        token = settings.personal_token
        if settings.email and settings.api_token:
            remember_login(settings.email, settings.api_token.get_secret_value())
        self._library = jira.JIRA(
            server=settings.url,
            basic_auth=(
                (settings.email, settings.api_token.get_secret_value())
                if settings.email and settings.api_token
                else None
            ),
            token_auth=token.get_secret_value() if token else None,
            get_server_info=False,
            max_retries=0,
            timeout=timeouts,
        )
        self._session: requests.Session = self._library._session  # noqa: SLF001 - it has no other
        keep_connections(self._session, settings.concurrency)
        #: The settings that say who we are, in words.
        self.credentials = "JIRA_PERSONAL_TOKEN" if token else "JIRA_EMAIL and JIRA_API_TOKEN"
        LoginGuard(self._session, credentials=self.credentials)
        self._http = HttpClient(
            self._session,
            source="jira",
            credentials=self.credentials,
            address="JIRA_URL",
            connect_timeout=timedelta(seconds=timeouts[0]),
            read_timeout=timedelta(seconds=timeouts[1]),
            # Tokens do not expire within a session, but the session's cookie does.
            renew=self._session.cookies.clear,
        )
        #: Where the pages of its list of people began when that was last read to its end.
        self.people_pages: tuple[int, ...] = (0,)
        self._guard = threading.Lock()
        self._cloud: bool | None = None

    def close(self) -> None:
        """Let go of threads and connections; requests under way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    def start[T](self, function: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
        """Run a blocking function in one of the site's threads."""
        return start(self._threads, function, *args)

    def submit[T](self, function: Callable[..., T], *args: Any) -> Future[T]:
        """As `start`, for callers that block: not from one of the site's threads."""
        return submit(self._threads, function, *args)

    def begin[T](self, function: Callable[..., T], *args: Any) -> Begun[T]:
        """Run a blocking function in one of the site's threads, beside the caller's."""
        return Begun(self._threads, function, *args)

    @property
    def cloud(self) -> bool:
        """Whether it is Jira Cloud; the site is requested once."""
        with self._guard:
            if self._cloud is None:
                url = f"{self.settings.url}/rest/api/2/serverInfo"
                self._cloud = self._http.request("GET", url, read=_is_cloud)
            return self._cloud

    @overload
    def request(
        self, method: str, path: str, **options: Unpack[RequestOptions]
    ) -> requests.Response: ...

    @overload
    def request[T](
        self,
        method: str,
        path: str,
        *,
        read: Callable[[requests.Response], T],
        **options: Unpack[RequestOptions],
    ) -> T: ...

    def request(
        self,
        method: str,
        path: str,
        *,
        read: Callable[[requests.Response], Any] | None = None,
        **options: Unpack[RequestOptions],
    ) -> Any:
        """Request a path below the REST API: version 3 on Cloud, 2 on Data Center.

        `read` gets the answers of `accept`ed statuses as well.

        Raises: as `HttpClient.request`; CredentialsError where Jira answers as to nobody.
        """
        url = f"{self.settings.url}/rest/api/{3 if self.cloud else 2}/{path}"

        def checked(answer: requests.Response) -> Any:
            if not answer.ok and page_title(answer.content):
                # An error that is not JSON comes from a proxy in front of Jira, not from Jira.
                raise GarbledAnswerError(
                    f"jira: {path} answered {answer.status_code} with a page of HTML in place of "
                    "Jira's own error; check JIRA_URL"
                )
            return answer if read is None else read(answer)

        return self._http.request(method, url, read=checked, **options)

    def request_beside[T](
        self,
        path: str,
        read: Callable[[requests.Response], T],
        accept: Collection[int],
        attempts: int,
    ) -> T:
        """Get a path of the site beside its REST API. Blocks; raises as `HttpClient.request`."""
        return self._http.request(
            "GET", f"{self.settings.url}/{path}", read=read, accept=accept, attempts=attempts
        )

    def search[T](
        self,
        query: Mapping[str, Any],
        *,
        read: Callable[[requests.Response], T],
        accept: Collection[int] = (),
        stop: threading.Event | None = None,
        attempts: int | None = None,
    ) -> T:
        """Search with the parameters of the kind of site it is.

        Raises: as `request`.
            ConfigurationError: Jira does not understand the query.
        """
        path = "search/jql" if self.cloud else "search"

        def understood(answer: requests.Response) -> T:
            if answer.status_code in _BAD_REQUEST and answer.status_code not in accept:
                raise ConfigurationError(_refused(query["jql"], answer))
            return read(answer)

        long = len(query["jql"]) > _LONGEST_JQL_IN_URL
        return self.request(
            "POST" if long else "GET",
            path,
            params=None if long else query,
            json=query if long else None,
            read=understood,
            accept=_BAD_REQUEST,
            stop=stop,
            attempts=attempts,
        )

    def count(self, issues: IssueRange) -> int:
        """Return how many issues there are: exactly on Data Center, about so many on Cloud.

        Raises: as `search`.
        """
        jql = issues.jql()
        if not self.cloud:
            query = {"jql": jql, "maxResults": 0, "fields": "id"}
            return self.search(query, read=reading(_Total, source="jira")).total

        def counted(answer: requests.Response) -> int:
            if answer.status_code in _BAD_REQUEST:
                raise ConfigurationError(_refused(jql, answer))
            return decode(_Count, answer, source="jira").count

        path = "search/approximate-count"
        return self.request("POST", path, json={"jql": jql}, read=counted, accept=_BAD_REQUEST)

    def ends(self, issues: IssueRange) -> tuple[int, int] | None:
        """Return the times of the first and the last issue, in milliseconds; None without issues.

        Blocks. Raises: as `search`, after one attempt.
        """
        newest = self.begin(self._outermost, issues, "DESC")
        try:
            first = self._outermost(issues, "ASC")
        except BaseException:
            newest.abandon()
            raise
        last = newest.result()
        return None if first is None or last is None else (first, last)

    def _outermost(self, issues: IssueRange, order: Literal["ASC", "DESC"]) -> int | None:
        query = {
            "jql": f"{issues.jql()} ORDER BY {issues.order} {order}",
            "maxResults": 1,
            "fields": [issues.order],
        }
        found = self.search(query, read=reading(_Times, source="jira"), attempts=1).issues
        text = found[0].fields.get(issues.order) if found else None
        try:
            return None if text is None else as_ms(datetime.fromisoformat(text))
        except (ValueError, OverflowError):
            raise MisfitAnswerError(f"jira: {text!r} is no time of an issue") from None

    def count_few(self, issues: IssueRange, most: int) -> int | None:
        """Return how many issues there are, exactly, by their ids; None for more than `most`.

        Of Cloud alone: Data Center's `count` is exact. Raises: as `search`, after one attempt.
        """
        query = {"jql": issues.jql(ordered=True), "maxResults": most, "fields": ["id"]}
        found = self.search(query, read=reading(_Ids, source="jira"), attempts=1)
        return None if found.next_page_token else len(found.issues)


def _is_cloud(answer: requests.Response) -> bool:
    info = decode(_ServerInfo, answer, source="jira")
    if info.deployment_type is None and info.version is None:
        raise MisfitAnswerError("jira: serverInfo tells neither a deployment type nor a version")
    return (info.deployment_type or "Server").lower() == "cloud"


def _refused(jql: str, answer: requests.Response) -> str:
    return (
        f"jira refuses the query {jql!r}: {message_of(answer)}; its filters come from JIRA_JQL "
        "and the parameter jql"
    )


_shared_site = Shared(JiraSite)
close_sites = _shared_site.close_all


def open_site(settings: JiraSettings) -> JiraSite:
    """Return the process's one site for these settings; sends no request yet.

    Raises:
        ConfigurationError: no address or no credentials are set.
    """
    if not settings.has_api:
        raise ConfigurationError(
            "jira: the site cannot be reached: set JIRA_URL, and JIRA_EMAIL with JIRA_API_TOKEN or "
            "JIRA_PERSONAL_TOKEN"
        )
    return _shared_site(settings)
