"""Trino: one server per process, and queries whose rows are streamed.

The `trino` library speaks the protocol and binds parameters; it keeps Trino's own JSON for values
(`temporaletl.external.trino.values` reads them, so that one odd value costs its row, not the
query). Its requests go through `HttpClient`: retries, delays and refusals are the platform's.

A server since Trino 418 is needed, where parameters travel with their query.
"""

import asyncio
import contextlib
import re
import threading
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from temporaletl.budget import unlimited
from temporaletl.errors import (
    ConfigurationError,
    CredentialsError,
    ETLError,
    SourceProtocolError,
    SourceUnavailableError,
)
from temporaletl.external.exchange import keep_connections
from temporaletl.external.http import HttpClient
from temporaletl.external.shared import Shared
from temporaletl.external.threads import Begun, start
from temporaletl.external.trino.access import Bearer, TrinoSettings
from temporaletl.external.trino.transport import Relay, Session
from temporaletl.external.trino.values import Column
from temporaletl.secrets import redacted, remember_login

if TYPE_CHECKING:
    from trino.exceptions import TrinoQueryError

    from temporaletl.external.trino.connection import Connection

__all__ = ["Parameter", "Statement", "TrinoServer", "TrinoSettings", "close_servers", "open_trino"]

#: What a query may be given: bound by Trino, never a part of its text.
Parameter = str | int | float | bool | datetime | None

#: Where TRINO_QUERY_MINUTES says nothing: longer than any query that anybody waits for.
_LONGEST_QUERY = timedelta(days=1)
#: Errors that Trino blames on the user, though the next attempt may be spared them.
_PASSING = frozenset({"ABANDONED_QUERY", "USER_CANCELED", "TRANSACTION_CONFLICT"})
_LOCATION = re.compile(r"^line (\d+):(\d+): ")
_MESSAGE_CHARACTERS = 500


class Statement:
    """One query. Its rows are fetched one batch after the other, by one thread at a time.

    `name` says in errors whose query it is; its text begins behind `lines_before` lines of ours.
    `answered` is called at Trino's first answer, long before the query's end.
    """

    def __init__(
        self,
        server: "TrinoServer",
        sql: str,
        parameters: Sequence[Parameter] = (),
        *,
        name: str,
        lines_before: int = 0,
        answered: Callable[[], None] | None = None,
    ) -> None:
        self.name = name
        self._sql = sql
        self._parameters = list(parameters)
        self._lines_before = lines_before
        self._credentials = server.settings.credentials
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self._cursor = server.connect(self._stop, answered).cursor()
        self._columns: tuple[Column, ...] | None = None

    def columns(self) -> tuple[Column, ...]:
        """Return what the rows consist of; runs the query at the first call. Blocks.

        Raises: as `fetch`.
        """
        with self._guard, self._classed():
            return self._start()

    def fetch(self, count: int) -> list[list[Any]]:
        """Return the next rows, none at the end, with values as Trino's JSON has them. Blocks.

        A value that cannot be decoded is `Undecodable`.

        Raises:
            ConfigurationError: Trino does not understand the query, or the data break it.
            CredentialsError: Trino refuses us, or what the query wants to read.
            SourceUnavailableError: Trino went away, or has no resources for the query.
        """
        with self._guard, self._classed():
            self._start()
            rows: list[list[Any]] = self._cursor.fetchmany(count)
            return rows

    def stop(self) -> None:
        """Have a fetch under way end, with a SourceUnavailableError. Does not block."""
        self._stop.set()

    def close(self) -> None:
        """Have Trino drop a query that did not come to its end. Blocks, for a fetch under way."""
        self._stop.set()
        with self._guard, contextlib.suppress(Exception):
            self._cursor.close()

    def _start(self) -> tuple[Column, ...]:
        if self._columns is None:
            self._cursor.execute(self._sql, self._parameters)
            query = self._cursor._query  # noqa: SLF001 - in public, types are texts only
            self._columns = tuple(
                Column(column["name"], column["type"], column["typeSignature"])
                for column in query.columns or ()
            )
        return self._columns

    @contextmanager
    def _classed(self) -> Iterator[None]:
        """Raise what goes wrong in the platform's errors."""
        from trino import exceptions as refusals

        try:
            yield
        except ETLError:
            raise
        except refusals.TrinoQueryError as error:
            raise self._failure(error) from None
        except refusals.NotSupportedError as error:
            raise ConfigurationError(f"trino: {self.name}: {error}") from None
        except (refusals.Error, refusals.HttpError) as error:
            raise SourceUnavailableError(
                f"trino: {self.name}: the query broke off ({type(error).__name__})"
            ) from None
        except (ValueError, LookupError, TypeError) as error:
            raise SourceProtocolError(
                f"trino: {self.name}: the answer is not what Trino's protocol says "
                f"({type(error).__name__})"
            ) from None

    def _failure(self, error: "TrinoQueryError") -> ETLError:
        words = redacted(" ".join(_LOCATION.sub(self._located, error.message).split()))
        if len(words) > _MESSAGE_CHARACTERS:
            words = f"{words[:_MESSAGE_CHARACTERS]}…"
        message = f"trino: {self.name}: {words} ({error.error_name}, query {error.query_id})"
        if error.error_name == "PERMISSION_DENIED":
            return CredentialsError(f"{message}; check {self._credentials}")
        if error.error_type == "USER_ERROR" and error.error_name not in _PASSING:
            return ConfigurationError(message)
        return SourceUnavailableError(message)

    def _located(self, found: re.Match[str]) -> str:
        line = int(found[1]) - self._lines_before
        return f"line {line} of its SQL: " if line > 0 else ""


class TrinoServer:
    """One Trino as one process sees it: its connections, its threads, its token.

    Safe to use from many threads. `concurrency` bounds the requests of all queries together.
    """

    def __init__(self, settings: TrinoSettings) -> None:
        self.settings = settings
        self._threads = ThreadPoolExecutor(settings.concurrency, thread_name_prefix="trino")
        self._session = Session(str(settings.ca_file) if settings.ca_file else None)
        keep_connections(self._session, settings.concurrency)
        if settings.client_cert is not None:
            key = settings.client_key
            certificate = str(settings.client_cert)
            self._session.cert = (certificate, str(key)) if key else certificate
        bearer = None
        self._user = settings.user or "temporaletl"
        if settings.password is not None and settings.user:
            self._session.auth = (settings.user, settings.password.get_secret_value())
            remember_login(*self._session.auth)
        elif settings.uses_google:
            bearer = self._session.auth = Bearer(settings)
            self._user = settings.user or bearer.account["client_email"]
        host, port = settings.address
        secured = settings.scheme == "https" and (settings.client_cert or self._session.auth)
        self._secured = f"https://{host}:{port}" if secured else None
        self._http = HttpClient(
            self._session,
            source="trino",
            credentials=settings.credentials,
            address="TRINO_HOST",
            connect_timeout=timedelta(seconds=settings.connect_timeout_seconds),
            read_timeout=timedelta(seconds=settings.read_timeout_seconds),
            renew=bearer.renew if bearer else None,
        )

    def close(self) -> None:
        """Let go of threads and connections; requests under way are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    def connect(
        self, stop: threading.Event, answered: Callable[[], None] | None = None
    ) -> "Connection":
        """Make the library's connection for one query; no request is sent yet."""
        from temporaletl.external.trino.connection import Connection

        settings = self.settings
        host, port = settings.address
        limit = settings.query_minutes
        longest = _LONGEST_QUERY if limit is None else timedelta(minutes=limit)
        return Connection(
            host=host,
            port=port,
            user=self._user,
            source="temporaletl",
            catalog=settings.catalog,
            schema=settings.schema_name,
            http_scheme=settings.scheme,
            http_session=Relay(
                self._http, stop, secured=self._secured, longest=longest, answered=answered
            ),
            # Times without a zone are UTC: this is where Trino takes their zone from.
            timezone="UTC",
            legacy_primitive_types=True,
            legacy_prepared_statements=False,
            max_attempts=1,
            encoding=[],
            session_properties=(
                {} if limit is None else {"query_max_run_time": f"{limit * 60:.0f}s"}
            ),
        )

    def start[T](self, function: Callable[..., T], *args: Any) -> "asyncio.Future[T]":
        """Run a blocking function in one of the server's threads."""
        # A source's rate budget does not cover queries to Trino.
        return start(self._threads, _unbudgeted, function, *args)

    def begin[T](self, function: Callable[..., T], *args: Any) -> Begun[T]:
        """Run a blocking function in one of the server's threads, beside the caller's."""
        return Begun(self._threads, _unbudgeted, function, *args)

    async def columns(self, statement: Statement) -> tuple[Column, ...]:
        """Return what a query's rows consist of; raises as `Statement.fetch`."""
        return await self.start(statement.columns)

    async def batches(self, statement: Statement, count: int) -> AsyncGenerator[list[list[Any]]]:
        """Yield a query's rows, `count` at a time; abandoned, the query is cancelled.

        Raises: as `Statement.fetch`.
        """
        try:
            while rows := await self.start(statement.fetch, count):
                yield rows
        finally:
            self.abandon(statement)

    def abandon(self, statement: Statement) -> None:
        """Have a query dropped, without waiting for it."""
        # At once: fetches that never end would hold all threads.
        statement.stop()
        # Without threads the process ends, and Trino drops the query by itself.
        with contextlib.suppress(RuntimeError):
            self._threads.submit(statement.close)

    def ask(
        self,
        sql: str,
        parameters: Sequence[Parameter] = (),
        *,
        name: str,
        answered: Callable[[], None] | None = None,
    ) -> list[list[Any]]:
        """Return all rows of a small result. Blocks; raises as `Statement.fetch`."""
        rows: list[list[Any]] = []
        asked = Statement(self, sql, parameters, name=name, answered=answered)
        with contextlib.closing(asked) as statement:
            while found := statement.fetch(self.settings.page_size):
                rows += found
        return rows


def _unbudgeted[T](function: Callable[..., T], *args: Any) -> T:
    with unlimited():
        return function(*args)


open_trino = Shared(TrinoServer)
close_servers = open_trino.close_all
