"""The PostgreSQL server of the suite: as configured, else one from the extra `embedded`."""

import tempfile
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from psycopg import sql

from temporaletl.embedded.postgres import running_postgres
from temporaletl.settings import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate

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
    # Not below `tmp_path`, whose permissions PostgreSQL's own user could not pass when run as root.
    folder = exits.enter_context(tempfile.TemporaryDirectory(prefix="etl-suite-"))
    return exits.enter_context(running_postgres(Path(folder)))


@contextmanager
def empty_warehouse(url: str) -> Iterator[Warehouse]:
    """An empty warehouse: a migrated schema of its own, dropped afterwards."""
    schema = f"suite_{uuid.uuid4().hex[:12]}"
    settings = WarehouseSettings.model_validate({"database_url": url, "schema_name": schema})
    with Warehouse(settings) as warehouse:
        migrate(warehouse)
        try:
            yield warehouse
        finally:
            with warehouse.connection() as connection:
                connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
