"""The PostgreSQL server of the suite: as configured, else one from the extra `embedded`."""

import atexit
import contextlib
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest
from psycopg import sql

from temporaletl.embedded.postgres import running_postgres, temporary_folder
from temporaletl.settings import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse, translated
from temporaletl.warehouse.migration import create_schema

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


@contextmanager
def empty_warehouse(url: str, *, max_connections: int = 8) -> Iterator[Warehouse]:
    """An empty warehouse: a migrated schema of its own, dropped afterwards."""
    schema = f"suite_{uuid.uuid4().hex[:12]}"
    settings = WarehouseSettings.model_validate({"database_url": url, "schema_name": schema})
    with translated():
        create_schema(_session(url), schema)
    try:
        with Warehouse(settings, max_connections=max_connections) as warehouse:
            yield warehouse
    finally:
        _session(url).execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


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
    _sessions.pop(url).close()
