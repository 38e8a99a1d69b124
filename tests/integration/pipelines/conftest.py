"""Both services, and pipelines that they execute."""

import os
import uuid
from collections.abc import AsyncGenerator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql
from psycopg.conninfo import make_conninfo
from temporalio.client import WorkflowHandle

import temporaletl.queuer.sources.pipeline.params
import temporaletl.worker.sources.pipeline.strategies  # noqa: F401 - registers the source
from temporaletl import names
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.pipeline_nodes import (
    NodeRecord,
    read_nodes,
)
from temporaletl.warehouse.pipeline_results import read_result
from temporaletl.worker.pipelines.messages import ExecutionInput, ExecutionSummary
from tests.integration.command_line import CommandLine, publish_numbers
from tests.integration.flows.services import Services, running
from tests.integration.pipelines.site import Site, serving_site
from tests.integration.temporal_server import TemporalServer
from tests.pipelines import definition, mapping

#: Settings of nodes, which a worker's process shares with the test.
_OF_NODES = ("PIPELINE_", "SHOP_")


@dataclass(frozen=True)
class Pipelines:
    """Executes definitions; reads what became of their nodes."""

    services: Services

    async def start(
        self, document: dict[str, Any], value: Any = None, **request: Any
    ) -> WorkflowHandle[Any, ExecutionSummary]:
        return await self.services.client.start_workflow(
            names.PIPELINE_FLOW,
            ExecutionInput(definition=document, input=value, **request),
            id=f"pipeline/{uuid.uuid4().hex}",
            task_queue=f"{self.services.queue}-etl",
            result_type=ExecutionSummary,
        )

    async def run(self, document: dict[str, Any], value: Any = None) -> ExecutionSummary:
        return await (await self.start(document, value)).result()

    def result(self, summary: ExecutionSummary, node: str) -> Any:
        return read_result(self.services.warehouse, summary.execution_id, node)

    def nodes(self, summary: ExecutionSummary) -> dict[str, NodeRecord]:
        records = read_nodes(self.services.warehouse, summary.execution_id)
        return {record.node: record for record in records}

    def states(self, summary: ExecutionSummary) -> dict[str, str]:
        return {node: record.state for node, record in self.nodes(summary).items()}


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site that nodes may send requests to; to be asked for before `pipelines`."""
    with serving_site(monkeypatch) as opened:
        yield opened


@pytest.fixture
def shop(
    postgres_url: str, warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[psycopg.Connection[Any]]:
    """A schema with orders; `shop` reads as a plain role, `till` writes, `root` is a superuser."""
    role, schema = f"reader_{warehouse.schema}"[:60], warehouse.schema
    names = {"role": sql.Identifier(role), "schema": sql.Identifier(schema)}
    with psycopg.connect(postgres_url, autocommit=True) as session:
        for statement in (
            "CREATE ROLE {role} LOGIN PASSWORD 'swordfish-of-the-shop'",
            "GRANT USAGE ON SCHEMA {schema} TO {role}",
            "SET search_path TO {schema}",
            "CREATE TABLE orders (id bigint PRIMARY KEY, amount numeric, tags text[])",
            "CREATE TABLE lines (name text)",
            "GRANT SELECT, INSERT, UPDATE ON orders, lines TO {role}",
        ):
            session.execute(sql.SQL(statement).format(**names))
        options = f"-csearch_path={schema}"
        for name, user in (("READER", role), ("ROOT", None)):
            password = "swordfish-of-the-shop" if user else None
            given = {"user": user, "password": password, "options": options}
            monkeypatch.setenv(
                f"SHOP_{name}",
                make_conninfo(postgres_url, **{k: v for k, v in given.items() if v}),
            )
        (tmp_path / "databases.toml").write_text(
            '[shop]\ndsn = {env = "SHOP_READER"}\nstatement_timeout_seconds = 1\n'
            '[till]\ndsn = {env = "SHOP_ROOT"}\nwritable = true\n'
            '[strict]\ndsn = {env = "SHOP_READER"}\nwritable = true\n'
            '[root]\ndsn = {env = "SHOP_ROOT"}\n'
        )
        monkeypatch.setenv("PIPELINE_LIST_MB", "1")
        monkeypatch.setenv("PIPELINE_DATABASES", str(tmp_path / "databases.toml"))
        yield session
        session.execute(sql.SQL("DROP OWNED BY {role}").format(**names))
        session.execute(sql.SQL("DROP ROLE {role}").format(**names))


@pytest_asyncio.fixture
async def pipelines(
    request: pytest.FixtureRequest, temporal_server: TemporalServer, warehouse: Warehouse
) -> AsyncGenerator[Pipelines]:
    """Both services; a module's `SERVICES` are the options of `running`."""
    options = getattr(request.module, "SERVICES", {})
    async with running(temporal_server.client, warehouse, **options) as both:
        yield Pipelines(both)


@pytest_asyncio.fixture
async def commands(
    site: Site,  # noqa: ARG001 - its address is allowed by the environment
    temporal_server: TemporalServer,
    warehouse: Warehouse,
    postgres_url: str,
    tmp_path: Path,
) -> AsyncGenerator[CommandLine]:
    """The environment of workers' processes; of both services, the queuer alone is here."""
    publish_numbers(tmp_path)
    given = {name: value for name, value in os.environ.items() if name.startswith(_OF_NODES)}
    async with running(temporal_server.client, warehouse, worker=False) as services:
        yield CommandLine(services, tmp_path, postgres_url).having(
            ETL_HEARTBEAT_TIMEOUT_SECONDS="1", ETL_ROWS_PER_PAGE="5000", **given
        )


__all__: Sequence[str] = ["Pipelines", "definition", "mapping"]
