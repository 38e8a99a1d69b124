"""A real PostgreSQL for the test session, and a schema of its own for each test."""

from collections.abc import Iterator

import pytest

from temporaletl.embedded.postgres import running_postgres, temporary_folder
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.testing.postgres import empty_warehouse
from temporaletl.warehouse.connection import Warehouse


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The server that DATABASE_URL or WPE_DB_* name, or an embedded one for this session."""
    settings = WarehouseSettings.load()
    if settings.database_url is not None or settings.host is not None:
        yield settings.conninfo().get_secret_value()
        return
    with (
        temporary_folder("etl-pg-") as folder,
        running_postgres(folder, durable=False) as url,
    ):
        yield url


@pytest.fixture
def warehouse(postgres_url: str) -> Iterator[Warehouse]:
    """An empty, migrated schema that goes with the test."""
    with empty_warehouse(postgres_url, max_connections=20) as opened:
        yield opened
