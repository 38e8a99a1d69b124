"""A warehouse of before every run had an entry that ends with its batch."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from temporaletl.settings.platform import WarehouseSettings
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.idempotency import Answer, RequestKey, claim
from temporaletl.warehouse.migration import migrate
from temporaletl.warehouse.runs import entered_runs
from tests.integration.old_warehouse import migrate_before
from tests.integration.warehouse.batches import rows

_BATCH = """
    INSERT INTO etl_batches (batch_id, workflow_id, engine, source, mode, connection, metadata,
        state, run_id, summary, ended_at)
    VALUES (%s, %s, %s, 'shop', 'full', 'default', '{}',
        'failed', 'r', '{"error": "broken"}', now())
"""
_RUN = """
    INSERT INTO etl_runs (workflow_id, source, connection, request, run_id, engine, batch_id)
    VALUES (%s, 'shop', 'default', '{"mode": "full"}', 'r', %s, %s)
"""
_KEY = """
    INSERT INTO etl_idempotency_keys (token_id, route, key, request_sha256, status, body)
    VALUES ('ci', 'POST /api/v1/runs', 'once', sha256('body'), 202, '{"workflowId": "w"}')
"""


@pytest.fixture
def old(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Warehouse]:
    schema = f"test_{uuid.uuid4().hex[:12]}"
    settings = {"database_url": postgres_url, "schema_name": schema}
    with Warehouse(WarehouseSettings.model_validate(settings)) as warehouse:
        migrate_before("0022", warehouse, monkeypatch)
        yield warehouse
    with psycopg.connect(postgres_url) as connection:
        connection.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(schema)))


def test_runs_end_with_their_batches_and_a_known_key_gives_its_answer(old: Warehouse) -> None:
    with old.connection() as connection:
        for name, engine in [("early", "temporal"), ("open", "temporal"), ("local", "local")]:
            connection.execute(_BATCH, [f"{name}-batch", name, engine])
        for name, engine in [("open", "temporal"), ("local", "local")]:
            connection.execute(_RUN, [name, engine, f"{name}-batch"])
        connection.execute(_RUN, ["waiting", "temporal", None])
        connection.execute(_KEY)

    migrate(old)

    ended = "SELECT workflow_id, error FROM etl_runs WHERE ended_at IS NOT NULL ORDER BY 1"
    assert rows(old, ended) == [("early", "broken"), ("open", "broken")]
    # What drives a run of the local engine ends it.
    assert entered_runs(old, ["early", "open", "local", "waiting", "nobody"]) == {
        **dict.fromkeys(("early", "open", "local"), "r"),
        "waiting": None,
    }
    known = claim(old, RequestKey("ci", "POST /api/v1/runs", "once"), b"body")
    assert known == Answer(202, {"workflowId": "w"})
