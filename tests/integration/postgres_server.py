"""A real PostgreSQL for the test session, and a schema of its own for each test."""

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from temporaletl.embedded.postgres import running_postgres
from temporaletl.settings import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate


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
        running_postgres(Path(folder)) as url,
    ):
        yield url


@pytest.fixture
def warehouse(postgres_url: str) -> Iterator[Warehouse]:
    """An empty, migrated schema that goes with the test."""
    schema = f"test_{uuid.uuid4().hex[:12]}"
    settings = WarehouseSettings.model_validate(
        {"database_url": postgres_url, "schema_name": schema}
    )
    with Warehouse(settings, max_connections=20) as opened:
        migrate(opened)
        yield opened
    with psycopg.connect(postgres_url) as connection:
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))
