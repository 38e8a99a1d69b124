"""The PostgreSQL server of the suite: as configured, else one from the extra `embedded`."""

import atexit
import contextlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from temporaletl.embedded.postgres import running_postgres, temporary_folder
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.testing.empty_schemas import EmptySchemas
from temporaletl.warehouse.connection import Warehouse, translated

_url = pytest.StashKey[str]()


def server_url(request: pytest.FixtureRequest) -> str:
    """The server's URL: a fixture `postgres_url` wins, then DATABASE_URL or WPE_DB_*.

    Without them a server is started once, and ended with the test run.

    Raises:
        ConfigurationError: nothing is configured, and the extra is not installed.
    """
    try:
        return str(request.getfixturevalue("postgres_url"))
    except pytest.FixtureLookupError:
        pass
    stash = request.config.stash
    if _url not in stash:
        stash[_url] = _configured() or _start(request.config)
    return stash[_url]


def _configured() -> str | None:
    settings = WarehouseSettings.load()
    if settings.database_url is None and settings.host is None:
        return None
    return settings.conninfo().get_secret_value()


def _start(config: pytest.Config) -> str:
    exits = ExitStack()
    config.add_cleanup(exits.close)
    folder = exits.enter_context(temporary_folder("etl-suite-"))
    return exits.enter_context(running_postgres(folder, durable=False))


#: A session for each server, which creates the schemas of this process and drops them.
_sessions: dict[str, psycopg.Connection[Any]] = {}
_schemas: dict[str, EmptySchemas] = {}


@contextmanager
def empty_warehouse(url: str, *, max_connections: int = 8) -> Iterator[Warehouse]:
    """An empty warehouse: a migrated schema of its own, which is gone afterwards."""
    schemas = _schemas.setdefault(url, EmptySchemas())
    with translated():
        schema = schemas.take(_session(url))
    settings = WarehouseSettings.model_validate({"database_url": url, "schema_name": schema})
    try:
        with Warehouse(settings, max_connections=max_connections) as warehouse:
            yield warehouse
    finally:
        schemas.give_back(_session(url), schema)


def _session(url: str) -> psycopg.Connection[Any]:
    """The session of a server, another one where a test has ended it."""
    if (known := _sessions.get(url)) is not None:
        with contextlib.suppress(psycopg.OperationalError):
            known.execute("")
            return known
        known.close()
    else:
        atexit.register(_close_session, url)
    session = _sessions[url] = psycopg.connect(url, autocommit=True, connect_timeout=10)
    return session


def _close_session(url: str) -> None:
    session = _sessions.pop(url)
    with contextlib.suppress(psycopg.OperationalError):  # the server may have ended before
        _schemas[url].drop_free(session)
    session.close()
