"""Pipelines over HTTP: stored, validated, executed, watched, controlled, and run anew."""

import asyncio
from typing import Any

import pytest

from tests.integration.api.in_process import Served


def doubling(seconds: float = 1, factor: int = 2) -> dict[str, Any]:
    mapping = {"n": f"trigger.n * {factor}"}
    return {
        "nodes": [
            {"id": "wait", "type": "delay", "data": {"seconds": seconds}},
            {
                "id": "twice",
                "type": "transform",
                "data": {"transform_type": "mapping", "mapping": mapping},
            },
        ],
        "edges": [{"source": "wait", "target": "twice"}],
    }


async def executed(served: Served, **body: Any) -> str:
    answer = await served("POST", "/api/v1/workflow/execute/", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["execution_id"])


async def seen(served: Served, execution_id: str, state: str, node: str = "") -> dict[str, Any]:
    """The status of an execution once it has a state, and a node has begun."""
    async with asyncio.timeout(120):
        while True:
            answer = await served("GET", f"/api/v1/workflow/status/{execution_id}")
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()
            begun = {one["id"] for one in found["nodes"] if one["started_at"]}
            if found["state"] == state and (not node or node in begun):
                return found
            await asyncio.sleep(0.05)


async def test_a_definition_is_executed_and_its_nodes_are_told(served: Served) -> None:
    execution = await executed(served, definition=doubling(), input={"n": 21})

    found = await seen(served, execution, "completed")
    history = (await served("GET", f"/api/v1/workflow/history/{execution}")).json()
    result = await served("GET", f"/api/v1/workflow/executions/{execution}/nodes/twice/result")

    assert [(one["id"], one["state"], one["attempts"]) for one in found["nodes"]] == [
        ("wait", "completed", 1),
        ("twice", "completed", 1),
    ]
    assert result.json() == {"value": {"n": 42}}
    assert [one["id"] for one in history["nodes"]] == ["wait", "twice"]
    assert history["nodes"][0]["duration_seconds"] >= 1
    assert history["nodes"][1]["result_bytes"] == len('{"n":42}')


async def test_a_faulty_definition_is_refused_with_every_fault(served: Served) -> None:
    faulty = doubling()
    faulty["nodes"][1]["data"]["mapping"] = {"n": "triger.n"}
    faulty["nodes"].append({"id": "odd", "type": "nonsense", "data": {}})

    answer = await served("POST", "/api/v1/workflow/validate/", json={"definition": faulty})
    refused = await served("POST", "/api/v1/workflow/execute/", json={"definition": faulty})

    assert answer.status_code == 200
    faults = {one["path"]: one["message"] for one in answer.json()["faults"]}
    assert "did you mean trigger?" in faults["nodes[1].data.mapping.n"]
    assert "no type" in faults["nodes[2].type"]
    assert refused.status_code == 422
    assert "nodes[2].type" in refused.text


async def test_versions_are_kept_compared_and_executed_as_they_were(served: Served) -> None:
    path = "/api/v1/pipelines/doubling"
    first = await served("PUT", path, json={"definition": doubling()})
    second = await served("PUT", path, json={"definition": doubling(factor=3)})
    drawn = doubling(factor=3)
    drawn["nodes"][0]["position"] = {"x": 1, "y": 2}
    third = await served("PUT", path, json={"definition": drawn})

    assert [one.json()["number"] for one in (first, second, third)] == [1, 2, 2]
    difference = (await served("GET", f"{path}/diff?before=1")).json()
    assert any(line.startswith("+") and "trigger.n * 3" in line for line in difference["lines"])
    old = await executed(served, pipeline="doubling", version="1", input={"n": 5})
    new = await executed(served, pipeline="doubling", input={"n": 5})
    results = []
    for execution in (old, new):
        await seen(served, execution, "completed")
        path_of = f"/api/v1/workflow/executions/{execution}/nodes/twice/result"
        results.append((await served("GET", path_of)).json()["value"]["n"])
    assert results == [10, 15]
    listed = (await served("GET", "/api/v1/workflow/executions?pipeline=doubling")).json()
    assert [one["execution_id"] for one in listed["items"]] == [new, old]


async def test_it_is_paused_resumed_and_cancelled(served: Served) -> None:
    execution = await executed(served, definition=doubling(seconds=300), input={"n": 1})
    path = f"/api/v1/workflow/executions/{execution}"
    await seen(served, execution, "running", "wait")

    assert (await served("POST", f"{path}/pause")).json()["state"] in ("pausing", "paused")
    await seen(served, execution, "paused")
    assert (await served("POST", f"{path}/resume")).json()["state"] == "running"
    assert (await served("POST", f"{path}/cancel")).status_code == 200
    ended = await seen(served, execution, "cancelled")

    assert [one["state"] for one in ended["nodes"]] == ["cancelled", "skipped"]
    assert (await served("POST", f"{path}/pause")).status_code == 409


@pytest.mark.parametrize("version", ["same", "latest"])
async def test_it_goes_on_from_a_node_with_what_was_recorded(served: Served, version: str) -> None:
    path = f"/api/v1/pipelines/again-{version}"
    broken = doubling()
    broken["nodes"][1]["data"]["mapping"] = {"n": "trigger.n[0]"}
    await served("PUT", path, json={"definition": broken})
    failed = await executed(served, pipeline=f"again-{version}", input={"n": 4})
    await seen(served, failed, "failed")
    await served("PUT", path, json={"definition": doubling()})

    resume = {"execution_id": failed, "node": "twice", "version": version}
    again = await executed(served, resume=resume)
    ended = await seen(served, again, "completed" if version == "latest" else "failed")

    wait, twice = ended["nodes"]
    assert (wait["recorded_by"], twice["recorded_by"]) == (failed, None)
    assert (ended["resumed_from"], ended["resumed_node"]) == (failed, "twice")


async def test_what_there_is_not_is_not_found(served: Served) -> None:
    for path in ("status/never", "history/never", "executions/never/nodes/a/result"):
        assert (await served("GET", f"/api/v1/workflow/{path}")).status_code == 404
    refused = await served("POST", "/api/v1/workflow/execute/", json={"pipeline": "never"})
    assert refused.status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {"pipeline": "a\0"},
        {"pipeline": "a", "version": "\0"},
        {"resume": {"execution_id": "\0"}},
    ],
)
async def test_what_nothing_can_be_called_is_invalid(served: Served, body: dict[str, Any]) -> None:
    answer = await served("POST", "/api/v1/workflow/execute/", json=body)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert "U+0000" in answer.json()["detail"]


async def test_an_approval_is_decided_once_and_its_edge_taken(served: Served) -> None:
    definition = {
        "nodes": [
            {"id": "ask", "type": "approval", "data": {"title": "Post {{ trigger.n }}?"}},
            {
                "id": "told",
                "type": "transform",
                "data": {"transform_type": "mapping", "mapping": {"by": "ask.by"}},
            },
        ],
        "edges": [{"source": "ask", "target": "told", "sourceHandle": "approved"}],
    }
    execution = await executed(served, definition=definition, input={"n": 7})
    await seen(served, execution, "running", "ask")
    path = f"/api/v1/workflow/executions/{execution}/nodes/ask/decide"

    async def decided(outcome: str) -> Any:
        async with asyncio.timeout(120):
            while True:
                answer = await served("POST", path, json={"outcome": outcome})
                if answer.status_code != 409:  # it has begun, and does not wait yet
                    return answer.json()
                await asyncio.sleep(0.05)

    first, wrong = (
        await decided("approved"),
        await served("POST", path, json={"outcome": "received"}),
    )
    await seen(served, execution, "completed")
    result = await served("GET", f"/api/v1/workflow/executions/{execution}/nodes/told/result")

    again = await served("POST", path, json={"outcome": "rejected"})

    assert first["first"] is True
    assert (again.status_code, again.json()["first"]) == (200, False)
    assert wrong.status_code == 409
    rows = (await served("GET", "/api/v1/audit?limit=200")).json()["items"]
    [row] = [one for one in rows if one["action"] == "execution.decide"]
    assert (row["target"], row["details"]["outcome"]) == (execution, "approved")
    assert result.json()["value"]["by"].startswith("token:")


async def test_what_is_done_to_pipelines_is_in_the_audit_once(served: Served) -> None:
    path = "/api/v1/pipelines/audited"
    for _ in range(2):
        await served("PUT", path, json={"definition": doubling(seconds=300)})
    execution = await executed(served, pipeline="audited", input={"n": 1})
    await seen(served, execution, "running", "wait")
    for action in ("pause", "resume", "cancel"):
        await served("POST", f"/api/v1/workflow/executions/{execution}/{action}")
    await seen(served, execution, "cancelled")
    again = await executed(served, resume={"execution_id": execution, "node": "wait"})
    await served("POST", f"/api/v1/workflow/executions/{again}/cancel")
    await served("DELETE", path)
    assert (await served("DELETE", path)).status_code == 404

    rows = (await served("GET", "/api/v1/audit?limit=200")).json()["items"]
    targets = {execution, again, "audited"}
    done = [(one["action"], one["target"]) for one in reversed(rows) if one["target"] in targets]
    assert done == [
        ("pipeline.store", "audited"),
        ("pipeline.store", "audited"),
        ("execution.start", execution),
        ("execution.pause", execution),
        ("execution.resume", execution),
        ("execution.cancel", execution),
        ("execution.rerun", again),
        ("execution.cancel", again),
        ("pipeline.delete", "audited"),
    ]
    assert {one["actor"][:6] for one in rows if one["target"] in targets} == {"token:"}
    assert all(one["request_id"] for one in rows if one["target"] in targets)
