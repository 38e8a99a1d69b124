"""A real PostgreSQL for the test session, and a schema of its own for each test."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from temporaletl.embedded.postgres import running_postgres
from temporaletl.settings import WarehouseSettings
from temporaletl.testing.postgres import empty_warehouse
from temporaletl.warehouse.connection import Warehouse


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The server that DATABASE_URL or WPE_DB_* name, or an embedded one for this session."""
    settings = WarehouseSettings.load()
    if settings.database_url is not None or settings.host is not None:
        yield settings.conninfo().get_secret_value()
        return
    # Not below `tmp_path`, whose permissions PostgreSQL's own user could not pass when run as root.
    with (
        tempfile.TemporaryDirectory(prefix="etl-pg-") as folder,
        running_postgres(Path(folder), durable=False) as url,
    ):
        yield url


@pytest.fixture
def warehouse(postgres_url: str) -> Iterator[Warehouse]:
    """An empty, migrated schema that goes with the test."""
    with empty_warehouse(postgres_url, max_connections=20) as opened:
        yield opened
