"""Reading a fake ServiceTitan as the platform does: plan, extract page by page, transform."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from temporaletl import (
    ETLInput,
    Row,
)
from temporaletl.external.servicetitan.resources import RESOURCES
from temporaletl.external.servicetitan.settings import OVERLAP
from temporaletl.external.servicetitan.site import close_sites
from temporaletl.messages import Mode
from temporaletl.queuer.sources.servicetitan.inputs import expand_backlog
from temporaletl.queuer.sources.servicetitan.params import describe_backlog
from temporaletl.worker.sources.servicetitan import transform as transforms
from temporaletl.worker.sources.servicetitan.extract import streams as extracts
from tests.fakes.server import FakeServer
from tests.fakes.servicetitan import Tenant, generate, serve
from tests.fakes.servicetitan.service import OWN_FAULTS
from tests.fakes.servicetitan.tenant import Row as TenantRow
from tests.fakes.servicetitan.timestamps import ticks
from tests.integration.job_reading import NO_TIMEOUT, Read, Serve, plan_of, read, serving

STREAMS = tuple(RESOURCES)
BEGAN = datetime(2025, 9, 1, tzinfo=UTC)
#: The stream of which tests corrupt records.
POISONED = "jobs"
#: Importing them is what registers them.
REGISTERED = (transforms, extracts)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Serve]:
    """Serve a tenant, and set the environment so that the source reads it."""

    def variables(tenant: Tenant, url: str) -> dict[str, str]:
        return {
            "SERVICETITAN_URL": url,
            "SERVICETITAN_AUTH_URL": url,
            "SERVICETITAN_CLIENT_ID": "cid.fake",
            "SERVICETITAN_CLIENT_SECRET": "cs1.fake",
            "SERVICETITAN_APP_KEY": "ak1.fake",
            "SERVICETITAN_TENANT_ID": str(tenant.number),
            "SERVICETITAN_PAGE_SIZE": "20",
            "SERVICETITAN_READ_TIMEOUT_SECONDS": NO_TIMEOUT,
        }

    def serve_small(tenant: Tenant, **more: Any) -> FakeServer:
        return serve(tenant, **{"export_rows": 20, **more})

    with serving(monkeypatch, tmp_path, serve_small, OWN_FAULTS, variables) as start:
        yield start
        close_sites()


def jobs_of(
    mode: Mode = "full", *, streams: Sequence[str] = STREAMS, **more: Any
) -> list[ETLInput]:
    plan = plan_of("servicetitan", streams, mode, **more)
    return list(expand_backlog(plan, describe_backlog(plan)))


def bare(rows: Mapping[int, Row]) -> dict[int, Any]:
    """Rows without the time of modification, which saving again moves."""
    made: dict[int, Any] = {}
    for id_, row in rows.items():
        values = msgspec.to_builtins(row)
        values["full_data"] = {k: v for k, v in values["full_data"].items() if k != "modifiedOn"}
        made[id_] = {**values, "modified_on": None}
    return made


def is_whole(found: Read, tenant: Tenant, *, deleted: bool = True) -> bool:
    """Whether exactly the records there are were found, each as it is now."""
    for stream, collection in tenant.collections.items():
        rows = {
            row.id: json.loads(collection.render(row), parse_float=Decimal)
            for row in collection.rows.values()
            if deleted or not row.deleted
        }
        got = {id_: row.full_data for id_, row in found.rows[stream].items()}
        if got != rows:
            return False
    return True


def watermark(moment: datetime) -> datetime:
    """The start of an incremental window after a batch that ended at a moment."""
    return moment - OVERLAP


class Time:
    """The clock that tenant and schedule share; it moves when it is told to."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> int:
        return ticks(self.now)

    def pass_(self, **span: float) -> None:
        self.now += timedelta(**span)


class Runs:
    """Batches of one source after each other, with their watermark and last cursors."""

    def __init__(self, time: Time, paging: str) -> None:
        self.time = time
        self.paging = paging
        self.table = Read()
        self.watermark: datetime | None = None

    async def run(self, **more: Any) -> Read:
        """Run an incremental batch into the table; return what it alone brought."""
        start = None if self.watermark is None else self.watermark - OVERLAP
        end = self.time.now - timedelta(minutes=10 if self.paging == "export" else 1)
        last = {**self.table.last, **more.pop("last", {})}
        jobs = jobs_of("incremental", start=start, end=end, last=last, paging=self.paging, **more)
        for job in jobs:
            self.table.stream_cursors[job.stream].clear()
        found = await read(jobs)
        for stream in STREAMS:
            self.table.rows[stream] |= found.rows[stream]
            self.table.stream_cursors[stream] += found.stream_cursors[stream]
        self.watermark = end
        return found


def tenant_of(time: Time, records: int = 60, seed: int = 1) -> Tenant:
    tenant = generate(records, seed=seed)
    tenant.clock = time
    return tenant


def tenant_with(records: int, *, ties: float = 0) -> Tenant:
    tenant = generate(records, seed=3)
    tenant.withheld_seconds = 0
    if ties:
        tenant.shape_ties(ties)
    return tenant


def in_order(tenant: Tenant) -> list[TenantRow]:
    return tenant.collections[POISONED].sorted("modified")


def mark_of(tenant: Tenant, row: TenantRow) -> bytes:
    return tenant.collections[POISONED].render(row)[:40]


def poison(server: FakeServer, tenant: Tenant, *rows: TenantRow) -> None:
    """Have every answer fail that would hold one of these."""
    server.unservable.update(mark_of(tenant, row) for row in rows)


def ids(tenant: Tenant, *without: TenantRow) -> set[int]:
    return set(tenant.collections[POISONED].rows) - {row.id for row in without}
