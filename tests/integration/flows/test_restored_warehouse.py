"""A warehouse that is brought back to an earlier point in time, while Temporal is not."""

import subprocess
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from temporalio.client import WorkflowFailureError, WorkflowHandle

from temporaletl import names
from temporaletl.embedded.postgres_programs import programs
from temporaletl.messages import BatchSummary, QueuerInput
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate
from tests.integration.flows.services import Services, running
from tests.integration.flows.test_lost_batches import NO_GRACE, look, watermarks
from tests.integration.temporal_server import TemporalServer
from tests.releases.upgrading import own_database
from tests.waiting import until

pytestmark = pytest.mark.timeout(600)

_WITHIN_SECONDS = 120


class Database:
    """A database of a server, which can be brought back to what it was at a point in time."""

    def __init__(self, server: str, url: str) -> None:
        self._server, self.url = server, url
        self._name = str(conninfo_to_dict(url)["dbname"])
        self._then = make_conninfo(url, dbname=f"{self._name}_then")

    def _execute(self, *statements: str) -> None:
        with psycopg.connect(self._server, autocommit=True) as connection:
            for statement in statements:
                connection.execute(
                    sql.SQL(statement).format(
                        now=sql.Identifier(self._name), then=sql.Identifier(f"{self._name}_then")
                    )
                )

    def remember(self) -> None:
        """Keep what the database is now, as of one instant, also while services write to it."""
        self._execute("CREATE DATABASE {then}")
        dumped = self._program("pg_dump", "--format=custom", self.url)
        self._program("pg_restore", "--dbname", self._then, given=dumped)

    def _program(self, name: str, *words: str, given: bytes | None = None) -> bytes:
        done = subprocess.run(
            [programs() / name, *words], input=given, capture_output=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def bring_back(self) -> None:
        """End all sessions, as a server does that is restored."""
        self._execute("DROP DATABASE {now} WITH (FORCE)", "ALTER DATABASE {then} RENAME TO {now}")


async def start_endless(services: Services) -> WorkflowHandle[Any, BatchSummary]:
    """Start a full run that ends when it is cancelled; it has loaded something."""
    params = {"pages": 100_000, "page_seconds": 0.05}
    handle = await services.start(QueuerInput(source="numbers", mode="full", params=params))
    await until(lambda: pages_of(services, handle.id) > 0, within_seconds=_WITHIN_SECONDS)
    return handle


def pages_of(services: Services, run: str) -> int:
    [(pages,)] = services.rows(
        "SELECT coalesce(sum(pages), 0)::int FROM etl_jobs JOIN etl_batches USING (batch_id)"
        " WHERE etl_batches.workflow_id = %s",
        run,
    )
    return int(pages)


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    with own_database(postgres_url) as url:
        yield Database(postgres_url, url)


@pytest_asyncio.fixture
async def services(temporal_server: TemporalServer, database: Database) -> AsyncGenerator[Services]:
    settings = WarehouseSettings.model_validate({"database_url": database.url})
    with Warehouse(settings, max_connections=20) as warehouse:
        migrate(warehouse)
        async with running(
            temporal_server.client, warehouse, segment_seconds=1, rows_per_page=20
        ) as both:
            yield both


async def test_what_was_loaded_after_a_point_in_time_is_loaded_again_once_it_is_restored(
    services: Services, database: Database
) -> None:
    await services.run("incremental", jobs=2)
    [(watermark,)] = watermarks(services)
    ended, going_on = await start_endless(services), await start_endless(services)
    database.remember()
    lost = await services.run("incremental", jobs=4)
    await ended.signal(names.CANCEL)
    assert (await ended.result()).state == "cancelled"
    later = await start_endless(services)
    database.bring_back()

    again = await services.run("incremental", jobs=4)

    # The source is read again from where the restored warehouse had got to.
    assert again.windows["all"].start == watermark
    assert again.rows.inserted == lost.rows.inserted == 20
    # A run of which it knows goes on, and repeats the pages that were lost.
    before = pages_of(services, going_on.id)
    await until(lambda: pages_of(services, going_on.id) > before, within_seconds=_WITHIN_SECONDS)
    await going_on.signal(names.CANCEL)
    assert (await going_on.result()).state == "cancelled"
    first = "SELECT count(*), max(split_part(event_id, ':', 2)::int) + 1 FROM events"
    [(count, following)] = services.rows(f"{first} WHERE parent_item_id = '0'")
    assert count == following
    # One of which it knows nothing fails; one that has ended meanwhile counts as lost.
    with pytest.raises(WorkflowFailureError):
        await later.result()
    found: dict[str, str] = {}

    async def all_are_found() -> bool:
        # Temporal lists what has ended a moment later.
        for one in await look(services, NO_GRACE):
            found[one.workflow_id] = str(one.error).partition(":")[0]
        return len(found) >= 2

    await until(all_are_found)
    assert found == {ended.id: "lost", later.id: "lost"}
    assert services.rows("SELECT 1 FROM etl_batches WHERE ended_at IS NULL") == []
