"""Freezes what a release leaves in tests/releases/VERSION, for `scripts/release prepare`.

Not a test: pytest runs it only where it is named, for the servers and the patching. The version is
that of `RELEASE`.
"""

import asyncio
import os
import re
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from temporalio.client import WorkflowFailureError

from temporaletl.control.operations.collections import create_collection
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.stored_connections import create_connection
from temporaletl.control.operations.stored_pipelines import store_pipeline
from temporaletl.control.operations.tables import declared_rows
from temporaletl.control.operations.tokens import create_token
from temporaletl.embedded.postgres import running_postgres, temporary_folder
from temporaletl.embedded.postgres_programs import programs
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings
from temporaletl.strategies import import_sources
from temporaletl.warehouse.audit import Author
from temporaletl.warehouse.collections import Member
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.migration import migrate
from temporaletl.worker.loading.evolution import migrate_tables
from tests.integration.flows.numbers import addresses
from tests.integration.flows.services import running
from tests.integration.temporal_server import TemporalServer
from tests.releases.frozen import FOLDER, Release, freeze
from tests.replay.histories import RECORDER
from tests.replay.scenarios import SCENARIOS

#: What is run in the warehouse that is frozen: batches with every end, and pipelines. First those
#: that are acted upon once the warehouse shows what no other run may have left there.
_RUNS = (
    *("approved", "cancelled-by-signal", "completed", "failed-job", "planning-failure"),
    *("branches", "loaded-lists"),
)
_AUTHOR = Author(name="cli:recorder")
_JIRA = {"JIRA_URL": "https://acme.example.com", "JIRA_EMAIL": "loader@acme.example.com"}
_SECRETS = {"JIRA_API_TOKEN": {"env": "ACME_TOKEN"}}
#: What only the psql of a newer PostgreSQL understands, and the comments of a dump.
_ASIDE = re.compile(
    r"(?m)^(?:\\(?:un)?restrict |SET transaction_timeout).*\n"
    r"|^--\n-- (?:Data for )?Name: .*\n--\n\n"
)
_MACHINE = re.compile(rf"\d+@[\w.-]+|\b{re.escape(socket.gethostname())}(?=')")
_DUMP = ("--no-owner", "--no-privileges", "--column-inserts", "--rows-per-insert=50")


async def test_freeze(temporal_server: TemporalServer) -> None:
    release = Release(FOLDER / os.environ["RELEASE"])
    freeze(release)
    with temporary_folder("etl-release-") as folder, running_postgres(folder) as url:
        settings = WarehouseSettings.model_validate({"database_url": url})
        with Warehouse(settings, max_connections=20) as warehouse:
            migrate(warehouse)
            import_sources("temporaletl.queuer.sources")
            import_sources("temporaletl.worker.sources")
            await fill(temporal_server, warehouse)
            async with Platform(TemporalSettings.load(), settings) as platform:
                await enter(platform)
            for _change in migrate_tables(warehouse, declared_rows(None)):
                pass
        dump(url, warehouse.schema, release.warehouse)


async def fill(server: TemporalServer, warehouse: Warehouse) -> None:
    """Have the services load, fail and reject, and execute pipelines."""
    async with running(server.client, warehouse) as services:
        for name in _RUNS:
            scenario = SCENARIOS[name]
            run = await scenario.start(services)
            await scenario.act(services, run)
            with suppress(WorkflowFailureError):
                await asyncio.wait_for(run.result(), 300)
        addresses["alice"] = "alice@example.com"
        await services.run(jobs=2, size=9, bad_every=4, people=["alice", "bob"])


async def enter(platform: Platform) -> None:
    """Enter what people do, which is in the audit too."""
    await create_token(platform, "ci", "operate", author=_AUTHOR)
    await create_connection(platform, "acme", "jira", _JIRA, _SECRETS, author=_AUTHOR)
    members = [Member(source="jira", connection="acme")]
    await create_collection(platform, "all", members, author=_AUTHOR)
    document = dict(SCENARIOS["loaded-lists"].definition or {})
    await store_pipeline(platform, document, name="lists", author=_AUTHOR)


def dump(url: str, schema: str, file: Path) -> None:
    """Write tables and rows as statements that any PostgreSQL of ours takes."""
    dumped = subprocess.run(
        [programs() / "pg_dump", *_DUMP, f"--schema={schema}", "--dbname", url],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    file.write_text(_MACHINE.sub(RECORDER, _ASIDE.sub("", dumped.stdout)))
