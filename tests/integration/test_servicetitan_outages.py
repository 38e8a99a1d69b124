"""A ServiceTitan that fails at everything: its error is told, and no record is made a reject."""

from collections.abc import Callable
from typing import Any

import pytest

from temporaletl import RetryableError, SourceUnavailableError
from tests.fakes.exchange import Request, Response
from tests.integration.job_reading import Read, Serve, after_success, corrupt, pages_of, read
from tests.integration.servicetitan_reading import (
    POISONED,
    ids,
    in_order,
    jobs_of,
    poison,
    served,
    tenant_with,
)

__all__ = ["served"]

BOTH = pytest.mark.parametrize("paging", ["export", "list"])


async def failure_of(paging: str, *, found: Read | None = None) -> RetryableError:
    """Read one job until it fails."""
    found = found or Read()
    (job,) = jobs_of(streams=[POISONED], paging=paging)

    async def reading() -> None:
        async with pages_of(job) as pages:
            async for page in pages:
                found.add(job, page)

    with pytest.raises(RetryableError) as raised:
        await reading()
    assert not found.rejects
    return raised.value


@pytest.mark.parametrize(
    ("paging", "ending"),
    [("export", ""), ("export", "export/jobs"), ("list", ""), ("list", "/jobs")],
)
async def test_a_site_that_is_down_is_no_fault_of_its_records(
    served: Serve, paging: str, ending: str
) -> None:
    server = served(tenant_with(30), service={"export_rows": 7})
    server.faults.only = lambda request: request.path.endswith(ending)
    server.faults.add("502:1")
    error = await failure_of(paging)
    assert isinstance(error, SourceUnavailableError)
    assert "502" in str(error)
    assert server.traffic.requests < 20


async def test_a_feed_is_not_gone_around_where_the_list_is_down(served: Serve) -> None:
    tenant = tenant_with(30)
    server = served(tenant, service={"export_rows": 7})
    poison(server, tenant, in_order(tenant)[12])
    server.faults.only = lambda request: "/export/" not in request.path
    server.faults.add("502:1")
    await failure_of("export")


async def test_a_site_that_was_down_for_a_while_is_followed_on_by_its_feed(served: Serve) -> None:
    server = served(tenant_with(30), service={"export_rows": 7})
    # As many as are asked for one answer.
    corrupt(server, after_success("/jobs", lambda: server.faults.add("502:1:5")))
    found = await read(jobs_of(streams=[POISONED]), patience=0)
    assert server.faults.injected["502"] == 5
    assert len(found.rows[POISONED]) == 30
    assert found.records.total() == 30
    assert not server.traffic.requested("/tenant/1234567/jobs")


@BOTH
@pytest.mark.parametrize("answered", range(2, 40, 5))
async def test_a_site_that_goes_down_meanwhile_makes_no_rejects(
    served: Serve, paging: str, answered: int
) -> None:
    tenant = tenant_with(30)
    server = served(tenant, service={"export_rows": 7}, SERVICETITAN_PAGE_SIZE="4")
    bad = in_order(tenant)[12]
    poison(server, tenant, bad)
    service: Any = server.service
    honest: Callable[[Request], Response] = service.answer
    count = [0]

    def answer(request: Request) -> Response:
        count[0] += 1
        return honest(request) if count[0] < answered else service.complain(500, "Down.")

    service.answer = answer
    found = Read()
    (job,) = jobs_of(streams=[POISONED], paging=paging)
    cursor: Any = None
    try:
        async with pages_of(job) as pages:
            async for page in pages:
                found.add(job, page)
                cursor = found.stream_cursors[POISONED][-1]
    except RetryableError:
        pass
    assert len(found.rejects) <= 1
    assert len(found.rows[POISONED]) < 30
    service.answer = honest
    async with pages_of(job, cursor) as pages:
        async for page in pages:
            found.add(job, page)
    assert set(found.rows[POISONED]) == ids(tenant, bad)
    assert len({str(reject.payload) for reject in found.rejects}) == 1


@BOTH
async def test_many_side_by_side_are_the_sites_fault(served: Serve, paging: str) -> None:
    tenant = tenant_with(60)
    server = served(tenant, service={"export_rows": 7})
    # Side by side by time and by id.
    rows = tenant.collections[POISONED].sorted("id")
    for row in rows:
        tenant.change(POISONED, row, at=row.created)
    poison(server, tenant, *rows[20:30])
    await failure_of(paging)


@BOTH
async def test_a_tenant_of_nothing_else_is_no_reason_for_a_reject(
    served: Serve, paging: str
) -> None:
    tenant = tenant_with(1)
    server = served(tenant)
    poison(server, tenant, *in_order(tenant))
    await failure_of(paging)
