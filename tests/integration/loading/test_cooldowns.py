"""A source that asked to be left alone, and a person who lets it be asked again."""

from datetime import timedelta

import pytest

from temporaletl.external.cooldown import CoolDown
from temporaletl.warehouse.budget import close_source, open_source
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.asking import Asking
from tests.integration.loading.jobs import Job


def test_what_is_lifted_in_the_warehouse_is_lifted_in_the_worker(
    monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse
) -> None:
    now = [1_000.0]
    monkeypatch.setattr("temporaletl.external.cooldown.time.monotonic", lambda: now[0])
    job = Job(warehouse).input
    client = CoolDown(job.source)
    client.begin(timedelta(hours=1), "rate limit")
    close_source(warehouse, job.source, job.connection, timedelta(hours=1))
    now[0] += 60
    asking = Asking(warehouse, job)
    assert asking.time_to_opening() is not None
    assert client.remaining()[0] == timedelta(minutes=59)
    assert open_source(warehouse, job.source, job.connection)
    assert asking.time_to_opening() is None
    assert client.remaining()[0] <= timedelta(0)
