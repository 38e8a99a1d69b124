"""Both services, and pipelines that they execute."""

import uuid
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
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
from tests.integration.flows.services import Services, running
from tests.integration.pipelines.site import Site, serving_site
from tests.integration.temporal_server import TemporalServer


def definition(nodes: Mapping[str, tuple[str, dict[str, Any]]], *edges: str) -> dict[str, Any]:
    """A definition: nodes by id, with type and data; edges as `a -> b` or `a -true-> b`."""
    parts = []
    for edge in edges:
        source, arrow, target = edge.split()
        handle = arrow.strip("->") or None
        parts.append({"source": source, "target": target, "sourceHandle": handle})
    return {
        "nodes": [{"id": id_, "type": kind, "data": data} for id_, (kind, data) in nodes.items()],
        "edges": parts,
    }


def mapping(**fields: str) -> tuple[str, dict[str, Any]]:
    """A node that makes an object of expressions."""
    return "transform", {"transform_type": "mapping", "mapping": fields}


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


@pytest_asyncio.fixture
async def pipelines(
    request: pytest.FixtureRequest, temporal_server: TemporalServer, warehouse: Warehouse
) -> AsyncGenerator[Pipelines]:
    """Both services; a module's `SERVICES` are the options of `running`."""
    options = getattr(request.module, "SERVICES", {})
    async with running(temporal_server.client, warehouse, **options) as both:
        yield Pipelines(both)


__all__: Sequence[str] = ["Pipelines", "definition", "mapping"]
