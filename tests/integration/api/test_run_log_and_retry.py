"""The log of a run, and what failed in it run again, over HTTP and by command."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from temporaletl.secrets import remember_secret
from temporaletl.telemetry.run_log import DROPPED, Line
from temporaletl.warehouse import run_log
from temporaletl.warehouse.run_log import Writer, read_log
from tests.integration.api.in_process import Served
from tests.integration.command_line import CommandLine, publish_numbers
from tests.integration.flows import numbers
from tests.waiting import until

SECRET = "nobody-shall-see-this"


@pytest.fixture(autouse=True)
def _mended() -> Iterator[None]:
    yield
    numbers.broken.clear()


async def load(served: Served, **params: Any) -> dict[str, Any]:
    answer = await served("POST", "/api/v1/sync/full", json={"source": "numbers", "params": params})
    assert answer.status_code == 202, answer.text
    return await served.run(answer.json()["workflowId"])


async def events(served: Served, run: str) -> list[dict[str, Any]]:
    answer = await served("GET", f"/api/v1/runs/{run}/log?limit=500")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["lines"]
    return found


async def test_the_log_of_a_run_says_what_was_planned_loaded_and_why_it_failed(
    served: Served,
) -> None:
    numbers.broken.add(1)
    run = await load(served, jobs=2, size=3)
    assert run["state"] == "failed"

    async def is_written() -> bool:
        return any(line["event"] == "batch_ended" for line in await events(served, run["batch_id"]))

    await until(is_written)
    lines = await events(served, run["workflow_id"])
    found = {line["event"]: line for line in lines}
    assert found["batch_planned"]["fields"]["jobs"] == 2
    assert found["page_loaded"]["fields"]["rows"] == 3
    assert found["page_loaded"]["job_id"]
    failed = found["activity_failed"]
    assert (failed["level"], failed["fields"]["error"]) == ("warning", "job 1 is broken")
    assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)
    last = (await served("GET", f"/api/v1/runs/{run['batch_id']}/log?limit=1")).json()
    assert (last["earlier"], last["dropped"], last["lines"]) == (True, 0, lines[-1:])


async def test_what_failed_is_retried_once_at_a_time(served: Served) -> None:
    numbers.broken.update((1, 2))
    run = await load(served, jobs=4, size=3)
    numbers.broken.clear()
    path = f"/api/v1/runs/{run['workflow_id']}/retry"
    answers = await asyncio.gather(*(served("POST", path, json={}) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [202, 409]
    [started] = [answer.json()["workflowId"] for answer in answers if answer.ok]
    done = await served.run(started)
    assert (done["state"], done["jobs"]["planned"]) == ("completed", 2)
    assert done["retries"] == run["batch_id"]
    again = (await served("GET", f"/api/v1/runs/{run['batch_id']}")).json()["run"]
    assert again["retried_by"] == [done["batch_id"]]
    refused = await served("POST", path)
    assert refused.status_code == 409
    assert "has been loaded by a retry" in refused.json()["detail"]
    entry = (await served("GET", "/api/v1/audit?limit=1")).json()["items"][0]
    assert (entry["action"], entry["details"]["workflow_id"]) == ("run.retry", started)


async def test_a_retry_with_its_key_is_started_once(served: Served) -> None:
    numbers.broken.add(0)
    run = await load(served, size=1)
    numbers.broken.clear()
    path, key = f"/api/v1/runs/{run['batch_id']}/retry", {"Idempotency-Key": "again"}
    first = await served("POST", path, headers=key)
    assert first.status_code == 202, first.text
    await served.run(first.json()["workflowId"])
    again = await served("POST", path, headers=key)
    assert (again.status_code, again.json()) == (202, first.json())


async def test_by_command_a_run_is_retried_and_its_log_shown(
    served: Served, postgres_url: str, tmp_path: Path
) -> None:
    publish_numbers(tmp_path)
    etl = CommandLine(served.both, tmp_path, postgres_url)
    numbers.broken.add(1)
    run = await load(served, jobs=2, size=1)
    numbers.broken.clear()
    done = await etl("retry", run["batch_id"], "--wait", "--json")
    assert done.status == 0, done.err
    assert (done.document["retries"], done.document["jobs"]["planned"]) == (run["batch_id"], 1)
    again, logged, shown = await asyncio.gather(
        etl("retry", run["workflow_id"]),
        etl("logs", run["batch_id"], "--json"),
        etl("logs", run["batch_id"], "--limit", "2"),
    )
    assert (again.status, again.out) == (1, "")
    assert "has been loaded by a retry" in again.err
    assert "activity_failed" in {line["event"] for line in logged.document["lines"]}
    assert len(shown.out.splitlines()) == 2
    assert "batch_ended" in shown.out
    assert "earlier lines are not shown" in shown.err


def line(batch: str, event: str, at: datetime | None = None, **fields: Any) -> Line:
    return Line(batch, None, at or datetime.now(UTC), "info", "test", event, fields)


async def test_a_log_is_bounded_and_holds_no_secret(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_log, "MOST_LINES", 20)
    remember_secret(SECRET)
    warehouse = served.both.warehouse
    writer = Writer(warehouse)
    writer.write([line("old", "long_gone", datetime.now(UTC) - timedelta(days=31))])
    for number in range(10):
        writer.write([line("b", "page_loaded", number=number, part=part) for part in range(5)])
    odd: dict[str, Any] = {
        "error": f"token={SECRET}\x00",
        "nan": float("nan"),
        "span": timedelta(seconds=1),
    }
    writer.write([line("b", "odd", **odd), line("b", DROPPED, count=7)])
    found = await asyncio.to_thread(read_log, warehouse, "b", limit=100)
    assert len(found.lines) < 30
    assert (found.earlier, found.dropped) == (True, 7)
    fields = found.lines[-2].fields
    assert SECRET not in str(fields)
    assert (fields["nan"], fields["span"]) == ("nan", "0:00:01")
    Writer(warehouse).write([line("b", "page_loaded")])
    left = served.both.rows("SELECT count(*) FROM etl_run_log WHERE batch_id = 'old'")
    assert left == [(0,)]
