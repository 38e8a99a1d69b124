"""Connections and collections over HTTP: made, changed only as they were read, checked and run."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import requests

from temporaletl.messages import QueuerInput
from temporaletl.warehouse.runs import enter_run
from tests.integration.api.in_process import Served

CONNECTIONS = "/api/v1/source-connections"
COLLECTIONS = "/api/v1/collections"
SETTINGS = {"JIRA_URL": "https://acme.example.com", "JIRA_EMAIL": "loader@acme.example.com"}
SECRETS = {"JIRA_API_TOKEN": {"env": "ACME_TOKEN"}}
TOKEN = "a-token-that-nobody-sees"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACME_TOKEN", TOKEN)
    file = tmp_path / "connections.toml"
    file.write_text(
        '[filed]\nsource = "jira"\nJIRA_URL = "https://filed.example.com"\n'
        'JIRA_EMAIL = "me@example.com"\nJIRA_API_TOKEN = { env = "ACME_TOKEN" }\n'
    )
    monkeypatch.setenv("ETL_CONNECTIONS", str(file))


async def make(served: Served, name: str, **changed: Any) -> requests.Response:
    body = {"name": name, "source": "jira", "settings": SETTINGS, "secrets": SECRETS, **changed}
    answer = await served("POST", CONNECTIONS, json=body)
    assert answer.status_code == 201, answer.text
    return answer


async def test_a_connection_is_made_read_replaced_and_deleted_as_it_was_read(
    served: Served,
) -> None:
    made = await make(served, "acme")
    read = await served("GET", f"{CONNECTIONS}/acme")
    assert read.headers["etag"] == made.headers["etag"]
    assert (read.json()["settings"], read.json()["secrets"]) == (SETTINGS, SECRETS)
    assert made.json()["notes"] == []
    by_id = await served("GET", f"{CONNECTIONS}/{read.json()['connection_id']}")
    assert by_id.json() == read.json()
    known = {"If-None-Match": f'"other", {read.headers["etag"]}'}
    unchanged = await served("GET", f"{CONNECTIONS}/acme", headers=known)
    assert (unchanged.status_code, unchanged.content) == (304, b"")

    body = {"settings": {**SETTINGS, "JIRA_PAGE_SIZE": 50}, "secrets": SECRETS}
    blind = await served("PUT", f"{CONNECTIONS}/acme", json=body)
    assert (blind.status_code, blind.json()["code"]) == (428, "precondition-required")
    seen = {"If-Match": read.headers["etag"]}
    both = await asyncio.gather(
        *(served("PUT", f"{CONNECTIONS}/acme", json=body, headers=seen) for _ in range(2))
    )
    assert sorted(answer.status_code for answer in both) == [200, 412]
    [put] = [answer for answer in both if answer.ok]
    assert put.json()["settings"]["JIRA_PAGE_SIZE"] == 50
    stale = await served("DELETE", f"{CONNECTIONS}/acme", headers=seen)
    assert (stale.status_code, stale.json()["code"]) == (412, "version-conflict")
    weak = await served(
        "DELETE", f"{CONNECTIONS}/acme", headers={"If-Match": f"W/{put.headers['etag']}"}
    )
    assert weak.status_code == 412
    gone = await served("DELETE", f"{CONNECTIONS}/acme", headers={"If-Match": put.headers["etag"]})
    assert gone.json() == {"name": "acme", "source": "jira", "streams": []}
    # One of the same name is another one: what was read of the first changes nothing of it.
    again = await make(served, "acme")
    assert again.headers["etag"] != made.headers["etag"]
    await served("DELETE", f"{CONNECTIONS}/acme", headers={"If-Match": "*"})


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"source": "juri"}, 404, "juri"),
        ({"settings": {**SETTINGS, "JIRA_API_TOKEN": TOKEN}, "secrets": {}}, 422, "secret"),
        ({"settings": {**SETTINGS, "COLOUR": "red"}}, 422, "COLOUR"),
        ({"secrets": {"JIRA_API_TOKEN": {"env": "DATABASE_URL"}}}, 422, "platform"),
        ({"secrets": {"JIRA_API_TOKEN": {"file": "/etc/shadow"}}}, 422, "ETL_SECRET_FOLDERS"),
        ({"name": "filed"}, 422, "take another name"),
        ({"name": "Acme!"}, 422, "a name consists of"),
    ],
)
async def test_what_does_not_fit_is_refused_and_no_secret_repeated(
    served: Served, changed: dict[str, Any], status: int, said: str
) -> None:
    body = {"name": "wrong", "source": "jira", "settings": SETTINGS, "secrets": SECRETS, **changed}
    answer = await served("POST", CONNECTIONS, json=body)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["detail"]
    assert TOKEN not in answer.text


async def test_the_files_connections_are_listed_and_cannot_be_changed(served: Served) -> None:
    await make(served, "beside")
    listed: dict[str, Any] = {}
    path: str | None = f"{CONNECTIONS}?limit=1"
    while path is not None:
        answer = await served("GET", path)
        listed |= {one["name"]: one for one in answer.json()["items"]}
        path = answer.links["next"]["url"] if answer.links else None
    assert {name: one["origin"] for name, one in listed.items()} == {
        "beside": "warehouse",
        "filed": "file",
    }
    assert listed["filed"]["read_only"]
    assert listed["filed"]["secrets"] == SECRETS
    assert TOKEN not in str(listed)
    etag = (await served("GET", f"{CONNECTIONS}/filed")).headers["etag"]
    for method in ("PUT", "DELETE"):
        answer = await served(method, f"{CONNECTIONS}/filed", json={}, headers={"If-Match": etag})
        assert answer.status_code == 409
        assert "ETL_CONNECTIONS" in answer.json()["detail"]
    taken = {"name": "beside", "source": "jira", "settings": SETTINGS, "secrets": SECRETS}
    assert (await served("POST", CONNECTIONS, json=taken)).status_code == 409
    await served("DELETE", f"{CONNECTIONS}/beside", headers={"If-Match": "*"})


async def test_a_connection_is_checked_and_run_once_at_a_time(served: Served) -> None:
    await make(served, "counted", source="numbers", settings={}, secrets={})
    checked = (await served("POST", f"{CONNECTIONS}/counted/check")).json()
    assert checked["good"], checked
    body = {"mode": "full", "entities": ["all"], "parameters": {"size": 7}, "notify": False}
    key = {"Idempotency-Key": "one"}
    first = await served("POST", f"{CONNECTIONS}/counted/run", json=body, headers=key)
    again = await served("POST", f"{CONNECTIONS}/counted/run", json=body, headers=key)
    assert (first.status_code, again.json()) == (202, first.json()), first.text
    run = await served.run(first.json()["workflowId"])
    assert (run["state"], run["rows"]["inserted"], run["connection"]) == ("completed", 7, "counted")

    slow = {"mode": "full", "params": {"pages": 100, "page_seconds": 0.3}}
    started = await asyncio.gather(
        *(served("POST", f"{CONNECTIONS}/counted/run", json=slow) for _ in range(2))
    )
    assert sorted(answer.status_code for answer in started) == [202, 409]
    [going] = [answer.json()["workflowId"] for answer in started if answer.ok]
    [refused] = [answer.json()["workflow_id"] for answer in started if not answer.ok]
    assert going == refused
    etag = {"If-Match": (await served("GET", f"{CONNECTIONS}/counted")).headers["etag"]}
    used = await served("DELETE", f"{CONNECTIONS}/counted", headers=etag)
    assert used.status_code == 409, used.text
    await served("POST", f"/api/v1/sync/{going}/cancel")
    await served.run(going)
    gone = await served("DELETE", f"{CONNECTIONS}/counted", headers=etag)
    assert gone.json()["streams"] == ["all"]


async def test_a_connection_is_not_deleted_while_a_run_of_it_is_still_to_be_planned(
    served: Served,
) -> None:
    await make(served, "begun", source="numbers", settings={}, secrets={})
    warehouse = served.both.warehouse
    request = QueuerInput(source="numbers", connection="begun")
    entered: dict[str, Any] = {
        "workflow_id": "etl-numbers@begun-1",
        "run_id": "1",
        "engine": "temporal",
    }
    assert await asyncio.to_thread(enter_run, warehouse, request, **entered) is None
    refused = await served("DELETE", f"{CONNECTIONS}/begun", headers={"If-Match": "*"})
    assert (refused.status_code, "etl-numbers@begun-1" in refused.json()["detail"]) == (409, True)
    # Half a minute later a run that Temporal does not know is lost, and keeps nobody from it.
    with warehouse.connection() as connection:
        connection.execute(
            "UPDATE etl_runs SET requested_at = requested_at - interval '1 minute' "
            "WHERE connection = 'begun'"
        )
    gone = await served("DELETE", f"{CONNECTIONS}/begun", headers={"If-Match": "*"})
    assert gone.status_code == 200, gone.text


async def test_a_run_that_cannot_be_planned_is_listed_with_its_reason(served: Served) -> None:
    await make(served, "unset", secrets={"JIRA_API_TOKEN": {"env": "ACME_OTHER"}})
    runs = []
    for mode in ("full", "incremental"):
        # Nothing of the first is open that would refuse the second.
        started = await served("POST", f"{CONNECTIONS}/unset/run", json={"mode": mode})
        assert started.status_code == 202, started.text
        runs.append(started.json()["workflowId"])
        await served.run(runs[-1])
    path = "/api/v1/runs?connection=unset&limit=1"
    newest = (await served("GET", path)).json()
    older = (await served("GET", f"{path}&mode=full&state=failed")).json()
    [run], [first] = newest["items"], older["items"]
    assert [first["workflow_id"], run["workflow_id"]] == runs
    assert (run["state"], run["engine"]) == ("failed", "temporal")
    assert "ACME_OTHER is not set" in run["error"]
    behind = (await served("GET", f"{path}&after={newest['next']}")).json()
    assert [one["workflow_id"] for one in behind["items"]] == runs[:1]
    assert (await served("GET", f"{path}&state=completed")).json()["items"] == []
    await served("DELETE", f"{CONNECTIONS}/unset", headers={"If-Match": "*"})


@pytest_asyncio.fixture
async def both(served: Served) -> AsyncGenerator[requests.Response]:
    """A collection of the environment's numbers and of a connection that then goes."""
    await make(served, "short", source="numbers", settings={}, secrets={})
    members = [{"source": "numbers"}, {"source": "numbers", "connection": "short"}]
    made = await served("POST", COLLECTIONS, json={"name": "all numbers", "members": members})
    assert made.status_code == 201, made.text
    yield made
    await served("DELETE", f"{COLLECTIONS}/all numbers", headers={"If-Match": "*"})
    await served("DELETE", f"{CONNECTIONS}/short?force=true", headers={"If-Match": "*"})


async def test_a_collection_is_changed_as_it_was_read(
    served: Served, both: requests.Response
) -> None:
    path = f"{COLLECTIONS}/all numbers"
    etag = both.headers["etag"]
    assert (await served("GET", path, headers={"If-None-Match": etag})).status_code == 304
    assert (await served("DELETE", path)).status_code == 428
    # Each change has a tag of its own, so that the next one needs it.
    removed = await served("DELETE", f"{path}/members/numbers", headers={"If-Match": etag})
    assert [one["connection"] for one in removed.json()["members"]] == ["short"]
    assert (
        await served("PUT", f"{path}/members/numbers", headers={"If-Match": etag})
    ).status_code == 412
    etag = removed.headers["etag"]
    added = await served("PUT", f"{path}/members/numbers", headers={"If-Match": etag})
    assert [one["connection"] for one in added.json()["members"]] == ["default", "short"]
    body = {"name": "all numbers", "members": [{"source": "numbers", "connection": "never"}]}
    wrong = await served("PUT", path, json=body, headers={"If-Match": added.headers["etag"]})
    assert wrong.status_code == 422
    assert "never" in wrong.json()["detail"]
    body["members"] = [{"source": "numbers"}]
    put = await served("PUT", path, json=body, headers={"If-Match": added.headers["etag"]})
    assert put.json()["version"] == 4
    listed = (await served("GET", COLLECTIONS)).json()["items"]
    assert listed == [put.json()]
    taken = await served("POST", COLLECTIONS, json={"name": "all numbers"})
    assert taken.status_code == 409


@pytest.mark.usefixtures("both")
async def test_one_answer_lists_what_came_of_each_member(served: Served) -> None:
    slow = {"source": "numbers", "params": {"pages": 100, "page_seconds": 0.3}}
    going = (await served("POST", "/api/v1/sync/full", json=slow)).json()["workflowId"]
    path = f"{COLLECTIONS}/all numbers/refresh_all"
    key = {"Idempotency-Key": "refresh"}
    first = await served("POST", path, json={"mode": "full"}, headers=key)
    again = await served("POST", path, json={"mode": "full"}, headers=key)
    assert (first.status_code, again.json()) == (202, first.json())
    own, other = first.json()["members"]
    assert (own["outcome"], own["workflowId"]) == ("running", going)
    assert other["outcome"] == "started"
    await served("POST", f"/api/v1/sync/{going}/cancel")
    for run in (going, other["workflowId"]):
        await served.run(run)
    await served("DELETE", f"{CONNECTIONS}/short", headers={"If-Match": "*"})
    # Its membership went with it; one that is gone from the file would be refused by name.
    alone = (await served("POST", path)).json()  # a body is optional
    assert (alone["started"], alone["refused"], alone["running"]) == (1, 0, 0)
    await served.run(alone["members"][0]["workflowId"])


async def test_a_member_that_cannot_be_run_hides_no_other(served: Served, tmp_path: Path) -> None:
    members = [{"source": "jira", "connection": "filed"}, {"source": "numbers"}]
    made = await served("POST", COLLECTIONS, json={"name": "mixed", "members": members})
    assert made.status_code == 201, made.text
    (tmp_path / "connections.toml").write_text("")
    done = (await served("POST", f"{COLLECTIONS}/mixed/refresh_all", json={})).json()
    outcomes = {one["source"]: one for one in done["members"]}
    assert outcomes["jira"]["outcome"] == "refused"
    assert "filed" in outcomes["jira"]["reason"]
    assert outcomes["numbers"]["outcome"] == "started"
    await served.run(outcomes["numbers"]["workflowId"])
    entries = (await served("GET", "/api/v1/audit?limit=1")).json()["items"]
    assert (entries[0]["action"], entries[0]["target"]) == ("collection.refresh", "mixed")
    await served("DELETE", f"{COLLECTIONS}/mixed", headers={"If-Match": "*"})
