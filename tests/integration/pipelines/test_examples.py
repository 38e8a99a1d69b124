"""The examples of whole pipelines run as they are written, but for their hosts."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from temporaletl import names
from temporaletl.warehouse.pipeline_decisions import record_decision
from temporaletl.worker.pipelines.documents import read_yaml
from temporaletl.worker.pipelines.messages import Decision
from tests.fakes.server import Request, Response
from tests.integration.pipelines.conftest import Pipelines
from tests.integration.pipelines.site import Site
from tests.integration.pipelines.test_waiting import waiting

pytestmark = pytest.mark.usefixtures("site")
_FOLDER = Path(__file__).parents[3] / "examples" / "pipelines"


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the examples name."""
    for name in ("SHOP", "CREW"):
        monkeypatch.setenv(f"PIPELINE_SECRET_{name}", f"canary-of-{name}")


def example(name: str, site: Site) -> dict[str, Any]:
    text = (_FOLDER / f"{name}.yaml").read_text("utf-8")
    for host in ("shop", "stock", "crew"):
        text = text.replace(f"https://{host}.example.com", site.url)
    document = read_yaml(text).value
    assert isinstance(document, dict)
    return document


def orders(request: Request) -> Response:
    """Two pages; of the three paid orders, one has an amount that is none."""
    if request.headers["authorization"] != "Bearer canary-of-SHOP":
        return Response.of({"error": "who are you?"}, 401)
    page = int(request.first("page", "1"))
    listed: list[dict[str, Any]] = [
        {"id": page, "status": "paid", "customer": {"name": " Ada "}, "amount": "12.50"},
        {"id": 10 + page, "status": "open", "customer": {"name": "Bob"}, "amount": "1"},
        {"id": 20, "status": "paid" if page == 1 else "open", "customer": {"name": ""}},
    ]
    times = {"placed_at": "2026-01-02T10:00:00Z"}
    amounts = {"amount": "a lot"}
    return Response.of(
        {
            "orders": [{**amounts, **one, **times} for one in listed],
            "next": None if page == 2 else f"/api/orders?page=2&since={request.first('since')}",
        }
    )


async def test_fetch_filter_load(pipelines: Pipelines, site: Site) -> None:
    site.routes["/api/orders"] = orders

    summary = await pipelines.run(example("fetch-filter-load", site), {"since": "2026-01-01"})

    assert summary.state == "completed"
    assert [one.first("since") for one in site.requests()] == ["2026-01-01"] * 2
    loaded = pipelines.result(summary, "load")
    assert (loaded["inserted"], loaded["rejected"]) == (2, 1)
    assert pipelines.services.rows("SELECT id, customer, amount FROM shop_orders ORDER BY id") == [
        (1, "Ada", Decimal("12.50")),
        (2, "Ada", Decimal("12.50")),
    ]


async def test_fetch_filter_load_where_the_shop_refuses(pipelines: Pipelines, site: Site) -> None:
    site.routes["/api/orders"] = lambda _: Response.of({"error": "closed"}, 403)

    summary = await pipelines.run(example("fetch-filter-load", site), {"since": "2026-01-01"})

    assert pipelines.states(summary) == {
        **dict.fromkeys(("paid", "rows", "load"), "skipped"),
        "fetch": "failed",
        "sorry": "completed",
    }
    assert "HTTP 403" in pipelines.result(summary, "sorry")["problem"]


@pytest.mark.parametrize(
    ("pieces", "decision", "ran"),
    [
        (30, None, {"stock", "level", "enough"}),
        (3, None, {"stock", "level", "tell"}),
        (0, "approved", {"stock", "level", "approve", "tell"}),
        (0, "rejected", {"stock", "level", "approve"}),
    ],
)
async def test_branch_with_webhook(
    pipelines: Pipelines, site: Site, pieces: int, decision: str | None, ran: set[str]
) -> None:
    site.routes["/articles/A-7"] = lambda _: Response.of({"pieces": pieces, "least": 20})
    site.routes["/hooks/stock"] = lambda _: Response(204)

    handle = await pipelines.start(example("branch-with-webhook", site), {"article": "A-7"})
    if decision is not None:
        execution = await waiting(pipelines.services.warehouse, handle, "approve")
        assert record_decision(pipelines.services.warehouse, execution, "approve", decision)
        await handle.signal(names.DECIDE, Decision(node="approve", outcome=decision))
    summary = await handle.result()

    states = pipelines.states(summary)
    assert {node for node, state in states.items() if state == "completed"} == ran
    told = site.requests("/hooks/stock")
    assert len(told) == ("tell" in ran)
    if told:
        assert told[0].json()["text"] == f"A-7: {pieces} pieces are left"
        assert told[0].headers["webhook-signature"].startswith("v1,")
