"""Connections to the warehouse, and the translation of driver errors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic
from typing import Any, Self

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout

from temporaletl.errors import (
    ConfigurationError,
    ETLError,
    WarehouseClosedError,
    WarehouseCredentialsError,
    WarehouseOverloadedError,
    WarehouseUnavailableError,
)
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.telemetry.metrics import warehouse_connections, warehouse_errors
from temporaletl.temporal.payload_keys import payload_keys
from temporaletl.warehouse.sessions import OPTIONAL, Session, SessionLimits, beginning

Connection = Session

#: Its threads may be connecting to a server that does not answer; they keep no process alive.
_CLOSED_WITHIN = timedelta(seconds=0.3)

# Class 28: authorisation; 3D000, 3F000: no such database, schema; 42501: no privilege.
_CREDENTIALS = ("28", "42501")
_CONFIGURATION = ("3D000", "3F000")
# 08: connection; 53: resources; 57: intervention (shutdown, cancel); 40: rollback, deadlock;
# 55: lock not available; 58: system error; 25006: a standby that was not promoted yet; 25P03,
# 25P04: the session was silent, or the transaction open, for too long.
# One statement was too much: the next attempt's may be, too.
_OVERLOADED = ("57014", "53200")
_TRANSIENT = ("08", "53", "57", "40", "55", "58", "25006", "25P03", "25P04")
_HINDRANCES = {
    "53100": "has no room on its disk",
    "25006": "takes no writes here, as it is a streaming replica or its user may only read, and "
    "what writes needs the primary (WPE_DB_HOST or DATABASE_URL)",
}
# Of these, what other sessions cause, and the next attempt mostly gets by.
_CONTENDED = ("40", "55")
# A text or JSON with U+0000; the driver refuses a text by itself, without an SQLSTATE.
_UNSTORABLE = ("22021", "22P05")
_NUL = "NUL (0x00)"
# 54: the request goes beyond the server's limits, and will the next time.
_TOO_MUCH = "54"
# A connection that is refused has no SQLSTATE, only the server's words.
_REFUSED = re.compile(
    r"password authentication failed|no password supplied|no pg_hba.conf entry"
    r'|role ".*" (does not exist|is not permitted)|permission denied for database'
)
_ABSENT = re.compile(r'database ".*" does not exist')


class UnstorableTextError(ConfigurationError):
    """A text has U+0000, which PostgreSQL holds nowhere: nothing is called so."""


def describe(error: psycopg.Error) -> ETLError | None:
    """The platform's error for a driver's, None where it is a fault of our own SQL."""
    state = error.sqlstate or ""
    message = error.diag.message_primary or str(error) or type(error).__name__
    message = " ".join(message.split())
    if (refusal := _refusal(state, message)) is not None:
        return refusal
    if state in _OVERLOADED:
        return WarehouseOverloadedError(
            f"the warehouse gave up a statement: {message} (WPE_DB_STATEMENT_TIMEOUT_SECONDS is "
            "how long one may take)"
        )
    broken = isinstance(error, psycopg.OperationalError | PoolTimeout)
    if state.startswith(_TRANSIENT) or (broken and not state.startswith(_TOO_MUCH)):
        what = _HINDRANCES.get(state, "did not answer")
        return WarehouseUnavailableError(f"the warehouse {what}: {message}")
    if isinstance(error, psycopg.InterfaceError):
        return WarehouseUnavailableError(f"the connection to the warehouse broke: {message}")
    return None


def _refusal(state: str, message: str) -> ETLError | None:
    if state.startswith(_CREDENTIALS) or (not state and _REFUSED.search(message)):
        return WarehouseCredentialsError(f"the warehouse refused: {message}")
    if state in _UNSTORABLE or (not state and _NUL in message):
        return UnstorableTextError("a text has U+0000, which nothing is called: leave it out")
    if state in _CONFIGURATION or (not state and _ABSENT.search(message)):
        return ConfigurationError(f"the warehouse refused: {message}")
    return None


def _kind_of(error: psycopg.Error, known: ETLError) -> str:
    """The kind of an error, for metrics: see `temporaletl.telemetry.metrics.WAREHOUSE_ERRORS`."""
    if isinstance(known, WarehouseOverloadedError):
        return "overloaded"
    if isinstance(known, WarehouseUnavailableError):
        return "contended" if (error.sqlstate or "").startswith(_CONTENDED) else "unavailable"
    return "refused"


@contextmanager
def translated() -> Iterator[None]:
    """Raise driver errors as the platform's classes; leave faults of our own SQL as they are."""
    try:
        yield
    except PoolClosed:
        raise WarehouseClosedError(
            "the warehouse is used, but this program has closed it, or never opened it: keep it "
            "open (`with Warehouse(…)`) until all that uses it has ended"
        ) from None
    except psycopg.Error as error:
        known = describe(error)
        if known is None:
            raise
        warehouse_errors.add(1, kind=_kind_of(error, known))
        raise known from error


def limits_of(settings: WarehouseSettings) -> SessionLimits:
    """Timeouts of a warehouse's sessions, from its settings."""
    return SessionLimits(
        lock=timedelta(seconds=settings.lock_timeout_seconds),
        statement=timedelta(seconds=settings.statement_timeout_seconds),
        idle=timedelta(seconds=settings.idle_transaction_timeout_seconds),
        network=timedelta(seconds=settings.network_timeout_seconds),
    )


class Warehouse:
    """A pool of sessions, each with the schema first on its search path, and UTC as its zone.

    Safe to share between threads, and behind a pooler that gives each transaction another server
    process. `connection()` opens a transaction that commits on success and rolls back on any
    exception; a connection that broke is replaced. A password that is in a file is read for each
    new session: it may be replaced meanwhile.
    """

    def __init__(self, settings: WarehouseSettings, *, max_connections: int = 8) -> None:
        self.schema = settings.schema_name
        self.limits = limits_of(settings)
        self.omitted_indexes = settings.omitted_indexes
        self.soft_delete = settings.soft_delete
        self.months_from_rows = settings.months_from_rows
        self.keep_months = settings.months_kept
        self.payload_keys = payload_keys()
        self._settings = settings
        self._conninfo()  # raises what a person must change
        self._messages: dict[tuple[bool, bool], bytes] = {}
        self._unsupported: frozenset[str] | None = None
        self._pool = ConnectionPool(
            self._conninfo,
            connection_class=Session,
            # Transactions are begun by `Session.start`, in one message with all they need.
            kwargs={"autocommit": True},
            configure=self._configure,
            min_size=0,
            max_size=max_connections,
            # Ever longer delays would outlast the outage: the next request begins anew.
            reconnect_timeout=self.limits.network.total_seconds() * 4 / 5,
            open=False,
            name="warehouse",
        )

    def _conninfo(self) -> str:
        given = conninfo_to_dict(self._settings.renewed().conninfo().get_secret_value())
        ours = self.limits.of_client()
        # What a URL says of keepalives stands; the name is how our sessions know each other.
        parts: dict[str, Any] = {**ours, **given, "application_name": ours["application_name"]}
        return make_conninfo(**parts)

    def _configure(self, connection: Session) -> None:
        # A plan made while a table was small must not serve when it has grown: a lookup of
        # 20,000 keys that takes 50 ms then took ten seconds. And a pooler has other plans.
        connection.prepare_threshold = None
        connection.limits = self.limits
        connection.payload_keys = self.payload_keys
        if self._unsupported is None:
            values = self.limits.of_server(unlimited=False)
            self._unsupported = frozenset(
                name for name in OPTIONAL if not _takes(connection, name, str(values[name]))
            )

    def open(self) -> Self:
        self._pool.open()
        return self

    def close(self) -> None:
        """Close the pool: nobody waits any more, also for a server that does not answer."""
        self._pool.close(timeout=_CLOSED_WITHIN.total_seconds())

    def measure(self) -> None:
        """Bring the metrics of the pool up to date."""
        found = self._pool.get_stats()
        idle = found.get("pool_available", 0)
        warehouse_connections.set(found.get("pool_size", 0) - idle, state="used")
        warehouse_connections.set(idle, state="idle")
        warehouse_connections.set(found.get("requests_waiting", 0), state="waiting")

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def connection(
        self,
        *,
        timeout: timedelta | None = None,
        lease: timedelta | None = None,
        snapshot: bool = False,
        unlimited: bool = False,
    ) -> Iterator[Connection]:
        """Lend a connection inside one transaction, READ COMMITTED unless `snapshot`.

        `lease`: see `Session.leased`, for the whole transaction. `unlimited` lets statements take
        as long as they do.

        Raises:
            WarehouseUnavailableError: none could be had within `timeout` (the limit of the
                network unless it is given), it broke off, or a lock was waited for in vain;
                says whose.
            CredentialsError: the user or its privileges were refused.
            ConfigurationError: no such database.
            UnstorableTextError: a text that was sent has U+0000.
            WarehouseClosedError: it is not open.
        """
        with translated():
            session = self._begin(
                timeout or self.limits.network, snapshot=snapshot, unlimited=unlimited
            )
            session.lease = lease
            try:
                with session:
                    yield session
            except errors.LockNotAvailable as error:
                message = f"a lock was waited for in vain: {error.diag.message_primary}"
                whose = f"; it is held by {session.obstacle}" if session.obstacle else ""
                raise WarehouseUnavailableError(f"{message}{whose}") from error
            finally:
                self._pool.putconn(session)

    @contextmanager
    def apart(self) -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """Open a session outside of transactions, and without a search path.

        For statements that allow no transaction, such as CREATE INDEX CONCURRENTLY.

        Raises: as `connection`, at once.
        """
        with (
            translated(),
            psycopg.connect(self._conninfo(), autocommit=True) as session,
        ):
            yield session

    def _begin(self, timeout: timedelta, *, snapshot: bool, unlimited: bool) -> Session:
        deadline = monotonic() + timeout.total_seconds()
        while True:
            try:
                session = self._pool.getconn(max(0.0, deadline - monotonic()))
            except PoolTimeout:
                # Which does not say why: a refusal must not be taken for an outage.
                self.check()
                raise
            try:
                session.start(self._message(snapshot, unlimited), unlimited=unlimited)
            except BaseException as error:
                self._pool.putconn(session)
                # One that broke while it was idle is replaced, and nothing is lost.
                broke = isinstance(error, psycopg.OperationalError) and session.closed
                if not broke or monotonic() >= deadline:
                    raise
            else:
                return session

    def _message(self, snapshot: bool, unlimited: bool) -> bytes:  # noqa: FBT001
        found = self._messages.get((snapshot, unlimited))
        if found is None:
            found = beginning(
                self.schema,
                self.limits.of_server(unlimited=unlimited),
                snapshot=snapshot,
                unsupported=self._unsupported or frozenset(),
            )
            self._messages[snapshot, unlimited] = found
        return found

    def check(self) -> None:
        """Connect once, without the pool's retries.

        Raises:
            ConfigurationError: the database cannot hold all texts.
            ETLError: as `connection`, at once.
        """
        with translated(), Session.connect(self._conninfo()) as connection:
            connection.limits = self.limits
            connection.execute("SELECT 1")
            encoding = connection.info.parameter_status("server_encoding")
            if encoding != "UTF8":
                raise ConfigurationError(
                    f"the database {connection.info.dbname} has the encoding {encoding}, and the "
                    "warehouse needs UTF8: create one WITH TEMPLATE template0 ENCODING 'UTF8'"
                )


def _takes(connection: Session, name: str, value: str) -> bool:
    try:
        connection.execute("SELECT set_config(%s, %s, true)", [name, value])
    except (errors.UndefinedObject, errors.InvalidParameterValue):
        return False
    return True
