"""Idempotency keys: the first answer stands, and no request is served twice."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from temporaletl.control.operations import idempotency as operations
from temporaletl.control.operations.platform import Platform
from temporaletl.errors import ConfigurationError, ConflictError
from temporaletl.secrets import remember_secret
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.idempotency import (
    Answer,
    RequestKey,
    RequestRunningError,
    ReusedKeyError,
    claim,
    release,
    store_answer,
)
from tests.integration.warehouse.batches import rows
from tests.integration.warehouse.test_audit import platform

__all__ = ["platform"]

KEY = RequestKey("0123456789ab", "POST /api/v1/runs", "key-1")
BODY = b'{"source": "jira"}'
STARTED = Answer(202, {"workflow_id": "etl-jira"})


def age(warehouse: Warehouse, span: str) -> None:
    with warehouse.connection() as connection:
        connection.execute(
            "UPDATE etl_idempotency_keys SET created_at = now() - %s::interval", [span]
        )


def test_a_request_that_comes_again_gets_the_first_answer(warehouse: Warehouse) -> None:
    assert claim(warehouse, KEY, BODY) is None
    store_answer(warehouse, KEY, STARTED)
    store_answer(warehouse, KEY, Answer(500, None))
    assert claim(warehouse, KEY, BODY) == STARTED


def test_another_request_with_the_same_key_is_refused(warehouse: Warehouse) -> None:
    assert claim(warehouse, KEY, BODY) is None
    for _ in ("running", "answered"):
        with pytest.raises(ReusedKeyError, match="another request"):
            claim(warehouse, KEY, b'{"source": "trino"}')
        store_answer(warehouse, KEY, STARTED)


def test_a_request_that_still_runs_is_not_served_again(warehouse: Warehouse) -> None:
    assert claim(warehouse, KEY, BODY) is None
    with pytest.raises(RequestRunningError, match="still runs"):
        claim(warehouse, KEY, BODY)
    assert issubclass(RequestRunningError, ConflictError)


def test_of_many_at_once_one_is_served(warehouse: Warehouse) -> None:
    start = Barrier(8)

    def one(_number: int) -> str:
        start.wait(timeout=120)
        try:
            return "claimed" if claim(warehouse, KEY, BODY) is None else "answered"
        except RequestRunningError:
            return "refused"

    with ThreadPoolExecutor(8) as threads:
        found = sorted(threads.map(one, range(8)))
    assert found == ["claimed"] + ["refused"] * 7


@pytest.mark.parametrize(
    "other",
    [KEY._replace(token_id="ba9876543210"), KEY._replace(route="POST /x"), KEY._replace(key="2")],
)
def test_a_key_is_of_one_token_and_one_route(warehouse: Warehouse, other: RequestKey) -> None:
    assert claim(warehouse, KEY, BODY) is None
    assert claim(warehouse, other, b"another") is None


def test_a_key_of_a_request_that_did_nothing_is_free_again(warehouse: Warehouse) -> None:
    assert claim(warehouse, KEY, BODY) is None
    release(warehouse, KEY)
    release(warehouse, KEY)
    assert claim(warehouse, KEY, b"another") is None
    store_answer(warehouse, KEY, STARTED)
    release(warehouse, KEY)
    assert claim(warehouse, KEY, b"another") == STARTED


def test_a_request_whose_process_died_can_be_sent_again(warehouse: Warehouse) -> None:
    assert claim(warehouse, KEY, BODY) is None
    age(warehouse, "11 minutes")
    with pytest.raises(ReusedKeyError):
        claim(warehouse, KEY, b"another")
    assert claim(warehouse, KEY, BODY) is None
    with pytest.raises(RequestRunningError):
        claim(warehouse, KEY, BODY)


def test_an_answer_is_kept_for_seven_days_and_not_longer(warehouse: Warehouse) -> None:
    others = [KEY._replace(key=f"old-{number}") for number in range(3)]
    for key in (KEY, *others):
        assert claim(warehouse, key, BODY) is None
        store_answer(warehouse, key, STARTED)
    age(warehouse, "6 days 23 hours")
    assert claim(warehouse, KEY, BODY) == STARTED
    age(warehouse, "7 days 1 second")
    assert claim(warehouse, KEY, b"another") is None
    stored = "SELECT key_sha256 = sha256('key-1') FROM etl_idempotency_keys"
    assert rows(warehouse, stored) == [(True,)]


def test_no_secret_is_kept_with_an_answer(warehouse: Warehouse) -> None:
    remember_secret("canary-of-a-test")
    assert claim(warehouse, KEY, BODY) is None
    store_answer(warehouse, KEY, Answer(201, {"token": "canary-of-a-test", "odd": "\x00"}))
    assert claim(warehouse, KEY, BODY) == Answer(201, {"token": "[redacted]", "odd": "�"})


@pytest.mark.parametrize("key", ["", "x" * 256, "a\x00b", "a\nb"])
def test_a_key_that_cannot_be_kept_is_refused(warehouse: Warehouse, key: str) -> None:
    with pytest.raises(ConfigurationError, match="idempotency key"):
        claim(warehouse, KEY._replace(key=key), BODY)


async def test_a_platform_claims_answers_and_releases_keys(platform: Platform) -> None:
    async with platform:
        assert await operations.claim(platform, KEY, BODY) is None
        await operations.release(platform, KEY)
        assert await operations.claim(platform, KEY, BODY) is None
        await operations.store_answer(platform, KEY, STARTED)
        assert await operations.claim(platform, KEY, BODY) == STARTED
