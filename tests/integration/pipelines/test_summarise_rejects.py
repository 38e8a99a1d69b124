"""The example that has rejects summarised, as it is written but for its host."""

from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from temporaletl import names
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.pipeline_decisions import record_decision
from temporaletl.warehouse.pipeline_nodes import read_nodes
from temporaletl.worker.pipelines.documents import read_yaml
from temporaletl.worker.pipelines.messages import Decision
from tests.fakes.server import FakeServer, Response
from tests.integration.pipelines.conftest import Pipelines, definition
from tests.integration.pipelines.site import Site
from tests.integration.pipelines.test_agents import model
from tests.waiting import until

__all__ = ["model"]  # a fixture

_FILE = Path(__file__).parents[3] / "examples" / "pipelines" / "summarise-rejects.yaml"
LOAD = {"table": "orders_loaded", "key": ["id"], "columns": {"id": "integer", "amount": "decimal"}}


@pytest.fixture
def reader(
    shop: psycopg.Connection[Any],
    warehouse: Warehouse,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connection of the example: a role that may read rejects alone."""
    role = sql.Identifier(f"reader_{warehouse.schema}"[:60])
    shop.execute(sql.SQL("GRANT SELECT ON etl_rejects TO {}").format(role))
    (tmp_path / "rejects.toml").write_text('[warehouse]\ndsn = {env = "SHOP_READER"}\n')
    monkeypatch.setenv("PIPELINE_DATABASES", str(tmp_path / "rejects.toml"))


@pytest.mark.usefixtures("reader")
async def test_rejects_are_summarised_approved_and_posted(
    model: FakeServer, site: Site, pipelines: Pipelines
) -> None:
    site.routes["/hooks/data"] = lambda _: Response(204)
    document = read_yaml(
        _FILE.read_text("utf-8").replace("https://chat.example.com", site.url)
    ).value
    assert isinstance(document, dict)
    asked = {"source": "pipeline", "since": "2026-01-01"}

    nothing = await pipelines.run(document, asked)
    bad = {**LOAD, "rows": "trigger"}
    await pipelines.run(definition({"load": ("load", bad)}), [{"id": 1, "amount": "a lot"}])
    handle = await pipelines.start(document, asked)
    execution = handle.result_run_id or ""

    def waits() -> bool:
        found = read_nodes(pipelines.services.warehouse, execution)
        return any(one.node == "approve" and one.wait is not None for one in found)

    await until(waits)
    assert record_decision(pipelines.services.warehouse, execution, "approve", "approved")
    await handle.signal(names.DECIDE, Decision(node="approve", outcome="approved"))
    summary = await handle.result()

    assert pipelines.states(nothing)["summarise"] == "skipped"
    assert set(pipelines.states(summary).values()) == {"completed"}
    [question] = model.traffic.requested("/chat")
    assert "Invalid decimal" in question.request.json()["messages"][1]["content"]
    [post] = site.requests("/hooks/data")
    assert post.json() == {"text": f"Rejects of pipeline: {pipelines.result(summary, 'summarise')}"}
