"""`/codec`: for Temporal's UI and command line, and for whoever may decrypt."""

import base64
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio
from google.protobuf.json_format import MessageToDict
from temporalio.api.common.v1 import Payload

from temporaletl.control.api.access import COOKIE
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.tokens import log_in
from temporaletl.settings.platform import TemporalSettings
from temporaletl.temporal.payload_keys import generate_key
from temporaletl.warehouse.audit import read_audit
from tests.integration.api.in_process import Served, schema_of, serving, warehouse_settings

DECODE, ENCODE = "/api/v1/codec/decode", "/api/v1/codec/encode"
UI = "https://temporal.example.com"
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"text"')


@pytest_asyncio.fixture
async def codec(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Served]:
    """The client of a token that may decrypt."""
    monkeypatch.setenv("ETL_PAYLOAD_KEYS", f"k1:{generate_key()}")
    temporal = TemporalSettings.model_validate({"ui_address": f"{UI}/ui/"})
    async with schema_of(postgres_url) as warehouse:
        platform = Platform(temporal, warehouse_settings(postgres_url, warehouse.schema))
        async with serving(platform) as one:
            yield await one.token_of("decrypt", "ui")


def body(*payloads: Payload) -> dict[str, Any]:
    return {"payloads": [MessageToDict(payload) for payload in payloads]}


async def encrypted(codec: Served) -> dict[str, Any]:
    answer = await codec("POST", ENCODE, json=body(PLAIN))
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_payloads_are_decrypted_and_the_audit_says_so(codec: Served) -> None:
    sealed = await encrypted(codec)
    [metadata] = [one["metadata"] for one in sealed["payloads"]]
    assert base64.b64decode(metadata["encryption-key-id"]) == b"k1"
    both = {"payloads": [*sealed["payloads"], *body(PLAIN)["payloads"]]}
    answer = await codec("POST", DECODE, json=both, headers={"X-Namespace": "shop"})
    assert answer.json() == body(PLAIN, PLAIN)
    entry = read_audit(await codec.platform.warehouse(), limit=1).entries[0]
    assert (entry.actor, entry.action, entry.target, entry.details) == (
        *("token:ui", "payload.decode", "shop"),
        {"payloads": 1},
    )


async def test_what_cannot_be_decrypted_is_said(codec: Served) -> None:
    [sealed] = (await encrypted(codec))["payloads"]
    for change, code in (
        ({"data": base64.b64encode(b"x" * 40).decode()}, "undecryptable-payload"),
        (
            {"metadata": {**sealed["metadata"], "encryption-key-id": "azk="}},
            "missing-payload-key",
        ),
    ):
        answer = await codec("POST", DECODE, json={"payloads": [{**sealed, **change}]})
        assert (answer.status_code, answer.json()["code"]) == (422, code)


@pytest.mark.parametrize("path", [DECODE, ENCODE, "/api/v1/runs"])
@pytest.mark.parametrize("origin", [UI, "https://elsewhere.example.com", f"{UI}.evil.com"])
async def test_only_pages_of_the_ui_may_ask_and_for_nothing_else(
    codec: Served, path: str, origin: str
) -> None:
    may = origin == UI and path in (DECODE, ENCODE)
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    before = await codec("OPTIONS", path, headers=asked)
    cross = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    answer = await codec("POST", path, headers=cross, json=body(PLAIN))
    assert answer.status_code == (200 if may else 403)
    for one in (before, answer):
        assert one.headers.get("Access-Control-Allow-Origin") == (UI if may else None)
    if may:
        assert before.status_code == 204
        allowed = before.headers["Access-Control-Allow-Headers"]
        assert {*allowed.split(", ")} == {"authorization", "content-type", "x-namespace"}


async def test_a_log_in_is_taken_from_pages_of_the_ui_alone(codec: Served) -> None:
    token = codec.headers["Authorization"].removeprefix("Bearer ")
    login = await log_in(codec.platform, token)
    asking = {"Cookie": f"{COOKIE}={login.value.get_secret_value()}", "Authorization": ""}
    for headers, status in (
        ({**asking, "Origin": UI}, 200),
        (asking, 401),
        ({"Origin": UI, "Authorization": ""}, 401),
        ({**asking, "Origin": UI, "Cookie": f"{COOKIE}=never"}, 401),
    ):
        answer = await codec("POST", DECODE, headers=headers, json=body(PLAIN))
        assert answer.status_code == status, answer.text


async def test_large_payloads_are_taken(codec: Served) -> None:
    large = Payload(metadata={"encoding": b"binary/plain"}, data=bytes(2 << 20))
    answer = await codec("POST", ENCODE, json=body(large))
    assert (await codec("POST", DECODE, json=answer.json())).json() == body(large)
