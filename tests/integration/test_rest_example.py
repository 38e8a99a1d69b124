"""The help desk of the guide: a table of its own, and a list below each record of another."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

import tests.examples.helpdesk  # noqa: F401 - registers the source
from temporaletl.engine import EngineLimits, run_batch
from temporaletl.external.rest import close_apis
from temporaletl.messages import BatchSummary, RunPolicy
from temporaletl.warehouse.connection import Warehouse
from tests.fakes.exchange import Request, Response
from tests.fakes.faults import Faults
from tests.fakes.server import FakeServer

TICKETS = range(1, 6)
LIMITS = EngineLimits(policy=RunPolicy(max_attempts=1))


class Desk:
    """Serves tickets two at a time, and of each as many comments as its number says."""

    def __init__(self) -> None:
        self.own_faults: dict[str, str] = {}
        self.time = "changed_at"

    def bind(self, base_url: str, faults: Faults) -> None: ...

    def refuse(self, status: int) -> Response:
        return Response.of({}, status)

    def answer(self, request: Request) -> Response:
        _, *parts = request.path.split("/")
        size = int(request.first("per_page", "1"))
        start = (int(request.first("page", "1")) - 1) * size
        if parts == ["tickets"]:
            since = request.first("since", "")
            found = [t for t in map(self._ticket, TICKETS) if t.get("changed_at", "x") >= since]
            return Response.of({"tickets": found[start : start + size]})
        number = int(parts[1])
        comments = [_comment(number, place) for place in range(number)]
        return Response.of({"comments": comments[start : start + size]})

    def _ticket(self, number: int) -> dict[str, Any]:
        at = f"2025-01-0{number}T00:00:00Z"
        return {
            "id": number,
            "title": f"Ticket {number}",
            "state": "open",
            "opened_at": at,
            "labels": ["printer"],
            self.time: at,
        }


def _comment(ticket: int, place: int) -> dict[str, Any]:
    at = f"2025-01-0{ticket}T00:0{place}:00Z"
    return {"id": 10 * ticket + place, "ticket_id": ticket, "author": "ann", "written_at": at}


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    desk = Desk()
    with FakeServer(desk) as server:
        monkeypatch.setenv("HELPDESK_URL", server.url)
        monkeypatch.setenv("HELPDESK_TOKEN", "any-token-at-all")
        monkeypatch.setenv("HELPDESK_PAGE_SIZE", "2")
        yield desk
        close_apis()


async def load(warehouse: Warehouse) -> BatchSummary:
    async with asyncio.timeout(120):
        return await run_batch(warehouse, "helpdesk", mode="full", limits=LIMITS)


def select(warehouse: Warehouse, statement: bytes) -> list[tuple[Any, ...]]:
    with warehouse.connection() as connection:
        return connection.execute(statement).fetchall()


@pytest.mark.usefixtures("desk")
async def test_tickets_get_a_table_and_their_comments_are_events(warehouse: Warehouse) -> None:
    summary = await load(warehouse)
    assert (summary.state, summary.notes) == ("completed", ())
    rows = select(
        warehouse, b"SELECT ticket_id, title, opened_at, labels FROM helpdesk_tickets ORDER BY 1"
    )
    assert rows == [
        (number, f"Ticket {number}", datetime(2025, 1, number, tzinfo=UTC), ["printer"])
        for number in TICKETS
    ]
    events = select(warehouse, b"SELECT event_id, parent_item_id FROM events ORDER BY 1")
    assert events == [
        (f"ticket:{number}:comment:{10 * number + place}", str(number))
        for number in TICKETS
        for place in range(number)
    ]


async def test_a_run_says_that_no_record_has_the_field_of_time(
    desk: Desk, warehouse: Warehouse
) -> None:
    desk.time = "updated_at"
    summary = await load(warehouse)
    assert summary.state == "completed"
    told = "helpdesk: tickets: no record has a time at 'changed_at', by which the list is read: "
    assert {noted.note for noted in summary.notes} == {f"{told}does `time` name the field?"}
