"""Runs over HTTP: started, listed page by page, paused, resumed and cancelled."""

from typing import Any

from tests.integration.api.conftest import Api
from tests.waiting import until


async def started(api: Api, **wanted: Any) -> str:
    answer = await api("POST", "/api/v1/sync/full", json={"source": "numbers", **wanted})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["workflowId"])


async def state_of(api: Api, run: str) -> str:
    answer = await api("GET", f"/api/v1/runs/{run}")
    return str(answer.json()["run"]["state"]) if answer.status_code == 200 else answer.text


async def ended(api: Api, run: str) -> dict[str, Any]:
    await until(lambda: _is(api, run, "completed", "cancelled", "failed"), within_seconds=60)
    found: dict[str, Any] = (await api("GET", f"/api/v1/runs/{run}")).json()["run"]
    return found


async def _is(api: Api, run: str, *states: str) -> bool:
    return await state_of(api, run) in states


async def test_a_run_is_started_and_its_rows_counted(api: Api) -> None:
    run = await started(api, params={"size": 9})
    found = await ended(api, run)
    assert found["state"] == "completed"
    assert found["rows"]["inserted"] == 9
    jobs = (await api("GET", f"/api/v1/runs/{run}/jobs")).json()["items"]
    assert [job["state"] for job in jobs] == ["completed"]
    pages = (await api("GET", f"/api/v1/runs/{run}/pages")).json()["items"]
    assert sum(page["inserted"] for page in pages) == 9
    [entry] = (await api("GET", "/api/v1/audit")).json()["items"]
    assert (entry["actor"], entry["action"], entry["target"]) == ("local", "sync.full", "numbers")
    assert entry["details"] == {"workflow_id": run, "engine": "temporal"}


async def test_a_second_start_is_refused_and_names_the_run_that_goes_on(api: Api) -> None:
    run = await started(api, params={"pages": 100, "page_seconds": 0.3})
    again = await api("POST", "/api/v1/sync/full", json={"source": "numbers"})
    assert again.status_code == 409
    assert again.headers["content-type"] == "application/problem+json"
    assert again.json()["workflow_id"] == run
    await api("POST", f"/api/v1/sync/{run}/cancel")
    assert (await ended(api, run))["state"] == "cancelled"


async def test_a_request_that_is_sent_again_with_its_key_starts_one_run(api: Api) -> None:
    body = {"source": "numbers", "params": {"size": 3}}
    key = {"Idempotency-Key": "once"}
    first = await api("POST", "/api/v1/sync/full", json=body, headers=key)
    again = await api("POST", "/api/v1/sync/full", json=body, headers=key)
    assert (first.status_code, again.status_code) == (202, 202)
    assert again.json() == first.json()
    assert again.headers["idempotent-replayed"] == "true"
    other = await api("POST", "/api/v1/sync/full", json={**body, "force": True}, headers=key)
    assert other.status_code == 422
    assert other.json()["code"] == "key-reused"
    await ended(api, first.json()["workflowId"])


async def test_a_run_is_paused_and_resumed(api: Api) -> None:
    run = await started(api, params={"pages": 20, "page_seconds": 0.3})
    answer = await api("POST", f"/api/v1/sync/{run}/pause")
    assert answer.status_code == 200
    assert answer.json()["state"] in ("pausing", "paused")
    await until(lambda: _is(api, run, "paused"), within_seconds=60)
    assert (await api("POST", f"/api/v1/sync/{run}/resume")).json()["state"] == "running"
    found = await ended(api, run)
    assert (found["state"], found["rows"]["inserted"]) == ("completed", 200)


async def test_runs_are_listed_page_by_page_each_once(api: Api) -> None:
    runs = []
    for _ in range(5):
        runs.append(await started(api, params={"size": 1}, force=True))
        await ended(api, runs[-1])
    listed: list[str] = []
    path: str | None = "/api/v1/runs?limit=2"
    while path is not None:
        answer = await api("GET", path)
        assert answer.status_code == 200
        assert answer.json()["as_of"]
        listed += [run["workflow_id"] for run in answer.json()["items"]]
        path = answer.links["next"]["url"] if answer.links else None
    assert listed == runs[::-1]


async def test_what_is_not_there_is_a_problem_with_its_name(api: Api) -> None:
    for method, path in (
        ("GET", "/api/v1/runs/nothing"),
        ("GET", "/api/v1/runs/nothing/jobs"),
        ("POST", "/api/v1/sync/nothing/pause"),
    ):
        answer = await api(method, path)
        assert answer.status_code == 404, answer.text
        assert "nothing" in answer.json()["detail"]
    unknown = await api("POST", "/api/v1/sync/full", json={"source": "numbrs"})
    assert unknown.status_code == 404
    assert "the sources are" in unknown.json()["detail"]
    wrong = await api("POST", "/api/v1/sync/full", json={"source": "numbers", "colour": 1})
    assert wrong.status_code == 422
    assert wrong.json()["faults"][0]["location"] == "body.colour"
