"""`etl freshness`, `etl health` and `etl notify`, without Temporal."""

import json
from collections.abc import Iterator

import pytest

import tests.integration.flows.numbers  # noqa: F401 - registers the source
from temporaletl.warehouse.connection import Warehouse
from tests.integration.warehouse.batches import NOON
from tests.integration.warehouse.command import Etl, etl
from tests.webhooks import Webhooks, running_webhooks

__all__ = ["etl"]


@pytest.fixture
def webhooks() -> Iterator[Webhooks]:
    with running_webhooks() as opened:
        yield opened


def test_a_late_stream_is_named_with_its_cause_and_the_status_is_1(
    etl: Etl, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = etl("freshness")
    assert (status, out) == (
        0,
        "nothing was loaded yet, nothing is scheduled, and nothing must be fresh\n",
    )
    assert "not all can be judged: schedules are those of before" in err
    with warehouse.connection() as connection:
        connection.execute(
            "INSERT INTO etl_sync_state (source, stream, connection, watermark, state) "
            "VALUES ('numbers', 'all', 'acme', %s, 'completed')",
            [NOON],
        )
    status, out, _ = etl("freshness")
    assert status == 0
    assert "numbers@acme" in out
    assert "not judged: no ETL_FRESH_WITHIN_HOURS, and no schedule" in out
    monkeypatch.setenv("ETL_FRESH_WITHIN_HOURS", "numbers=6")
    status, out, _ = etl("freshness", "--json")
    assert status == 1
    entries = {(one["connection"], one["state"]) for one in json.loads(out)["entries"]}
    assert entries == {("acme", "not judged"), ("default", "never loaded")}


def test_health_names_the_part_that_is_down_and_the_status_is_1(etl: Etl) -> None:
    status, out, _ = etl("health")
    assert status == 1
    lines = {line.split("  ")[0]: line for line in out.splitlines()[1:]}
    assert " ok " in lines["warehouse"]
    assert " down " in lines["temporal"]
    assert " unknown " in lines["queuer"]
    assert "no destination is set" in lines["notifications"]
    assert json.loads(etl("health", "--json")[1])["verdict"] == "down"


def test_a_test_goes_to_the_destinations_of_here_and_is_listed(
    etl: Etl, webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, _, err = etl("notify", "test")
    assert status == 2
    assert "this process has no destination: set SLACK_WEBHOOK_URL or NOTIFY_URLS" in err
    urls = f"{webhooks.url('/200/canary-a')},{webhooks.url('/404/canary-b')}"
    monkeypatch.setenv("NOTIFY_URLS", urls)
    assert etl("notify", "test", "--destination", "1")[:2] == (0, "NOTIFY_URLS.1: took it\n")
    status, out, err = etl("notify", "test")
    assert status == 1
    assert out.splitlines() == ["NOTIFY_URLS.1: took it", "NOTIFY_URLS.2: answered 404"]
    assert etl("notify", "test", "--destination", "3")[0] != 0
    status, listed, _ = etl("notify", "list")
    assert status == 0
    assert "answered 404" in listed
    [failed] = json.loads(etl("notify", "list", "--state", "failed", "--json")[1])
    assert (failed["destination"], failed["kind"]) == ("NOTIFY_URLS.2", "test")
    assert "canary" not in out + err + listed + str(failed)
