"""Pipelines started by webhooks: by who has signed, once for each event, and by nobody else."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
import requests

from temporaletl.webhook_signatures import signature
from tests.integration.api.in_process import Served, platform_of, schema_of, serving
from tests.integration.flows.services import running
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until

OLD, NEW = "whsec_b2xkIGtleSBvZiBhIHNob3A=", "a new key of the shop"
HOOK = "/api/v1/pipelines/orders/webhook"
ORDERS = {
    "webhook": {"signing_secrets": ["shop.new", "shop.old"]},
    "nodes": [
        {
            "id": "told",
            "type": "transform",
            "data": {"transform_type": "mapping", "mapping": {"n": "trigger.n * 2"}},
        }
    ],
}


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of the API, which nodes may send requests to; and the secrets."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        found: int = probe.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIPELINE_SECRET_SHOP_NEW", NEW)
        patch.setenv("PIPELINE_SECRET_SHOP_OLD", OLD)
        patch.setenv("PIPELINE_ALLOWED_NETWORKS", "127.0.0.0/8")
        patch.setenv("PIPELINE_ALLOWED_PORTS", str(found))
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def served(
    port: int, temporal_server: TemporalServer, postgres_url: str
) -> AsyncGenerator[Served]:
    async with (
        schema_of(postgres_url) as warehouse,
        running(temporal_server.client, warehouse) as services,
        serving(
            platform_of(services, postgres_url), services, port=port, requests_per_minute=300
        ) as one,
    ):
        operator = await one.token_of("operate")
        await operator("PUT", "/api/v1/pipelines/orders", json={"definition": ORDERS})
        await operator("PUT", "/api/v1/pipelines/closed", json={"definition": unsigned()})
        yield operator


def unsigned() -> dict[str, Any]:
    return {name: part for name, part in ORDERS.items() if name != "webhook"}


def signed(
    event: str, body: bytes, *, key: bytes = NEW.encode(), ago: float = 0, **changed: str
) -> dict[str, str]:
    at = int(time.time() - ago)
    return {
        "Content-Type": "application/json",
        "webhook-id": event,
        "webhook-timestamp": str(at),
        "webhook-signature": signature(key, event, at, body),
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }


async def sent(
    served: Served, body: bytes, headers: dict[str, str], path: str = HOOK
) -> requests.Response:
    """What a client without a token is answered."""
    return await replace(served, headers={})("POST", path, data=body, headers=headers)


async def executions(served: Served) -> list[dict[str, Any]]:
    path = "/api/v1/workflow/executions?pipeline=orders&limit=500"
    items: list[dict[str, Any]] = (await served("GET", path)).json()["items"]
    return items


async def result(served: Served, execution: str, node: str = "told") -> Any:
    path = f"/api/v1/workflow/executions/{execution}/nodes/{node}/result"

    async def is_there() -> bool:
        return (await served("GET", path)).status_code == 200

    await until(is_there)
    return (await served("GET", path)).json()["value"]


async def test_an_event_that_comes_fifty_times_at_once_is_executed_once(served: Served) -> None:
    body = b'{"n": 21}'
    known = len(await executions(served))
    answers = await asyncio.gather(
        *(sent(served, body, signed("evt_fifty", body)) for _ in range(50))
    )

    assert {one.status_code for one in answers} == {202}
    [execution] = {one.json()["execution_id"] for one in answers}
    assert [one.json()["again"] for one in answers].count(False) == 1
    assert await result(served, execution) == {"n": 42}
    assert len(await executions(served)) == known + 1
    started = next(one for one in await executions(served) if one["execution_id"] == execution)
    assert (started["started_how"], started["started_by"]) == ("webhook", "webhook:orders")
    audit = (await served("GET", "/api/v1/audit?limit=200")).json()["items"]
    rows = [one for one in audit if one["target"] == execution]
    assert [(one["action"], one["actor"]) for one in rows] == [
        ("execution.start", "webhook:orders")
    ]


async def test_either_secret_signs_until_the_old_one_is_taken_away(served: Served) -> None:
    old = b"old key of a shop"
    both = signature(b"wrong", "evt_both", int(time.time()), b"{}")
    good = signed("evt_both", b'{"n": 1}', key=old)
    good["webhook-signature"] = f"{both} {good['webhook-signature']} v1a,AAAA"
    assert (await sent(served, b'{"n": 1}', good)).status_code == 202
    definition = {**ORDERS, "webhook": {"signing_secrets": ["shop.new"]}}
    await served("PUT", "/api/v1/pipelines/orders", json={"definition": definition})
    try:
        late = signed("evt_late", b'{"n": 1}', key=old)
        assert (await sent(served, b'{"n": 1}', late)).status_code == 401
    finally:
        await served("PUT", "/api/v1/pipelines/orders", json={"definition": ORDERS})


async def test_what_proves_nothing_is_answered_alike_and_harms_nobody(served: Served) -> None:
    body = b'{"n": 1}'
    good = signed("evt_wrong", body)
    strange = {**good, "webhook-signature": "v1,\xff\xfe"}
    cases = [
        (HOOK, body, {"Content-Type": "application/json"}),
        (HOOK, body, signed("evt_wrong", body, key=b"another")),
        (HOOK, b'{"n": 2}', good),
        (HOOK, body, {**good, "webhook-id": "evt_other"}),
        (HOOK, body, {**good, "webhook-signature": good["webhook-signature"][3:]}),
        (HOOK, body, {**good, "webhook-signature": bytes.fromhex("ff").decode("latin-1")}),
        (HOOK, body, strange),
        (HOOK, body, {**good, "webhook-timestamp": "0" + good["webhook-timestamp"]}),
        (HOOK, body, {**good, "webhook-timestamp": "1e9"}),
        (HOOK, body, signed("evt_wrong", body, ago=301)),
        (HOOK, body, signed("evt_wrong", body, ago=-302)),
        (HOOK, b"1700000000.5", signed("evt_wrong", b"1700000000.5")),
        (HOOK, body, signed("x" * 201, body)),
        (HOOK.replace("orders", "never"), body, good),
        (HOOK.replace("orders", "closed"), body, signed("evt_wrong", body, key=b"")),
    ]
    known = len(await executions(served))
    said = set()
    for path, sent_body, headers in cases:
        answer = await sent(served, sent_body, headers, path)
        problem = answer.json()
        assert len(problem.pop("request_id")) == 32
        assert answer.headers["content-type"] == "application/problem+json"
        said.add((answer.status_code, json.dumps(problem, sort_keys=True)))
    assert len(said) == 1
    assert {status for status, _ in said} == {401}
    assert len(await executions(served)) == known
    flood = (sent(served, body, signed("evt_wrong", body, key=b"another")) for _ in range(320))
    assert {one.status_code for one in await asyncio.gather(*flood)} == {401}
    assert (await served("GET", "/api/v1/pipelines/orders")).status_code == 200
    assert (await sent(served, body, signed("evt_after", body))).status_code == 202


async def test_a_body_is_bounded_and_json_whoever_signs_it(served: Served) -> None:
    large = b'{"n": "' + b"x" * 300_000 + b'"}'
    for body, changed, status in (
        (large, {}, 413),
        (b'{"n": 1}', {"Content-Type": "text/plain"}, 415),
        (b"[" * 40 + b"]" * 40, {}, 422),
        (b'{"n": NaN}', {}, 422),
        (b'{"n": "\xff"}', {}, 422),
        (b"", {}, 422),
    ):
        answer = await sent(served, body, {**signed("evt_body", body), **changed})
        assert answer.status_code == status, (body[:20], answer.text)
    with socket.create_connection(("127.0.0.1", int(served.address.rpartition(":")[2]))) as wire:
        head = f"POST {HOOK} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        wire.sendall(f"{head}Content-Length: 1000000000\r\n\r\n".encode())
        wire.settimeout(120)
        assert (await asyncio.to_thread(wire.recv, 12)) == b"HTTP/1.1 413"


async def test_a_pipeline_starts_another_over_http(served: Served) -> None:
    asking = {
        "id": "größe.1",
        "type": "webhook",
        "data": {
            "url": f"{served.address}{HOOK}",
            "payload": {"n": "{{ trigger.n }}"},
            "signing_secret": "shop.old",
        },
    }
    wanted = {"definition": {"nodes": [asking]}, "input": {"n": 3}}
    started = (await served("POST", "/api/v1/workflow/execute/", json=wanted)).json()

    assert await result(served, started["execution_id"], "größe.1") == {"status": 202}
    [other] = [
        one
        for one in await executions(served)
        if one["started_how"] == "webhook"
        and one["created_at"] == max(each["created_at"] for each in await executions(served))
    ]
    assert await result(served, other["execution_id"]) == {"n": 6}


async def test_one_that_names_a_secret_that_is_not_there_ends_as_failed(served: Served) -> None:
    asking = {
        "id": "ask",
        "type": "api_call",
        "data": {
            "url": "https://api.test",
            "headers": {"Authorization": "Bearer {{ secret('nowhere') }}"},
        },
    }
    definition = {"nodes": [asking]}
    checked = await served("POST", "/api/v1/workflow/validate/", json={"definition": definition})
    [warning] = checked.json()["faults"]
    wanted = {"definition": definition}
    started = (await served("POST", "/api/v1/workflow/execute/", json=wanted)).json()

    assert (checked.json()["valid"], warning["warning"], warning["column"]) == (True, True, 8)

    async def ended() -> bool:
        path = f"/api/v1/workflow/status/{started['execution_id']}"
        found = (await served("GET", path)).json()
        return found["state"] == "failed" and "there is no secret 'nowhere'" in found["error"]

    await until(ended)
