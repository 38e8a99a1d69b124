"""What a run could not read of ServiceTitan, and what asking again for it brings."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from temporaletl import ETLInput, PageRequest, Reject, Reread, Unread
from temporaletl.rereading import reread_method_of
from temporaletl.strategies import resolve
from temporaletl.worker.loading.rejects import storable_json
from temporaletl.worker.sources.servicetitan.extract import rereading
from tests.fakes.exchange import Request, Response
from tests.fakes.server import FakeServer
from tests.fakes.servicetitan import Tenant
from tests.integration.job_reading import Serve, read
from tests.integration.servicetitan_reading import (
    POISONED,
    in_order,
    jobs_of,
    poison,
    served,
    tenant_with,
)

__all__ = ["served"]

#: Importing it is what registers it.
REGISTERED = rereading
BOTH = pytest.mark.parametrize("paging", ["export", "list"])
STREAM = POISONED
LONG_AGO = datetime(2018, 1, 1, tzinfo=UTC)


def job_of(paging: str) -> ETLInput:
    (job,) = jobs_of("incremental", start=LONG_AGO, streams=[STREAM], paging=paging)
    return job


async def again(reject: Reject, job: ETLInput) -> Reread | None:
    """Ask again, from what the warehouse keeps of a reject."""
    ask = reread_method_of("servicetitan", STREAM)
    assert ask is not None
    query = resolve("servicetitan", STREAM).query.from_dict(job.params)
    payload: Any = json.loads(storable_json(reject.payload))
    return await ask(Unread(reject.key, payload), PageRequest(job=job, query=query, cursor=None))


async def unread_one(
    served: Serve, paging: str, *, deleted: bool = False, **settings: str
) -> tuple[Tenant, FakeServer, ETLInput, Reject]:
    """A tenant of which the record in place 20 was not read, and is well again."""
    tenant = tenant_with(60)
    bad = in_order(tenant)[20]
    bad.deleted = deleted
    server = served(tenant, service={"export_rows": 7}, **settings)
    poison(server, tenant, bad)
    job = job_of(paging)
    (reject,) = (await read([job])).rejects
    server.unservable.clear()
    return tenant, server, job, reject


def ids_of(reread: Reread | None) -> set[int]:
    assert reread is not None
    assert reread.fault is None
    return {record.body.id for record in reread.records}


@BOTH
@pytest.mark.parametrize("place", [0, 20, 59])
async def test_a_record_comes_as_soon_as_it_can_be_rendered(
    served: Serve, paging: str, place: int
) -> None:
    tenant = tenant_with(60)
    server = served(tenant, service={"export_rows": 7}, SERVICETITAN_PAGE_SIZE="7")
    bad = in_order(tenant)[place]
    poison(server, tenant, bad)
    job = job_of(paging)
    found = await read([job])
    for reject in found.rejects:
        still = await again(reject, job)
        assert still is not None
        assert still.fault
    server.unservable.clear()
    for reject in found.rejects:
        assert bad.id in ids_of(await again(reject, job))


@BOTH
async def test_a_record_that_changed_since_is_told_until_a_full_run_meets_it_no_more(
    served: Serve, paging: str
) -> None:
    tenant, _, job, reject = await unread_one(served, paging, SERVICETITAN_PAGE_SIZE="7")
    tenant.change(STREAM, in_order(tenant)[20])
    # By its place alone it is not told from one that is not shown to us any more.
    reread = await again(reject, job)
    assert reread is not None
    assert "shows nothing between the records around it" in str(reread.fault)


@pytest.mark.parametrize("order", ["kept", "ignored"])
async def test_what_a_list_counts_and_never_gives_is_told_until_it_gives_it(
    served: Serve, order: str
) -> None:
    tenant = tenant_with(60)
    server = served(tenant, service={"order": order}, SERVICETITAN_PAGE_SIZE="7")
    withheld = in_order(tenant)[20]
    if order == "kept":
        # More records of one time than a page holds are read by page numbers.
        for row in in_order(tenant)[15:30]:
            tenant.change(STREAM, row, at=withheld.modified)
    service: Any = server.service
    honest = service.answer

    def answer(request: Request) -> Response:
        response: Response = honest(request)
        if not request.path.endswith(f"/{STREAM}") or response.status != 200:
            return response
        body = json.loads(response.body)
        body["data"] = [each for each in body["data"] if each["id"] != withheld.id]
        return Response(200, json.dumps(body).encode())

    service.answer = answer
    job = job_of("list")
    found = await read([job])
    assert set(found.rows[STREAM]) == set(tenant.collections[STREAM].rows) - {withheld.id}
    reject = found.rejects[0]
    assert f"counts 1 more of the {STREAM} than it gave" in reject.reason
    reread = await again(reject, job)
    assert reread is not None
    assert "counts 1 more" in str(reread.fault)
    service.answer = honest
    assert withheld.id in ids_of(await again(reject, job))


async def test_what_the_feed_alone_tells_beside_it_comes_with_it(served: Serve) -> None:
    tenant = tenant_with(60)
    rows = in_order(tenant)
    gone = [rows[16], rows[18]]
    for row in gone:
        row.deleted = True
    server = served(tenant, service={"export_rows": 7})
    poison(server, tenant, rows[17])
    job = job_of("export")
    found = await read([job])
    assert found.rows[STREAM].keys() & {row.id for row in gone} != {row.id for row in gone}
    server.unservable.clear()
    (reject,) = found.rejects
    come = ids_of(await again(reject, job))
    missing = {row.id for row in rows} - found.rows[STREAM].keys()
    assert rows[17].id in missing
    assert missing <= come


async def test_a_deleted_record_that_the_feed_could_not_give_comes_as_well(served: Serve) -> None:
    tenant, _, job, reject = await unread_one(served, "export", deleted=True)
    assert in_order(tenant)[20].id in ids_of(await again(reject, job))


async def test_a_token_that_is_no_longer_known_leaves_it_to_a_full_run(served: Serve) -> None:
    tenant, server, job, reject = await unread_one(served, "export")
    service: Any = server.service
    service.feed_tokens_expired = True
    reread = await again(reject, job)
    assert reread is not None
    assert "a full run reads it" in (reread.fault or "")
    assert in_order(tenant)[20].id in {record.body.id for record in reread.records}


@BOTH
async def test_a_record_that_could_not_be_decoded_is_asked_for_by_its_id(
    served: Serve, paging: str
) -> None:
    tenant = tenant_with(60)
    bad = in_order(tenant)[20]
    tenant.change(STREAM, bad, at=bad.modified, total="much")
    server = served(tenant, service={"export_rows": 7}, SERVICETITAN_PAGE_SIZE="7")
    job = job_of(paging)
    (reject,) = (await read([job])).rejects
    still = await again(reject, job)
    assert still is not None
    assert "$.total" in (still.fault or "")
    tenant.change(STREAM, bad, at=bad.modified, total=12)
    server.traffic.clear()
    assert ids_of(await again(reject, job)) == {bad.id}
    assert server.traffic.requested("/jobs")[-1].request.first("ids") == str(bad.id)


async def test_what_nothing_is_known_of_cannot_be_asked_for(served: Serve) -> None:
    served(tenant_with(3))
    for payload in (None, 5, "nonsense", {"name": "A"}, [1]):
        assert (
            await again(Reject(stage="extract", reason="?", payload=payload), job_of("list"))
            is None
        )


@BOTH
async def test_a_site_that_is_down_settles_nothing(served: Serve, paging: str) -> None:
    _, server, job, reject = await unread_one(served, paging)
    server.faults.add("502:1")
    reread = await again(reject, job)
    assert reread is not None
    assert "502" in (reread.fault or "")
