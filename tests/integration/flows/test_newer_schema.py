"""Services of the build before go on while `etl migrate` of the next one changes the warehouse."""

import asyncio
from functools import partial

import pytest

from temporaletl.control.operations.tables import declared_rows
from temporaletl.messages import QueuerInput
from temporaletl.warehouse import migration
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.loading.evolution import migrate_tables
from tests.integration.flows.services import Services, running
from tests.integration.temporal_server import TemporalServer
from tests.integration.warehouse.test_roles import Settings, server, settings
from tests.waiting import until

__all__ = ["server", "settings"]

pytestmark = pytest.mark.timeout(600)

_WITHIN_SECONDS = 120
_TOMORROW = "9999_tomorrow.sql"
#: Adds what a migration may, to every table there is: whoever relies on the number of a table's
#: columns, or on their order, fails.
_MIGRATION = b"""
    CREATE TABLE tomorrow (n int PRIMARY KEY);
    DO $$
    DECLARE found regclass;
    BEGIN
        FOR found IN SELECT oid FROM pg_class WHERE relkind IN ('r', 'p') AND NOT relispartition
            AND relnamespace = current_schema()::regnamespace ORDER BY oid
        LOOP
            EXECUTE format('ALTER TABLE %s ADD tomorrow int NOT NULL DEFAULT 1, ADD later text',
                           found);
        END LOOP;
    END $$;
"""


def migrate_to_tomorrow(warehouse: Warehouse) -> None:
    """What `etl migrate` of the next build does; this one knows nothing of it afterwards."""
    known, read = migration.known_migrations, migration._read
    with pytest.MonkeyPatch.context() as next_build:
        next_build.setattr(migration, "known_migrations", lambda: [*known(), _TOMORROW])
        next_build.setattr(
            migration, "_read", lambda name: _MIGRATION if name == _TOMORROW else read(name)
        )
        assert migration.migrate(warehouse) == [_TOMORROW]


def loaded(services: Services) -> int:
    [(count,)] = services.rows("SELECT coalesce(sum(inserted), 0)::int FROM etl_jobs")
    return int(count)


async def test_workers_that_may_not_create_go_on_while_the_schema_becomes_the_next_builds(
    temporal_server: TemporalServer, settings: Settings
) -> None:
    with Warehouse(settings("etl_migrator")) as migrating:
        migration.migrate(migrating)
        for _change in migrate_tables(migrating, declared_rows(None)):
            pass
        with Warehouse(settings("etl_loader"), max_connections=10) as warehouse:
            start = partial(running, temporal_server.client, segment_seconds=1, rows_per_page=20)
            async with start(warehouse) as services:
                params = {"jobs": 4, "pages": 40, "size": 10, "page_seconds": 0.1, "bad_every": 10}
                run = await services.start(
                    QueuerInput(source="numbers", mode="full", params=params)
                )
                await until(lambda: loaded(services) > 0, within_seconds=_WITHIN_SECONDS)
                await asyncio.to_thread(migrate_to_tomorrow, migrating)
                before = loaded(services)
                summary = await run.result()
        assert before < 1440, "the run ended before the migration"
        assert (summary.state, summary.failures) == ("completed", ())
        assert (summary.rows.inserted, summary.rows.rejected) == (1440, 160)

        # As one that is started again does, and a rollback: nothing is missing to it.
        with Warehouse(settings("etl_loader"), max_connections=10) as warehouse:
            assert migration.migrate(warehouse) == []
            async with start(warehouse) as services:
                again = await services.run(jobs=4, pages=40, size=10, bad_every=10)
        assert (again.state, again.rows.unchanged) == ("completed", 1440)
