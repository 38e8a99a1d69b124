"""Sessions with PostgreSQL: timeouts of every kind, and detection of what blocks them.

Behind a pooler every transaction may have another server process: whatever a session needs is set
for each transaction, in the message that begins it. Nothing outlives the transaction.
"""

import os
import socket
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any, NoReturn, overload

import psycopg
from psycopg import sql
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import PoolClosed

from temporaletl.errors import WarehouseUnavailableError
from temporaletl.telemetry.logs import get_logger
from temporaletl.temporal.payload_keys import PayloadKeys
from temporaletl.warehouse.blockers import BACKEND, Backend, Finding, State, look_into

log = get_logger("temporaletl.warehouse")

#: How every session of the platform is named, so that one knows the other.
APPLICATION = "temporaletl"
_FIRST_LOOK_SECONDS = 2.0
_NEXT_LOOK_SECONDS = 5.0
#: Once its pool is closed, a session that brings nothing for so long is waited for no longer.
_CLOSED_AFTER_SECONDS = 0.5
#: Not every server has these; on one that has not, the others must do.
OPTIONAL = ("tcp_user_timeout", "client_connection_check_interval")
#: Behind a pooler that has no connection to spare, a look waits as well: for so many times the
#: network's limit it may, unless another one brings news meanwhile.
_QUEUED = 4
# Keepalives begin after two fifths of the time, and are then unanswered for the rest.
_PROBES = 3


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Timeouts of a session, its transactions and its statements.

    `idle` is for a client that has begun a transaction and says nothing more; `network` for an
    other side that acknowledges nothing.
    """

    lock: timedelta = timedelta(seconds=30)
    statement: timedelta = timedelta(minutes=10)
    idle: timedelta = timedelta(seconds=30)
    network: timedelta = timedelta(seconds=25)

    def of_client(self) -> dict[str, int | str]:
        """The timeouts as libpq's connection parameters."""
        first, next_ = self._keepalives()
        return {
            "application_name": f"{APPLICATION} {os.getpid()}@{socket.gethostname()}"[:63],
            "connect_timeout": 10,
            "keepalives_idle": first,
            "keepalives_interval": next_,
            "keepalives_count": _PROBES,
            "tcp_user_timeout": _milliseconds(self.network),
        }

    def of_server(self, *, unlimited: bool) -> dict[str, int]:
        """The timeouts as the server's settings; `unlimited` lifts that of statements."""
        first, next_ = self._keepalives()
        return {
            "lock_timeout": _milliseconds(self.lock),
            "statement_timeout": 0 if unlimited else _milliseconds(self.statement),
            "idle_in_transaction_session_timeout": _milliseconds(self.idle),
            "tcp_keepalives_idle": first,
            "tcp_keepalives_interval": next_,
            "tcp_keepalives_count": _PROBES,
            "tcp_user_timeout": _milliseconds(self.network),
            "client_connection_check_interval": _milliseconds(self.network / _PROBES),
        }

    def _keepalives(self) -> tuple[int, int]:
        seconds = self.network.total_seconds()
        return max(1, round(seconds * 2 / 5)), max(1, round(seconds / 5))


def _milliseconds(span: timedelta) -> int:
    return max(1, round(span / timedelta(milliseconds=1)))


def beginning(
    schema: str, settings: dict[str, int], *, snapshot: bool, unsupported: frozenset[str]
) -> bytes:
    """The one message that begins a transaction: its isolation, names, zone and limits."""
    isolation = "REPEATABLE READ" if snapshot else "READ COMMITTED"
    supported = {name: str(value) for name, value in settings.items() if name not in unsupported}
    path = sql.Identifier(schema).as_string(None)
    return (
        sql.SQL("BEGIN ISOLATION LEVEL {}; SELECT {}, {}")
        .format(
            sql.SQL(isolation),
            sql.SQL(BACKEND),
            local_settings({"search_path": path, "timezone": "UTC", **supported}),
        )
        .as_bytes(None)
    )


def local_settings(values: Mapping[str, str]) -> sql.Composed:
    """Expressions that set parameters until the transaction ends; SET is a statement for each."""
    return sql.SQL(", ").join(
        sql.SQL("pg_catalog.set_config({}, {}, true)").format(name, value)
        for name, value in values.items()
    )


@overload
def only_row(cursor: psycopg.Cursor[tuple[object, ...]]) -> tuple[Any, ...]: ...
@overload
def only_row(cursor: psycopg.Cursor[dict[str, Any]]) -> dict[str, Any]: ...
def only_row(cursor: psycopg.Cursor[Any]) -> Any:
    """The row of a statement that always has one, such as an aggregate.

    Raises:
        WarehouseUnavailableError: it came without.
    """
    row = cursor.fetchone()
    if row is None:
        raise WarehouseUnavailableError(
            f"the warehouse answered without the row that it owes: {cursor.statusmessage}"
        )
    return row


class Session(psycopg.Connection[tuple[object, ...]]):
    """A connection that investigates an answer that does not come.

    Once a statement has brought nothing for two seconds, another connection inspects what the
    server does for this one, and again every five seconds. What blocks it is logged, and is in
    `obstacle`; where the server has nothing more to say, or nothing was heard of it for longer than
    the network's limit, the connection is closed. `lease` lets it end a session that is in its
    way: see `leased`.
    """

    obstacle: str | None = None
    lease: timedelta | None = None
    #: The server's process, which a pooler does not show; None outside of a transaction.
    backend: Backend | None = None
    limits = SessionLimits()
    #: By which pipelines' results are encrypted.
    payload_keys = PayloadKeys()
    unlimited = False
    _look: Future[Finding] | None = None
    _lost = 0
    #: When the server was last heard of, by this connection or by a look.
    _heard = 0.0

    def start(self, message: bytes, *, unlimited: bool) -> None:
        """Begin a transaction; see `beginning`."""
        self.obstacle = self.lease = self.backend = None
        self.unlimited = unlimited
        cursor = self.execute(message)
        while cursor.nextset():
            pass
        row = only_row(cursor)
        self.backend = Backend(int(str(row[0])), str(row[1]))

    @contextmanager
    def leased(self, lease: timedelta) -> Iterator[None]:
        """Inside the block, end a session of the platform that holds up this one for too long.

        That is one whose transaction is a quarter older than `lease`, and whose client says
        nothing: it is frozen or cut off. Use it where whoever comes next has been sent because
        the one before had not given a sign of life for as long.
        """
        before, self.lease = self.lease, lease
        try:
            yield
        finally:
            self.lease = before

    def wait[R](self, gen: PQGen[R], *args: Any, **kwargs: Any) -> R:
        """As psycopg's; all that waits for the server passes here."""
        return super().wait(self._listen(gen), *args, **kwargs)

    def _listen[R](self, generator: PQGen[R]) -> PQGen[R]:
        try:
            wanted = next(generator)
        except StopIteration as end:
            result: R = end.value
            return result
        last_answer = self._heard = monotonic()
        next_look = last_answer + _FIRST_LOOK_SECONDS
        self._look, self._lost = None, 0
        while True:
            ready = yield wanted
            now = monotonic()
            if ready:
                last_answer = self._heard = now
                next_look, self._lost = now + _FIRST_LOOK_SECONDS, 0
            elif self._is_closing and now - last_answer > _CLOSED_AFTER_SECONDS:
                self.pgconn.finish()
                raise PoolClosed("the warehouse was closed while a statement was under way")
            elif self._look is not None:
                self._check_look(self._look, timedelta(seconds=now - last_answer))
            elif now >= next_look:
                self._look = self._start_look()
                next_look = now + _NEXT_LOOK_SECONDS
            try:
                wanted = generator.send(ready)
            except StopIteration as end:
                result = end.value
                return result

    def _start_look(self) -> Future[Finding]:
        answer: Future[Finding] = Future()
        info = self.info
        # Of several hosts, the one that this connection has.
        parts: dict[str, Any] = {**conninfo_to_dict(info.dsn)}
        parts.update(
            host=info.host,
            port=info.port,
            password=info.password,
            application_name=f"{APPLICATION} looks",
            connect_timeout=5,
        )
        if "hostaddr" in parts:
            parts["hostaddr"] = info.hostaddr
        conninfo = make_conninfo(**parts)
        backend, lease = self.backend, self.lease

        def look() -> None:
            answer.set_result(look_into(conninfo, backend, lease=lease))

        # Not here: behind a pooler it may wait for the very connection that waits.
        threading.Thread(
            target=copy_context().run, args=[look], name="warehouse-look", daemon=True
        ).start()
        return answer

    @property
    def _is_closing(self) -> bool:
        pool = getattr(self, "_pool", None)  # one that was not lent has none
        return pool is not None and bool(pool.closed)

    def _check_look(self, look: Future[Finding], silence: timedelta) -> None:
        unheard = timedelta(seconds=monotonic() - self._heard)
        if look.done():
            self._look = None
            self._check_finding(look.result(), silence, unheard)
        elif not self.unlimited and unheard > self.limits.network * _QUEUED:
            self._cut("unreachable", silence)

    def _check_finding(self, found: Finding, silence: timedelta, unheard: timedelta) -> None:
        if found.obstacle is not None:
            self.obstacle = found.obstacle
            log.warning(
                "lock_awaited",
                waits_for=found.obstacle,
                backend=self.backend and self.backend.pid,
                seconds=_seconds(silence),
            )
        # Once may be by chance: the answer was just about to come.
        self._lost = self._lost + 1 if found.state == "done" else 0
        if found.state != "unreachable":
            self._heard = monotonic()
        unreachable = found.state == "unreachable" and unheard > self.limits.network
        overdue = not self.unlimited and silence > self.limits.statement + self.limits.network
        if self._lost > 1 or unreachable or overdue:
            self._cut(found.state, silence)

    def _cut(self, server: State, silence: timedelta) -> NoReturn:
        log.warning(
            "session_lost",
            server=server,
            backend=self.backend and self.backend.pid,
            seconds=_seconds(silence),
        )
        self.pgconn.finish()
        raise psycopg.OperationalError(
            f"no answer for {_seconds(silence)} s, though the server "
            + {
                "done": "waits for us, or has ended the session",
                "unreachable": "cannot be reached either",
            }.get(server, "should have given up")
            + ": the connection was cut"
        )


def _seconds(span: timedelta) -> float:
    return round(span.total_seconds(), 1)
