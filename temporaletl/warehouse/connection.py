"""Connections to the warehouse, and its driver errors in the platform's own classes."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Self

import psycopg
from psycopg import sql
from psycopg_pool import ConnectionPool, PoolTimeout

from temporaletl.errors import (
    ConfigurationError,
    CredentialsError,
    ETLError,
    WarehouseUnavailableError,
)
from temporaletl.settings import WarehouseSettings

Connection = psycopg.Connection[tuple[object, ...]]

# Class 28: authorisation; 3D000, 3F000: no such database, schema; 42501: no privilege.
_CREDENTIALS = ("28", "42501")
_CONFIGURATION = ("3D000", "3F000")
# 08: connection; 53: resources; 57: intervention (shutdown, cancel); 40: rollback, deadlock;
# 55: lock not available; 58: system error; 25006: a standby that was not promoted yet.
_TRANSIENT = ("08", "53", "57", "40", "55", "58", "25006")
# A connection that is refused has no SQLSTATE, only the server's words.
_REFUSED = re.compile(
    r"password authentication failed|no password supplied|no pg_hba.conf entry"
    r'|role ".*" (does not exist|is not permitted)|permission denied for database'
)
_ABSENT = re.compile(r'database ".*" does not exist')


def describe(error: psycopg.Error) -> ETLError | None:
    """The platform's error for a driver's, None where it is a fault of our own SQL."""
    state = error.sqlstate or ""
    message = error.diag.message_primary or str(error) or type(error).__name__
    message = " ".join(message.split())
    if state.startswith(_CREDENTIALS) or (not state and _REFUSED.search(message)):
        return CredentialsError(f"the warehouse refused: {message}")
    if state in _CONFIGURATION or (not state and _ABSENT.search(message)):
        return ConfigurationError(f"the warehouse refused: {message}")
    if state.startswith(_TRANSIENT) or isinstance(error, psycopg.OperationalError | PoolTimeout):
        return WarehouseUnavailableError(f"the warehouse did not answer: {message}")
    if isinstance(error, psycopg.InterfaceError):
        return WarehouseUnavailableError(f"the connection to the warehouse broke: {message}")
    return None


@contextmanager
def translated() -> Iterator[None]:
    """Raise driver errors as the platform's classes; leave faults of our own SQL as they are."""
    try:
        yield
    except psycopg.Error as error:
        known = describe(error)
        if known is None:
            raise
        raise known from error


class Warehouse:
    """A pool of connections, each with the schema first on its search path.

    Safe to share between threads. `connection()` opens a transaction that commits on success
    and rolls back on any exception; a connection that broke is replaced.
    """

    def __init__(self, settings: WarehouseSettings, *, max_connections: int = 8) -> None:
        self.schema = settings.schema_name
        self._conninfo = settings.conninfo()
        self._pool = ConnectionPool(
            self._conninfo.get_secret_value(),
            connection_class=psycopg.Connection,
            kwargs={"application_name": "temporaletl", "connect_timeout": 10},
            configure=self._configure,
            check=ConnectionPool.check_connection,
            min_size=0,
            max_size=max_connections,
            open=False,
            name="warehouse",
        )

    def _configure(self, connection: Connection) -> None:
        # A plan made while a table was small must not serve when it has grown: a look-up of
        # 20,000 keys that takes 50 ms then took ten seconds.
        connection.prepare_threshold = None
        connection.execute("SELECT set_config('search_path', %s, false)", [_quoted(self.schema)])
        connection.execute("SET timezone TO 'UTC'")
        connection.commit()

    def open(self) -> Self:
        self._pool.open()
        return self

    def close(self) -> None:
        self._pool.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def connection(self, *, timeout: timedelta = timedelta(seconds=30)) -> Iterator[Connection]:
        """Lend a connection inside one transaction.

        Raises:
            WarehouseUnavailableError: none could be had within `timeout`, or it broke off.
            CredentialsError: the user or its privileges were refused.
            ConfigurationError: no such database.
        """
        with translated(), self._pool.connection(timeout=timeout.total_seconds()) as connection:
            yield connection

    def check(self) -> None:
        """Connect once, without the pool's retries.

        Raises: as `connection`, at once.
        """
        with (
            translated(),
            psycopg.connect(self._conninfo.get_secret_value(), connect_timeout=10) as connection,
        ):
            connection.execute("SELECT 1")


def _quoted(schema: str) -> str:
    return sql.Identifier(schema).as_string(None)
