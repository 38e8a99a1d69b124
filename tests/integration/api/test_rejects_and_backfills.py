"""People listed, rejects shown and reprocessed over HTTP; past spans planned and loaded again."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from temporaletl.messages import QueuerInput
from temporaletl.names import ScheduleKey
from temporaletl.queuer.scheduling import calendar, make_schedule
from temporaletl.rows import Identity
from temporaletl.warehouse.identities import record_people
from tests.integration.api.in_process import Served
from tests.integration.flows import numbers
from tests.waiting import until

BACKFILLS = "/api/v1/backfills"


@pytest.fixture(autouse=True)
def _curses() -> Iterator[None]:
    yield
    numbers.cursed.clear()


async def load(served: Served, **params: Any) -> dict[str, Any]:
    answer = await served("POST", "/api/v1/sync/full", json={"source": "numbers", "params": params})
    assert answer.status_code == 202, answer.text
    return await served.run(answer.json()["workflowId"])


async def rejects(served: Served) -> dict[int, Any]:
    found = (await served("GET", "/api/v1/rejects?source=numbers")).json()["items"]
    return {reject["payload"]["value"]: reject for reject in found}


async def replayed(served: Served, path: str, **body: Any) -> dict[str, Any]:
    answer = await served("POST", f"/api/v1/rejects/{path}", json=body)
    assert answer.status_code == 202, answer.text
    return await served.run(answer.json()["workflowId"])


async def test_people_are_listed_page_by_page_and_not_again_unless_they_changed(
    served: Served,
) -> None:
    people = [Identity(source_kind_id="numbers", person=f"p{n}") for n in range(3)]
    people.append(Identity(source_kind_id="numbers", person="known", employee_id="E1"))
    record_people(served.both.warehouse, "default", people)
    path, listed = "/api/v1/identities?source=numbers&limit=3", []
    first = await served("GET", path)
    page = first.json()
    while True:
        listed += [one["person"] for one in page["items"]]
        assert (page["total"], page["unknown"]) == (4, 3)
        if page["next"] is None:
            break
        page = (await served("GET", f"{path}&after={page['next']}")).json()
    assert listed == ["p0", "p1", "p2", "known"]
    assert 'rel="next"' in first.headers["link"]
    again = await served("GET", path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    wrong = await served("GET", f"{path}&after=nothing")
    assert (wrong.status_code, "cursor" in wrong.json()["detail"]) == (422, True)


async def test_one_reject_is_shown_with_its_page_and_reprocessed_alone(served: Served) -> None:
    numbers.cursed.update((23, 24, 25))
    loaded = await load(served, pages=2, size=20)
    found = await rejects(served)
    assert found.keys() == {23, 24, 25}
    shown = (await served("GET", f"/api/v1/rejects/{found[24]['reject_id']}")).json()
    assert (shown["reason"], shown["key"]) == ("24 is cursed", found[24]["key"])
    assert shown["batch_id"] == loaded["batch_id"]
    pages = (await served("GET", f"/api/v1/runs/{loaded['batch_id']}/pages")).json()["items"]
    [page] = [one for one in pages if (one["seq"], one["page"]) == (shown["seq"], shown["page"])]
    assert page["rejected"] >= 1

    numbers.cursed.clear()
    one = await replayed(served, f"{found[24]['reject_id']}/replay", notify=False)
    assert (one["rows"]["inserted"], one["records"]) == (1, 1)
    assert (await rejects(served)).keys() == {23, 25}
    gone = await served("GET", f"/api/v1/rejects/{found[24]['reject_id']}")
    assert gone.status_code == 404
    rest = await replayed(served, "replay", source="numbers", streams=["all"])
    assert (rest["rows"]["inserted"], rest["mode"]) == (2, "replay")
    assert not await rejects(served)


async def test_a_dry_run_lists_what_a_backfill_then_starts(served: Served) -> None:
    end = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    body = {
        "source": "numbers",
        "start": (end - timedelta(days=2)).isoformat(),
        "end": end.isoformat(),
        "params": {"jobs": 3, "size": 2},
    }
    before = served.both.rows("SELECT count(*) FROM etl_batches")
    dry = await served("POST", BACKFILLS, json={**body, "dry_run": True})
    assert dry.status_code == 200, dry.text
    plan = dry.json()
    assert (plan["total"], plan["more"]) == (3, False)
    assert served.both.rows("SELECT count(*) FROM etl_batches") == before
    state = served.both.rows("SELECT * FROM etl_sync_state WHERE connection = 'default'")

    key = {"Idempotency-Key": "backfill"}
    started = await served("POST", BACKFILLS, json=body, headers=key)
    again = await served("POST", BACKFILLS, json=body, headers=key)
    assert (started.status_code, again.json()) == (202, started.json())
    run = await served.run(started.json()["workflowId"])
    assert (run["mode"], run["state"]) == ("backfill", "completed")
    jobs = (await served("GET", f"/api/v1/runs/{run['batch_id']}/jobs")).json()["items"]
    assert [job["job_id"] for job in jobs] == [job["job_id"] for job in plan["jobs"]]
    assert run["windows"] == plan["windows"]
    after = served.both.rows("SELECT * FROM etl_sync_state WHERE connection = 'default'")
    assert after == state


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"start": "2999-01-01T00:00:00Z"}, "has not come yet"),
        ({"end": "2023-01-01T00:00:00Z"}, "is not after its start"),
        ({"streams": ["some"]}, "has no stream"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
async def test_a_backfill_that_cannot_be_is_refused_dry_or_not(
    served: Served, changed: dict[str, Any], said: str, *, dry_run: bool
) -> None:
    body = {"source": "numbers", "start": "2024-01-01T00:00:00Z", "dry_run": dry_run, **changed}
    answer = await served("POST", BACKFILLS, json=body)
    assert answer.status_code == 422, answer.text
    assert said in answer.json()["detail"]


async def test_the_runs_that_a_schedule_had_due_are_listed_and_started(served: Served) -> None:
    path = "/api/v1/temporal/schedules/numbers/backfill"
    # Hours that are over: they come again most of a day later.
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    hours = [hour - timedelta(hours=ago) for ago in (3, 2)]
    end = hours[-1] + timedelta(minutes=30)
    body = {"start": (end - timedelta(hours=2)).isoformat(), "end": end.isoformat()}
    none = await served("POST", path, json={**body, "dry_run": True})
    assert none.status_code == 404, none.text
    asked = QueuerInput(source="numbers", mode="incremental", params={"size": 1})
    daily = calendar("*", ",".join(str(each.hour) for each in hours))
    wanted = make_schedule(asked, times=[daily], task_queue=served.both.queue)
    schedule_id = ScheduleKey("numbers").id
    await served.both.client.create_schedule(schedule_id, wanted)
    try:
        dry = await served("POST", path, json={**body, "dry_run": True})
        assert (dry.status_code, dry.json()["started"]) == (200, 0)
        assert [datetime.fromisoformat(each) for each in dry.json()["due"]] == hours
        done = await served("POST", path, json=body)
        assert (done.status_code, done.json()["started"]) == (202, 2)
        [(entry)] = (await served("GET", "/api/v1/audit?limit=1")).json()["items"]
        assert (entry["action"], entry["details"]["runs"]) == ("schedule.backfill", 2)
        await until(lambda: _loaded(served, 2))
    finally:
        await served("DELETE", "/api/v1/temporal/schedules/numbers")


def _loaded(served: Served, runs: int) -> bool:
    [(ended,)] = served.both.rows(
        "SELECT count(*) FROM etl_batches WHERE mode = 'incremental' AND ended_at IS NOT NULL"
    )
    return bool(ended == runs)
