"""What holds of every operation: whom it answers, and what it says to what is wrong or unknown."""

import asyncio
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import requests

from tests.integration.api.in_process import Served

NOBODY = "never-was"
SPAN = {"start": "2024-01-01T00:00:00Z", "end": "2024-01-02T00:00:00Z"}
SCHEDULE = {"days": "*", "hours": "3"}

#: Stores what is not there yet.
CREATES = "store_pipeline"
PIPELINE = {"nodes": [{"id": "wait", "type": "delay", "data": {"seconds": 1}}]}


class Row(NamedTuple):
    """Who may use an operation, and a body that it takes; None: it has none, or needs none."""

    needs: Literal["operate", "decrypt", "read"] | None
    body: dict[str, Any] | None = None
    query: str = ""
    #: A stream's answer goes on until its reader leaves.
    is_stream: bool = False
    #: It answers a signature, and no token.
    is_signed: bool = False


READ, ACT, OPEN = Row("read"), Row("operate"), Row(None)
#: A new operation needs a row here.
ROWS = {
    **dict.fromkeys(("get_liveness", "get_readiness", "get_health", "get_temporal_health"), OPEN),
    **dict.fromkeys(("list_runs", "get_run", "get_result", "get_run_log"), READ),
    **dict.fromkeys(("list_jobs", "list_pages"), READ),
    **dict.fromkeys(("list_workflows", "get_workflow", "list_schedules", "get_schedule"), READ),
    **dict.fromkeys(("get_state", "get_reject", "list_sources", "list_audit"), READ),
    **dict.fromkeys(("list_source_connections", "get_source_connection"), READ),
    **dict.fromkeys(("list_collections", "get_collection"), READ),
    **dict.fromkeys(("list_pipelines", "get_pipeline", "list_versions", "get_version"), READ),
    **dict.fromkeys(("pipeline_schema", "list_executions", "execution_status"), READ),
    **dict.fromkeys(("execution_history", "node_result"), READ),
    **dict.fromkeys(("decode_payloads", "encode_payloads"), Row("decrypt", {"payloads": []})),
    "diff_versions": Row("read", query="before=1"),
    "validate_pipeline": Row("read", {"definition": PIPELINE}),
    "execute_pipeline": Row("operate", {"pipeline": NOBODY}),
    "store_pipeline": Row("operate", {"definition": PIPELINE}),
    **dict.fromkeys(("pause_execution", "resume_execution", "cancel_execution"), ACT),
    "delete_pipeline": ACT,
    "receive_webhook": Row(None, {"order": 7}, is_signed=True),
    "decide_node": Row("operate", {"outcome": "approved"}),
    **dict.fromkeys(("get_freshness", "list_notifications", "list_destinations"), READ),
    "follow_runs": Row("read", is_stream=True),
    "test_notifications": Row("operate", {"destination": NOBODY}),
    **dict.fromkeys(("list_rejects", "list_identities"), Row("read", query="source=numbers")),
    "fill_identities": Row("operate", query="source=numbers"),
    **dict.fromkeys(("pause_run", "resume_run", "cancel_run", "cancel_workflow"), ACT),
    **dict.fromkeys(("pause_schedule", "resume_schedule", "delete_schedule"), ACT),
    **dict.fromkeys(("unblock_source", "check_source", "check_source_connection"), ACT),
    **dict.fromkeys(("delete_source_connection", "delete_collection"), ACT),
    **dict.fromkeys(("add_member", "remove_member", "list_tokens", "revoke_token"), ACT),
    **dict.fromkeys(("retry_run", "replay_reject", "trigger_schedule"), Row("operate", {})),
    **dict.fromkeys(("run_source_connection", "refresh_collection"), Row("operate", {})),
    **dict.fromkeys(
        ("sync_full", "sync_incremental", "start_run"), Row("operate", {"source": NOBODY})
    ),
    "replay_rejects": Row("operate", {"source": NOBODY}),
    "start_backfill": Row("operate", {"source": NOBODY, **SPAN}),
    "backfill_schedule": Row("operate", SPAN),
    "create_schedule": Row("operate", {"source": NOBODY, **SCHEDULE}),
    "replace_schedule": Row("operate", SCHEDULE),
    "set_state": Row("operate", {"watermark": None}),
    "create_source_connection": Row("operate", {"name": "one", "source": NOBODY}),
    "replace_source_connection": Row("operate", {}),
    "create_collection": Row("operate", {"name": "one", "members": [{"source": NOBODY}]}),
    "replace_collection": Row("operate", {"name": "one"}),
    "create_token": Row("operate", {"name": "one", "scope": "read"}),
}


class Operation(NamedTuple):
    id: str
    method: str
    path: str
    described: dict[str, Any]

    @property
    def row(self) -> Row:
        return ROWS[self.id]

    @property
    def takes(self) -> set[str]:
        """The parameters that it has in its path or its query."""
        return {one["name"] for one in self.described.get("parameters", ())}

    async def send(self, served: Served, **changed: Any) -> requests.Response:
        path = self.path.replace("{reject_id}", "999999999").replace("{member}", "numbers")
        for name in self.takes:
            path = path.replace(f"{{{name}}}", NOBODY)
        more = {"json": self.row.body, "headers": {"If-Match": "*"}, **changed}
        query = more.pop("query", self.row.query)
        return await served(self.method, f"{path}?{query}", **more)


def operations(served: Served) -> Iterator[Operation]:
    for path, methods in served.app.openapi()["paths"].items():
        for method, described in methods.items():
            yield Operation(described["operationId"], method.upper(), path, described)


async def answers(
    served: Served, chosen: list[Operation], **changed: Any
) -> list[tuple[Operation, requests.Response]]:
    slots = asyncio.Semaphore(2)  # the application answers from threads of the same pool

    async def answer(one: Operation) -> requests.Response:
        async with slots:
            return await one.send(served, **changed)

    found = await asyncio.gather(*map(answer, chosen))
    return list(zip(chosen, found, strict=True))


def check(found: list[tuple[Operation, requests.Response]], status: int) -> None:
    other = {
        one.id: (answer.status_code, answer.text)
        for one, answer in found
        if answer.status_code != status
    }
    assert not other
    for one, answer in found:
        assert answer.headers["content-type"] == "application/problem+json", one.id
        assert answer.json()["detail"], one.id
        assert str(status) in one.described["responses"], one.id


def test_every_operation_has_its_row(served: Served) -> None:
    assert {one.id for one in operations(served)} == ROWS.keys()


async def test_a_wrong_token_is_answered_nowhere(served: Served) -> None:
    guarded = [one for one in operations(served) if one.row.needs is not None]
    wrong = {"Authorization": "Bearer etl_000000000000_wrong", "If-Match": "*"}
    check(await answers(served, guarded, headers=wrong), 401)


async def test_a_token_that_may_read_reads_all_and_does_nothing(served: Served) -> None:
    reader = await served.token_of("read")
    acting = [one for one in operations(served) if one.row.needs in ("operate", "decrypt")]
    check(await answers(reader, acting), 403)
    decrypter = await served.token_of("decrypt")
    operating = [one for one in acting if one.row.needs == "operate"]
    check(await answers(decrypter, operating), 403)
    reading = [
        one for one in operations(served) if one.row.needs == "read" and not one.row.is_stream
    ]
    for one, answer in await answers(reader, reading):
        assert answer.status_code in (200, 404), (one.id, answer.text)


async def test_what_an_operation_does_not_take_is_named(served: Served) -> None:
    bodies = [
        one
        for one in operations(served)
        if "requestBody" in one.described and not one.row.is_signed
    ]
    found = await answers(served, bodies, json={"colour": "red"})
    check(found, 422)
    for one, answer in found:
        assert "body.colour" in {fault["location"] for fault in answer.json()["faults"]}, one.id
    lists = [one for one in operations(served) if "limit" in one.takes]
    for wrong in ("limit=0", "limit=many", "limit=100000"):
        check(await answers(served, lists, query=f"source=numbers&{wrong}"), 422)
    paged = [one for one in operations(served) if "after" in one.takes]
    check(await answers(served, paged, query="source=numbers&after=nothing"), 422)


async def test_what_is_not_there_is_not_found(served: Served) -> None:
    named = [one for one in operations(served) if "{" in one.path and one.id != CREATES]
    signed = [one for one in named if one.row.is_signed]
    check(await answers(served, [one for one in named if one not in signed]), 404)
    check(await answers(served, signed), 401)
    of_sources = (
        "sync_full",
        "start_run",
        "replay_rejects",
        "start_backfill",
        "create_source_connection",
        "create_schedule",
        "create_collection",
        "sync_incremental",
    )
    check(await answers(served, [one for one in operations(served) if one.id in of_sources]), 404)
