"""The source `temporal`: listing and counting the executions a Temporal server has on record."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from urllib.parse import quote
from weakref import WeakKeyDictionary

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflow.v1 import WorkflowExecutionInfo
from temporalio.api.workflowservice.v1 import (
    CountWorkflowExecutionsRequest,
    CountWorkflowExecutionsResponse,
    DescribeNamespaceRequest,
    DescribeNamespaceResponse,
    DescribeWorkflowExecutionRequest,
    DescribeWorkflowExecutionResponse,
    ListWorkflowExecutionsRequest,
    ListWorkflowExecutionsResponse,
)
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode, WorkflowService

from temporaletl.accounts import AccountView, account_view
from temporaletl.bound_connection import connection_in_use
from temporaletl.budget import RateBudget
from temporaletl.errors import (
    ConfigurationError,
    CredentialsError,
    ETLError,
    RateLimitedError,
    RetryableError,
    SourceProtocolError,
    SourceUnavailableError,
    TemporalUnavailableError,
)
from temporaletl.external.rpc import counted_call
from temporaletl.external.temporal_settings import SourceTemporalSettings, source_settings
from temporaletl.messages import Window
from temporaletl.strategies import rate_budget
from temporaletl.temporal.connect import UnknownNamespaceError, open_client
from temporaletl.temporal.endpoint import Endpoint
from temporaletl.troubles import one_request

_CALL_TIMEOUT = timedelta(seconds=30)
_THREADS = 2
#: Seconds before a call is tried again: limits are of so many calls a second, outages mostly short.
_DELAYS = (1.0, 2.0, 4.0)

RUNNING = "ExecutionStatus = 'Running'"


def closed_in(window: Window) -> str:
    """The list filter for executions that closed in the window, edges exact to a microsecond."""
    bounds = []
    if window.start is not None:
        bounds.append(f"CloseTime >= '{_as_text(window.start)}'")
    # SQL visibility stores give running executions a close time in the year 9999.
    bounds.append(
        "ExecutionStatus != 'Running'"
        if window.end is None
        else f"CloseTime < '{_as_text(window.end)}'"
    )
    return " AND ".join(bounds)


def _as_text(timestamp: datetime) -> str:
    return timestamp.isoformat(timespec="microseconds").replace("+00:00", "Z")


#: Those that can stand in a query as they are: the server makes them so.
_PLAIN_ID = re.compile(r"[A-Za-z0-9-]+")


def with_run_ids(run_ids: Iterable[str]) -> str:
    """The list filter for executions with these run ids; not for ids that are none of a server."""
    quoted = (f"'{run_id}'" for run_id in run_ids if _PLAIN_ID.fullmatch(run_id))
    return f"RunId IN ({', '.join(quoted) or repr('none')})"


class StaleTokenError(SourceUnavailableError):
    """The server does not take a page token, or fails on it: only a new listing can help."""


class Visibility:
    """Lists and counts executions, never faster than its settings allow."""

    def __init__(self, settings: SourceTemporalSettings, server: Endpoint) -> None:
        self.settings = settings
        self.server = server
        #: For what takes long, and is no request.
        self.threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="temporal-source")
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._unreachable: SourceUnavailableError | None = None
        self._interval = 1 / settings.requests_per_second
        self._next_request_at = 0.0

    async def page(
        self, namespace: str, query: str, token: bytes
    ) -> ListWorkflowExecutionsResponse:
        """List one page, the first for an empty token; the last answers with an empty token.

        Raises:
            StaleTokenError: the server fails on the token (a SourceUnavailableError).
            ETLError: as `count`.
        """
        request = ListWorkflowExecutionsRequest(
            namespace=namespace,
            page_size=self.settings.page_size,
            next_page_token=token,
            query=query,
        )

        async def ask(service: WorkflowService) -> ListWorkflowExecutionsResponse:
            return await service.list_workflow_executions(
                request, metadata={"temporal-namespace": namespace}, timeout=_CALL_TIMEOUT
            )

        return await self._ask(ask, namespace, token)

    async def count(self, namespace: str, query: str) -> int:
        """Count executions; approximate, as the server's answer is.

        Raises:
            SourceUnavailableError: no answer, or a server error.
            RateLimitedError: the namespace's limit is used up.
            CredentialsError: the API key or certificate is refused, or may not list.
            UnknownNamespaceError: there is no such namespace (a ConfigurationError).
            SourceProtocolError: the server does not understand the request.
        """
        request = CountWorkflowExecutionsRequest(namespace=namespace, query=query)

        async def ask(service: WorkflowService) -> CountWorkflowExecutionsResponse:
            return await service.count_workflow_executions(
                request, metadata={"temporal-namespace": namespace}, timeout=_CALL_TIMEOUT
            )

        return (await self._ask(ask, namespace)).count

    async def describe(
        self, namespace: str, workflow_id: str, run_id: str
    ) -> WorkflowExecutionInfo | None:
        """Return one execution as it is now; None where the server has it no more.

        Raises: as `count`.
        """
        request = DescribeWorkflowExecutionRequest(
            namespace=namespace,
            execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
        )

        async def ask(service: WorkflowService) -> DescribeWorkflowExecutionResponse | None:
            try:
                return await service.describe_workflow_execution(
                    request, metadata={"temporal-namespace": namespace}, timeout=_CALL_TIMEOUT
                )
            except RPCError as error:
                if error.status == RPCStatusCode.NOT_FOUND and not _lacks_namespace(error):
                    return None
                raise

        answer = await self._ask(ask, namespace)
        return None if answer is None else answer.workflow_execution_info

    async def namespace_id(self, namespace: str) -> str:
        """Return the id of a namespace, which no other one ever has, not even of that name.

        Raises: as `count`.
        """
        request = DescribeNamespaceRequest(namespace=namespace)

        async def ask(service: WorkflowService) -> DescribeNamespaceResponse:
            return await service.describe_namespace(
                request, metadata={"temporal-namespace": namespace}, timeout=_CALL_TIMEOUT
            )

        return (await self._ask(ask, namespace)).namespace_info.id

    async def _ask[T](
        self, call: Callable[[WorkflowService], Awaitable[T]], namespace: str, token: bytes = b""
    ) -> T:
        # Others use up the namespace's limit, too, and a plan of many windows starts over when
        # it fails: a few refusals are sat out here.
        delays = iter(_DELAYS)
        with one_request() as failed:
            while True:
                try:
                    client = await self._acquire()
                    with counted_call():
                        return await call(client.workflow_service)
                except RPCError as error:
                    failure = self._failure(error, namespace, token)
                except SourceUnavailableError as error:
                    failure = error
                passing = isinstance(failure, RetryableError)
                if not passing or isinstance(failure, StaleTokenError):
                    raise failure from None
                if (delay := next(delays, None)) is None:
                    raise failure from None
                failed(failure)
                now = asyncio.get_running_loop().time()
                self._next_request_at = max(self._next_request_at, now + delay)

    async def _acquire(self) -> Client:
        """Acquire the client for one request, within the rate limit; connect before the first."""
        now = asyncio.get_running_loop().time()
        request_at = max(now, self._next_request_at)
        self._next_request_at = request_at + self._interval
        await asyncio.sleep(request_at - now)
        last = self._unreachable
        async with self._connecting:
            if self._client is None:
                if self._unreachable is not None and self._unreachable is not last:
                    # Whoever held the lock found out for all that waited for it.
                    raise SourceUnavailableError(str(self._unreachable))
                try:
                    self._client = await open_client(self.server, check_namespace=False)
                except TemporalUnavailableError as error:
                    # For a source this passes; for the platform's own server it does not.
                    self._unreachable = SourceUnavailableError(str(error))
                    raise self._unreachable from None
        return self._client

    def _failure(self, error: RPCError, namespace: str, token: bytes = b"") -> ETLError:
        server = self.server
        reason = error.status.name.replace("_", " ").lower()
        kind: type[ETLError] = SourceUnavailableError
        text = reason
        match error.status:
            case status if token and status in _TOKEN_FAILURES:
                kind, text = StaleTokenError, f"the page token is not taken ({reason})"
            case RPCStatusCode.RESOURCE_EXHAUSTED:
                kind, text = RateLimitedError, "its rate limit is reached"
            case RPCStatusCode.PERMISSION_DENIED | RPCStatusCode.UNAUTHENTICATED:
                kind = CredentialsError
                text = (
                    f"access refused; check {server.prefix}API_KEY or {server.prefix}TLS_CLIENT_*, "
                    f"and that they may list workflows there"
                )
            case RPCStatusCode.NOT_FOUND:
                kind = UnknownNamespaceError
                text = "there is no such namespace; correct SOURCE_TEMPORAL_NAMESPACES"
            case RPCStatusCode.OUT_OF_RANGE:
                kind = ConfigurationError
                text = "a page is too large to receive; lower SOURCE_TEMPORAL_PAGE_SIZE"
            case RPCStatusCode.INVALID_ARGUMENT | RPCStatusCode.UNIMPLEMENTED:
                kind, text = SourceProtocolError, f"{reason}: {error.message}"
            case _:
                pass
        return kind(f"Temporal at {server.address}, namespace {namespace!r}: {text}")


def _lacks_namespace(error: RPCError) -> bool:
    details = error.grpc_status.details
    return any(detail.type_url.endswith(".NamespaceNotFoundFailure") for detail in details)


#: SQL visibility stores answer a token they cannot read as a fault of their own.
_TOKEN_FAILURES = (RPCStatusCode.INVALID_ARGUMENT, RPCStatusCode.UNKNOWN, RPCStatusCode.INTERNAL)

#: By connection.
_opened: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Visibility]] = WeakKeyDictionary()


def visibility() -> Visibility:
    """The visibility store of the source's bound connection, one for each event loop.

    Raises:
        ConfigurationError: as `source_settings`.
    """
    loop = asyncio.get_running_loop()
    settings, server = source_settings()
    known, name = _opened.setdefault(loop, {}), connection_in_use()
    opened = known.get(name)
    if opened is None or (opened.settings, opened.server) != (settings, server):
        opened = known[name] = Visibility(settings, server)
    return opened


@rate_budget("temporal")
def temporal_budget() -> RateBudget:
    """No limit; its segments have a queue, and so slots, of their own."""
    return RateBudget()


@account_view("temporal")
def temporal_account() -> AccountView:
    """The namespaces that may be described; a server does not report the account.

    Raises:
        ConfigurationError: as `source_settings`; or there is no such namespace.
        CredentialsError: the API key or certificate is refused.
        SourceUnavailableError: no answer.
    """
    settings, server = source_settings()

    async def ask() -> dict[str, str]:
        store = Visibility(settings, server)
        return {name: await store.namespace_id(name) for name in settings.namespaces}

    # In a thread of its own, where no loop runs.
    found = asyncio.run(ask())
    # A namespace keeps its id in whichever cluster it is, and no other one ever has it.
    ids = ", ".join(f"namespace:{quote(name)} {found[name]}" for name in sorted(found))
    return AccountView(server.address, containers=frozenset(found.values()), site=ids)
