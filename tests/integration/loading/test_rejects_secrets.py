"""Secrets that a source puts into what becomes a reject."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest

from temporaletl.extraction import Page, PageRequest
from temporaletl.query import Query
from temporaletl.rows import Reject
from temporaletl.secrets import forget_secrets, remember_secret
from temporaletl.warehouse.connection import Warehouse
from tests.integration.loading import segments
from tests.integration.loading.jobs import Job, fetch

SECRET = "s3cret/canary&77"


@pytest.mark.parametrize(
    "payload",
    [
        {"next": f"/orders?token={SECRET}", "total": 12.5},
        f'{{"token": "{SECRET}", "id": 9}}'.encode(),
        f"no JSON: {SECRET}".encode(),
        [{SECRET: 1}],
    ],
)
async def test_no_reject_tells_a_secret(
    monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse, payload: Any
) -> None:
    async def extract(_request: PageRequest[Query]) -> AsyncGenerator[Page]:
        reject = Reject(
            stage="extract", reason="x" * 9_990 + SECRET, key=f"id {SECRET}", payload=payload
        )
        yield Page(records=[], cursor=1, rejects=[reject])

    remember_secret(SECRET)
    try:
        segments.register(monkeypatch, extract)
        await segments.run(Job(warehouse), reject_threshold=1)
        [row] = fetch(warehouse, "SELECT key, reason, payload::text FROM etl_rejects")
    finally:
        forget_secrets()
    assert "canary" not in str(row)
    assert "s3cret" not in str(row)


async def test_a_secret_that_is_a_number_breaks_no_payload(
    monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse
) -> None:
    async def extract(_request: PageRequest[Query]) -> AsyncGenerator[Page]:
        reject = Reject(stage="extract", reason="bad", key="a", payload={"pin": 4711471147})
        yield Page(records=[], cursor=1, rejects=[reject])

    remember_secret("4711471147")
    try:
        segments.register(monkeypatch, extract)
        await segments.run(Job(warehouse), reject_threshold=1)
        [row] = fetch(warehouse, "SELECT payload::text FROM etl_rejects")
    finally:
        forget_secrets()
    assert "4711471147" not in str(row)
