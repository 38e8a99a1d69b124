"""A cool-down that a person ends early."""

from datetime import timedelta

import pytest

from temporaletl.external.cooldown import CoolDown
from temporaletl.warehouse.budget import block_source, remaining_cool_down, unblock_source
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.source_limiter import SourceLimiter
from tests.integration.loading.jobs import Job


def test_what_is_lifted_in_the_warehouse_is_lifted_in_the_worker(
    monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse
) -> None:
    now = [1_000.0]
    monkeypatch.setattr("temporaletl.external.cooldown.time.monotonic", lambda: now[0])
    job = Job(warehouse).input
    client = CoolDown(job.source)
    client.begin(timedelta(hours=1), "rate limit")
    block_source(warehouse, job.source, job.connection, timedelta(hours=1))
    now[0] += 60
    limiter = SourceLimiter(warehouse, job)

    def wait() -> timedelta | None:
        return limiter.needed_wait(remaining_cool_down(warehouse, job.source, job.connection))

    assert wait() is not None
    assert client.remaining()[0] == timedelta(minutes=59)
    assert unblock_source(warehouse, job.source, job.connection)
    assert wait() is None
    assert client.remaining()[0] <= timedelta(0)
