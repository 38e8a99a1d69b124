"""A streaming replica: what readers see of it, and how what writes is told that it is none."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from temporaletl.embedded.postgres import serving, temporary_folder
from temporaletl.embedded.postgres_programs import programs
from temporaletl.embedded.running import take
from temporaletl.errors import WarehouseUnavailableError
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.replica import replica_remark, require_primary
from temporaletl.warehouse.tokens import authenticate, create_token
from tests.etl_process import run_etl
from tests.integration.flows.own_postgres import OwnPostgres, own_postgres
from tests.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WITHIN_SECONDS = 200


@dataclass(frozen=True)
class Replicated:
    primary: OwnPostgres
    url: str  # of the replica
    warehouse: Warehouse  # likewise

    def environment(self) -> dict[str, str]:
        """Settings that lead to the replica."""
        return {
            "PATH": os.environ["PATH"],
            "DATABASE_URL": self.url,
            "WPE_DB_SCHEMA": self.warehouse.schema,
            "TEMPORAL_ENABLED": "false",
        }

    async def follow(self) -> None:
        """Wait until the replica has applied what the primary has written."""
        with psycopg.connect(self.primary.url) as connection:
            row = connection.execute("SELECT pg_current_wal_lsn()::text").fetchone()
        with psycopg.connect(self.url, autocommit=True) as connection:
            reached = "SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn"
            await until(
                lambda: connection.execute(reached, row).fetchone() == (True,),
                within_seconds=WITHIN_SECONDS,
            )


@pytest.fixture
def replicated() -> Iterator[Replicated]:
    """A primary and its replica, made as documented."""
    with ExitStack() as exits:
        primary = exits.enter_context(own_postgres())
        folder = exits.enter_context(temporary_folder("etl-replica-"))
        cluster = folder / "postgresql"
        socket = f"host={primary.folder / 'postgresql'} user=postgres"
        options = ("-R", "-C", "-S", "readers", "--checkpoint=fast")
        subprocess.run(
            [programs() / "pg_basebackup", "-d", socket, "-D", cluster, *options],
            check=True,
            timeout=WITHIN_SECONDS,
        )
        for lock in cluster.glob(
            ".s.PGSQL.*.lock"
        ):  # the embedded server's socket is in its folder
            lock.unlink()
        _give(cluster, like=primary.folder / "postgresql")
        server = exits.enter_context(serving(folder, exits.enter_context(take(folder))))
        settings = {"database_url": server.url, "schema_name": primary.warehouse.schema}
        warehouse = Warehouse(WarehouseSettings.model_validate(settings), max_connections=2)
        yield Replicated(primary, server.url, exits.enter_context(warehouse))


def _give(folder: Path, *, like: Path) -> None:
    """To the user that PostgreSQL runs as, where that is another one."""
    owner = like.stat()
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)


async def test_readers_of_a_replica_see_what_it_has_and_how_far_it_is_behind(
    replicated: Replicated, tmp_path: Path
) -> None:
    with replicated.primary.warehouse.connection() as connection:
        token = create_token(connection, "reader", "read", created_by="me")
        connection.execute(
            "INSERT INTO etl_batches (batch_id, source, mode, connection, metadata, state,"
            " workflow_id, run_id) VALUES ('seen', 'jira', 'full', 'default', '{}', 'completed',"
            " 'w', 'r')"
        )
    await replicated.follow()
    shown = run_etl(
        "status", environment=replicated.environment(), folder=tmp_path, timeout_seconds=200
    )
    assert "seen" in shown.stdout
    assert "streaming replica, behind its primary: 0.0 s" in shown.stderr
    asked = run_etl(
        *("psql", "-tAc", f"SELECT state FROM {replicated.warehouse.schema}.etl_batches"),
        environment=replicated.environment(),
        folder=tmp_path,
    )
    assert asked.stdout.strip() == "completed", asked.stderr
    assert authenticate(replicated.warehouse, token.text.get_secret_value()).last_used_at is None

    assert replica_remark(replicated.primary.warehouse) is None
    with psycopg.connect(replicated.url, autocommit=True) as connection:
        connection.execute("SELECT pg_wal_replay_pause()")
        with replicated.primary.warehouse.connection() as writing:
            writing.execute("UPDATE etl_batches SET state = 'failed'")
        await until(
            lambda: "behind its primary: 0.0 s" not in (replica_remark(replicated.warehouse) or ""),
            within_seconds=WITHIN_SECONDS,
        )
        connection.execute("SELECT pg_wal_replay_resume()")
    await replicated.follow()


async def test_a_service_waits_while_its_warehouse_is_a_replica_and_goes_on_once_it_is_promoted(
    replicated: Replicated, tmp_path: Path
) -> None:
    with (
        pytest.raises(WarehouseUnavailableError, match="takes no writes here"),
        replicated.warehouse.connection() as connection,
    ):
        connection.execute("DELETE FROM etl_batches")
    with subprocess.Popen(  # noqa: ASYNC220 - nothing else waits for this loop
        [sys.executable, "-P", "-m", "temporaletl.worker"],
        env={
            **replicated.environment(),
            "TEMPORAL_ENABLED": "true",
            "TEMPORAL_ADDRESS": "127.0.0.1:1",
        },
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as service:
        assert service.stderr is not None
        try:
            events = (json.loads(line) for line in service.stderr if line.startswith("{"))
            waits = next(one for one in events if one["event"] == "warehouse_unavailable")
            assert "a service needs the primary" in waits["reason"]
            with psycopg.connect(replicated.url, autocommit=True) as connection:
                connection.execute("SELECT pg_promote()")
            assert any(one["event"] == "temporal_connection_failed" for one in events)
        finally:
            service.kill()
    require_primary(replicated.warehouse)
