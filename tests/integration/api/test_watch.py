"""Freshness, notifications and health: over HTTP, of runs in Temporal, and with parts that hang."""

import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
import pytest_asyncio
import requests
from temporalio.client import (
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleSpec,
    ScheduleState,
)

from temporaletl import names
from temporaletl.control.operations.freshness import StreamFreshness, freshness
from temporaletl.control.operations.health import WITHIN, Health, check_health
from temporaletl.control.operations.platform import Platform
from temporaletl.messages import QueuerInput
from temporaletl.queuer.scheduling import calendar
from temporaletl.settings.platform import TemporalSettings
from tests.far_times import FAR_DAY, FAR_DAY_NAME
from tests.integration.api.in_process import (
    Served,
    platform_of,
    schema_of,
    serving,
    warehouse_settings,
)
from tests.integration.flows.services import Services, running
from tests.integration.tcp_relay import TcpRelay
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until
from tests.webhooks import Webhooks, running_webhooks

_WITHIN_SECONDS = 180


@dataclass(frozen=True)
class Stack:
    """Both services, and the API in this process; its first destination fails."""

    services: Services
    webhooks: Webhooks
    clients: dict[str, Served]
    url: str

    async def __call__(
        self, method: str, path: str, scope: str = "operate", **more: Any
    ) -> requests.Response:
        return await self.clients[scope](method, path, **more)

    async def part(self, name: str) -> dict[str, Any]:
        parts = (await self("GET", "/health")).json()["parts"]
        [found] = [part for part in parts if part["name"] == name]
        return dict(found)

    def new_platform(self, **temporal: str) -> Platform:
        """A platform of its own, whose Temporal has other settings."""
        like = platform_of(self.services, self.url)
        settings = TemporalSettings.model_validate(like.settings.model_dump() | temporal)
        return Platform(settings, like.warehouse_settings)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(temporal_server: TemporalServer, postgres_url: str) -> AsyncGenerator[Stack]:
    with running_webhooks() as webhooks, pytest.MonkeyPatch.context() as environment:
        urls = f"{webhooks.url('/500/bad')},{webhooks.url('/200/good')}"
        environment.setenv("NOTIFY_URLS", urls)
        async with (
            schema_of(postgres_url) as warehouse,
            running(temporal_server.client, warehouse, segment_seconds=1) as services,
            serving(platform_of(services, postgres_url), services) as one,
        ):
            clients = {
                "read": await one.token_of("read", "read"),
                "operate": await one.token_of("operate", "operate"),
            }
            yield Stack(services, webhooks, clients, postgres_url)


@asynccontextmanager
async def scheduled(stack: Stack, *, paused: bool = False) -> AsyncGenerator[None]:
    """A schedule of the source of numbers, whose first run is days away."""
    action = ScheduleActionStartWorkflow(
        names.QUEUER_FLOW,
        QueuerInput(source="numbers"),
        id=names.ScheduleKey("numbers").workflow_id,
        task_queue=stack.services.queue,
    )
    made = await stack.services.client.create_schedule(
        names.ScheduleKey("numbers").id,
        Schedule(
            action=action,
            spec=ScheduleSpec(calendars=[calendar(FAR_DAY, "3")]),
            state=ScheduleState(paused=paused),
        ),
    )
    try:
        yield
    finally:
        await made.delete()


async def test_a_destination_that_fails_neither_fails_nor_repeats_a_run_and_is_shown(
    stack: Stack,
) -> None:
    summary = await stack.services.run(size=5)
    assert (summary.state, summary.records) == ("completed", 5)

    async def is_sent() -> bool:
        answer = await stack("GET", "/api/v1/notifications?state=sent", "read")
        return any(one["event_key"] == key for one in answer.json()["items"])

    key = f"finished:{summary.batch_id}"
    await until(is_sent, within_seconds=_WITHIN_SECONDS)
    posts = [post for post in stack.webhooks.posts if post.headers["webhook-id"] == key]
    assert [post.path for post in posts if "good" in post.path] == ["/200/good"]
    found = (await stack("GET", "/api/v1/notifications?limit=200", "read")).json()["items"]
    states = {one["destination"]: one["state"] for one in found if one["event_key"] == key}
    assert states == {"NOTIFY_URLS.1": "pending", "NOTIFY_URLS.2": "sent"}

    async def is_shown() -> bool:
        return bool((await stack.part("notifications"))["verdict"] == "degraded")

    await until(is_shown, within_seconds=_WITHIN_SECONDS)
    part = await stack.part("notifications")
    assert part["detail"].startswith("NOTIFY_URLS.1 answered 500 (")
    listed = (await stack("GET", "/api/v1/notifications/destinations", "read")).json()["items"]
    assert {one["name"]: one["error"] for one in listed} == {
        "NOTIFY_URLS.1": "answered 500",
        "NOTIFY_URLS.2": None,
    }
    assert stack.webhooks.url("") not in str([found, part, listed])


async def test_a_test_is_sent_to_one_destination_or_to_all_and_is_in_the_audit(
    stack: Stack,
) -> None:
    path = "/api/v1/notifications/test"
    before = await _tests_in_audit(stack)
    assert (await stack("POST", path, "read", json={})).status_code == 403
    assert (await stack("POST", path, json={"destination": "x"})).status_code == 404
    assert (await stack("POST", path, json={"place": "x"})).status_code == 422
    one = await stack("POST", path, json={"destination": "NOTIFY_URLS.2"})
    assert one.json() == {
        "results": [{"destination": "NOTIFY_URLS.2", "sent": True, "error": None}]
    }
    both = (await stack("POST", path, json={})).json()["results"]
    assert [(result["sent"], result["error"]) for result in both] == [
        (False, "answered 500"),
        (True, None),
    ]
    assert await _tests_in_audit(stack) == ["token:operate"] * 2 + before


async def _tests_in_audit(stack: Stack) -> list[str]:
    """Who sent tests."""
    audit = (await stack("GET", "/api/v1/audit?limit=200", "read")).json()["items"]
    return [entry["actor"] for entry in audit if entry["action"] == "notification.test"]


async def test_notifications_are_listed_page_by_page(stack: Stack) -> None:
    for _ in range(2):
        await stack("POST", "/api/v1/notifications/test", json={})
    whole = (await stack("GET", "/api/v1/notifications?limit=200", "read")).json()["items"]
    listed: list[dict[str, Any]] = []
    path: str | None = "/api/v1/notifications?limit=3"
    while path is not None:
        answer = await stack("GET", path, "read")
        listed += answer.json()["items"]
        path = answer.links["next"]["url"] if answer.links else None
    keys = [(one["event_key"], one["destination"]) for one in listed]
    assert len(keys) == len(set(keys))
    assert {(one["event_key"], one["destination"]) for one in whole} <= set(keys)
    for wrong in ("after=nonsense", "state=lost", "limit=0"):
        answer = await stack("GET", f"/api/v1/notifications?{wrong}", "read")
        assert answer.status_code == 422, wrong


async def test_freshness_over_http_says_how_each_stream_was_judged(stack: Stack) -> None:
    await stack.services.run("incremental", size=5)
    entry: dict[str, Any] = {}

    async def is_not_judged() -> bool:
        answer = await stack("GET", "/api/v1/freshness?source=numbers", "read")
        assert (answer.status_code, answer.json()["as_of"] is not None) == (200, True)
        entry.update(*answer.json()["entries"])
        return bool(entry["origin"] == "no ETL_FRESH_WITHIN_HOURS, and no schedule")

    # A schedule that was deleted is listed for a moment.
    await until(is_not_judged, within_seconds=_WITHIN_SECONDS)
    assert (entry["state"], entry["late"]) == ("not judged", False)
    assert entry["origin"] == "no ETL_FRESH_WITHIN_HOURS, and no schedule"
    assert entry["loaded_until"] is not None
    none = await stack("GET", "/api/v1/freshness?state=late", "read")
    assert none.json()["entries"] == []
    assert (await stack("GET", "/api/v1/freshness?state=odd", "read")).status_code == 422


async def test_a_schedule_is_a_bound(stack: Stack) -> None:
    await stack.services.run("incremental", size=5)
    found: list[StreamFreshness] = []

    async def is_fresh() -> bool:
        async with stack.new_platform() as platform:
            found[:] = (await freshness(platform)).entries
        return found[0].state == "fresh"

    async with scheduled(stack):
        await until(is_fresh)
    [entry] = found
    assert entry.origin == "the schedule, and an allowance of 60 min"
    assert entry.due_at is not None
    assert entry.loaded_until is not None
    assert f"{entry.due_at:%a %H:%M}" == f"{FAR_DAY_NAME} 04:00"
    assert timedelta(0) < entry.due_at - entry.loaded_until < timedelta(weeks=1)


async def test_a_paused_schedule_is_no_bound(stack: Stack) -> None:
    async def is_paused() -> bool:
        async with stack.new_platform() as platform:
            [entry] = (await freshness(platform)).entries
        return (entry.state, entry.due_at, "paused" in entry.cause) == ("not judged", None, True)

    await stack.services.run("incremental", size=5)
    async with scheduled(stack, paused=True):
        # One that was deleted before is listed for a moment.
        await until(is_paused)


def verdicts(health: Health) -> dict[str, str]:
    return {part.name: part.verdict for part in health.parts}


async def test_services_that_nobody_waits_for_are_no_fault_and_those_of_a_schedule_are(
    stack: Stack,
) -> None:
    nobody = {"queuer_queue": "nobody", "worker_queue": "nobody-etl"}
    seen: dict[str, tuple[str, str]] = {}

    async def are(verdict: str) -> bool:
        async with stack.new_platform(**nobody) as platform:
            health = await check_health(platform)
        seen.update((part.name, (part.verdict, part.detail)) for part in health.parts)
        return {seen[name][0] for name in ("queuer", "worker")} == {verdict}

    async def nothing_is_scheduled() -> bool:
        return await are("ok") and seen["schedules"] == ("ok", "nothing is scheduled")

    # A busy server answers too late for one look, and lists what was deleted for a moment.
    await until(nothing_is_scheduled)
    async with scheduled(stack):
        await until(lambda: are("down"))
    assert seen["queuer"][1].startswith("no queuer polls task queue nobody: ")


async def test_health_names_every_part_over_http(stack: Stack) -> None:
    found: dict[str, str] = {}
    parts = [
        *("warehouse", "migrations", "temporal", "queuer", "worker", "local engine"),
        *("oldest waiting job", "schedules"),
    ]

    async def all_are_well() -> bool:
        answer = await stack("GET", "/health")
        found.update({part["name"]: part["verdict"] for part in answer.json()["parts"]})
        assert found.pop("notifications") in ("ok", "degraded")
        return found == dict.fromkeys(parts, "ok")

    # A schedule that was deleted is listed for a moment.
    await until(all_are_well, within_seconds=_WITHIN_SECONDS)
    for probe in ("live", "ready", "temporal"):
        assert (await stack("GET", f"/health/{probe}")).status_code == 200


async def timed(platform: Platform) -> Health:
    began = monotonic()
    health = await check_health(platform)
    # Each look at what hangs ends by itself; without that, none would.
    assert monotonic() - began < WITHIN.total_seconds() + 10
    return health


async def test_health_answers_in_time_while_the_warehouse_hangs(
    stack: Stack, postgres_url: str
) -> None:
    with TcpRelay(postgres_url) as relay:
        settings = warehouse_settings(relay.url, stack.services.warehouse.schema)
        platform = Platform(stack.new_platform().settings, settings)
        assert verdicts(await timed(platform))["warehouse"] == "ok"
        relay.freeze(admitting=False)
        for _ in range(2):
            found = verdicts(await timed(platform))
            assert found["warehouse"] == "down"
            assert found["temporal"] == "ok"
            assert found["migrations"] == found["oldest waiting job"] == "unknown"
    await platform.__aexit__(None, None, None)


async def test_health_answers_in_time_while_temporal_hangs(stack: Stack) -> None:
    # It takes connections, and says nothing.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        async with stack.new_platform(address=address) as platform:
            found = verdicts(await timed(platform))
    assert (found["warehouse"], found["temporal"]) == ("ok", "down")
    assert found["queuer"] == found["worker"] == "unknown"
