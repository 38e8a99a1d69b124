"""ServiceTitan's records in a real table: what is unchanged is not written again."""

from typing import Any

import pytest

from temporaletl import Row, TransformContext
from temporaletl.strategies import resolve
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.sources.servicetitan.query import ServiceTitanQuery
from tests.fakes.servicetitan import expected_counts, generate
from tests.integration.job_reading import Serve, pages_of
from tests.integration.loading.jobs import Job
from tests.integration.servicetitan_reading import STREAMS, jobs_of, served

__all__ = ["served"]


async def load(warehouse: Warehouse, stream: str, paging: str) -> dict[str, int]:
    """Load a whole stream, page by page, in a job of its own."""
    (planned,) = jobs_of(streams=[stream], paging=paging)
    strategies = resolve("servicetitan", stream)
    job = Job(warehouse, source="servicetitan", stream=stream, rows=strategies.rows)
    context = TransformContext(job=planned, query=ServiceTitanQuery(paging="export"))
    counts: dict[str, int] = {}
    async with pages_of(planned) as pages:
        async for page in pages:
            rows: list[Row] = []
            for record in page.records:
                rows += strategies.transform(record, context)  # type: ignore[arg-type]
            progress = job.load(*rows, at=page.extracted_at)
            counts = progress.rows.model_dump()
    with warehouse.connection() as connection:
        connection.execute("UPDATE etl_jobs SET state = 'completed'")
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize("stream", STREAMS)
async def test_a_reload_that_changes_nothing_writes_nothing(
    served: Serve, warehouse: Warehouse, stream: str
) -> None:
    tenant = generate(120, seed=1)
    tenant.withheld_seconds = 0
    served(tenant)
    assert await load(warehouse, stream, "export") == {"inserted": 120}
    written = written_to(warehouse, stream)
    assert await load(warehouse, stream, "export") == {"unchanged": 120}
    # Whichever way they come.
    assert await load(warehouse, stream, "list") == {"unchanged": 120}
    assert written_to(warehouse, stream) == written
    tenant.change(stream, tenant.collections[stream].sorted("id")[7], summary="new")
    assert await load(warehouse, stream, "export") == {"unchanged": 119, "updated": 1}


def written_to(warehouse: Warehouse, stream: str) -> list[Any]:
    with warehouse.connection() as connection:
        return connection.execute(
            f"SELECT st_id, xmin::text, updated_at FROM st_{stream} ORDER BY st_id"
        ).fetchall()


async def test_amounts_and_full_data_are_as_they_came(served: Serve, warehouse: Warehouse) -> None:
    tenant = generate(60, seed=2)
    served(tenant)
    await load(warehouse, "invoices", "export")
    with warehouse.connection() as connection:
        row: Any = connection.execute(
            "SELECT sum(total), sum((full_data->>'total')::numeric), count(*),"
            " count(*) FILTER (WHERE NOT active), max(modified_on) < now() FROM st_invoices"
        ).fetchone()
    counts = expected_counts(tenant)
    assert row == (counts.invoiced, counts.invoiced, 60, counts.inactive["invoices"], True)
