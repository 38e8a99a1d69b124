"""Runs over HTTP: started, listed page by page, paused, resumed and cancelled."""

from typing import Any

from tests.integration.api.in_process import Served
from tests.waiting import until


async def started(served: Served, **wanted: Any) -> str:
    answer = await served("POST", "/api/v1/sync/full", json={"source": "numbers", **wanted})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["workflowId"])


def loaded(rows: dict[str, int]) -> int:
    """Rows that are there, whichever run of the module was first."""
    return rows["inserted"] + rows["unchanged"]


async def test_a_run_is_started_and_its_rows_counted(served: Served) -> None:
    run = await started(served, params={"size": 9})
    found = await served.run(run)
    assert (found["state"], loaded(found["rows"])) == ("completed", 9)
    jobs = (await served("GET", f"/api/v1/runs/{run}/jobs")).json()["items"]
    assert [job["state"] for job in jobs] == ["completed"]
    pages = (await served("GET", f"/api/v1/runs/{run}/pages")).json()["items"]
    assert sum(map(loaded, pages)) == 9
    entries = (await served("GET", "/api/v1/audit")).json()["items"]
    [entry] = [one for one in entries if one["details"].get("workflow_id") == run]
    assert (entry["action"], entry["target"]) == ("sync.full", "numbers")
    assert entry["actor"].startswith("token:")
    assert entry["details"] == {"workflow_id": run, "engine": "temporal"}


async def test_a_second_start_is_refused_and_names_the_run_that_goes_on(served: Served) -> None:
    run = await started(served, params={"pages": 100, "page_seconds": 0.3})
    again = await served("POST", "/api/v1/sync/full", json={"source": "numbers"})
    assert again.status_code == 409
    assert again.headers["content-type"] == "application/problem+json"
    assert again.json()["workflow_id"] == run
    await served("POST", f"/api/v1/sync/{run}/cancel")
    assert (await served.run(run))["state"] == "cancelled"


async def test_a_request_that_is_sent_again_with_its_key_starts_one_run(served: Served) -> None:
    body = {"source": "numbers", "params": {"size": 3}}
    key = {"Idempotency-Key": "once"}
    first = await served("POST", "/api/v1/sync/full", json=body, headers=key)
    again = await served("POST", "/api/v1/sync/full", json=body, headers=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    other = await served("POST", "/api/v1/sync/full", json={**body, "force": True}, headers=key)
    assert other.status_code == 422
    assert other.json()["code"] == "key-reused"
    await served.run(first.json()["workflowId"])


async def test_a_run_is_paused_and_resumed(served: Served) -> None:
    run = await started(served, params={"pages": 20, "page_seconds": 0.3})
    answer = await served("POST", f"/api/v1/sync/{run}/pause")
    assert answer.status_code == 200
    assert answer.json()["state"] in ("pausing", "paused")

    async def is_paused() -> bool:
        found = (await served("GET", f"/api/v1/runs/{run}")).json()["run"]
        return bool(found["state"] == "paused")

    await until(is_paused)
    assert (await served("POST", f"/api/v1/sync/{run}/resume")).json()["state"] == "running"
    found = await served.run(run)
    assert (found["state"], loaded(found["rows"])) == ("completed", 200)


async def test_runs_are_listed_page_by_page_each_once(served: Served) -> None:
    runs = []
    for _ in range(5):
        runs.append(await started(served, params={"size": 1}, force=True))
        await served.run(runs[-1])
    listed: list[str] = []
    path: str | None = "/api/v1/runs?limit=2"
    while path is not None:
        answer = await served("GET", path)
        assert answer.status_code == 200
        assert answer.json()["as_of"]
        listed += [run["workflow_id"] for run in answer.json()["items"]]
        path = answer.links["next"]["url"] if answer.links else None
    assert [run for run in listed if run in runs] == runs[::-1]
    assert len(listed) == len(set(listed))


async def test_what_is_not_there_is_a_problem_with_its_name(served: Served) -> None:
    for method, path in (
        ("GET", "/api/v1/runs/nothing"),
        ("GET", "/api/v1/runs/nothing/jobs"),
        ("POST", "/api/v1/sync/nothing/pause"),
    ):
        answer = await served(method, path)
        assert answer.status_code == 404, answer.text
        assert "nothing" in answer.json()["detail"]
    unknown = await served("POST", "/api/v1/sync/full", json={"source": "numbrs"})
    assert unknown.status_code == 404
    assert "the sources are" in unknown.json()["detail"]
    wrong = await served("POST", "/api/v1/sync/full", json={"source": "numbers", "colour": 1})
    assert wrong.status_code == 422
    assert wrong.json()["faults"][0]["location"] == "body.colour"
