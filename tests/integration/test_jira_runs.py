"""Source `jira`, run after run: what an incremental run requests, and what of it at once."""

from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from temporaletl import CredentialsError
from temporaletl.engine.batch import run_batch
from temporaletl.engine.limits import EngineLimits
from temporaletl.warehouse.connection import Warehouse
from tests.fakes.jira import generate
from tests.fakes.jira.service import JiraService
from tests.fakes.server import FakeServer
from tests.integration.job_reading import Serve, hold_until_in_flight
from tests.integration.test_jira_source import BOTH, served

__all__ = ["served"]

Run = Callable[[], Awaitable[Counter[str]]]
ACCOUNT = {"myself": 1, "mypermissions": 1}


async def loaded(
    warehouse: Warehouse, served: Serve, personality: str
) -> tuple[FakeServer, Run, Callable[[], None]]:
    """A site that was loaded in full, what runs it incrementally, and what changes an issue.

    A run tells what was requested, by the last part of the path.
    """
    site = generate(60, seed=3, personality=personality)
    server = served(site)
    limits = EngineLimits()

    async def run() -> Counter[str]:
        server.traffic.clear()
        try:
            done = await run_batch(warehouse, "jira", mode="incremental", limits=limits)
            assert done.state == "completed"
        finally:
            asked = server.traffic.requested()
        return Counter(each.request.path.rpartition("/")[2] for each in asked)

    def change() -> None:
        site.edit.touch(site.rows[0].id)

    await run_batch(warehouse, "jira", mode="full", limits=limits)
    return server, run, change


@BOTH
async def test_a_run_with_nothing_new_costs_five_requests(
    warehouse: Warehouse, served: Serve, personality: str
) -> None:
    _, run, _ = await loaded(warehouse, served, personality)
    await run()
    assert await run() == ACCOUNT | (
        {"tenant_info": 1, "search": 1, "jql": 1}
        if personality == "cloud"
        else {"manifest": 1, "project": 1, "search": 1}
    )


@BOTH
async def test_all_that_planning_requests_is_requested_at_once_where_the_login_is_known(
    warehouse: Warehouse, served: Serve, personality: str
) -> None:
    server, run, change = await loaded(warehouse, served, personality)
    change()
    await run()
    # The account, its view and site, two pages of people, and what is new.
    together = hold_until_in_flight(server, 7)
    requested = await run()
    assert together.is_set()
    assert "approximate-count" not in requested


async def test_a_first_load_is_planned_beside_the_view_once_the_account_is_known(
    warehouse: Warehouse, served: Serve
) -> None:
    server = served(generate(60, seed=3, personality="cloud"))
    # The view and the site, the people, how many issues there are, the first and the last.
    together = hold_until_in_flight(server, 6, passing=("myself", "serverInfo"))
    await run_batch(warehouse, "jira", mode="full", limits=EngineLimits())
    assert together.is_set()


async def test_a_login_that_is_refused_is_tried_alone_from_then_on(
    warehouse: Warehouse, served: Serve
) -> None:
    server, run, _ = await loaded(warehouse, served, "cloud")
    assert isinstance(server.service, JiraService)
    server.service.lapsed = True
    for _ in range(2):
        with pytest.raises(CredentialsError):
            await run()
    asked = server.traffic.requested()
    assert {each.request.path.rpartition("/")[2] for each in asked} == {"myself"}
    assert server.traffic.most_in_flight == 1


@pytest.mark.parametrize("fault", ["503:1", "empty-object:1"])
async def test_where_ids_cannot_be_counted_issues_are_loaded_all_the_same(
    warehouse: Warehouse, served: Serve, fault: str
) -> None:
    server, run, change = await loaded(warehouse, served, "cloud")
    change()
    server.faults.only = lambda request: "maxResults=500" in request.target
    server.faults.add(fault)
    requested = await run()
    assert requested["approximate-count"] == 1
    assert requested["jql"] > 1
