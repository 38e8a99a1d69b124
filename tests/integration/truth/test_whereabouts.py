"""Where data of people, records and pipelines gets to: what docs/security.md names, and no more."""

import asyncio
import re
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
import requests

from temporaletl.temporal.payload_keys import generate_key
from temporaletl.testing.postgres import empty_warehouse
from tests.documentation import code_in, tables, text_of
from tests.fakes.jira import generate, serve
from tests.fakes.server import Request, Response
from tests.integration.observability.collector import collecting
from tests.integration.observability.platform import SERVICES, Observed, observed
from tests.integration.pipelines.site import serving_site
from tests.integration.pipelines.test_encryption import histories
from tests.integration.temporal_server import TemporalServer
from tests.integration.truth.stored import stored
from tests.pipelines import definition, mapping
from tests.waiting import until
from tests.webhooks import running_webhooks

pytestmark = pytest.mark.timeout(1200)

_WITHIN_SECONDS = 200
_TOKEN, _OF_NODES, _OF_EXPORT = (f"canary-secret-{name}" for name in ("jira", "nodes", "otlp"))
#: Places other than tables of the warehouse.
_NO_TABLES = ("Temporal", "logs", "metrics", "traces", "notifications")
#: What stands for each row of the documentation's table, by the first words of that row.
CANARIES = {
    "credentials": (_TOKEN, _OF_NODES, _OF_EXPORT),
    "records": ("canary-record",),
    "records that became rejects": ("canary-reject",),
    "parameters of runs": ("canary-parameter",),
    "definitions of pipelines": ("canary-definition",),
    "inputs of executions": ("canary-input",),
    "results of nodes": ("canary-result",),
    "rows that `load` writes": ("canary-row",),
    "approvals": ("canary-title", "canary-comment"),
    "messages of errors": ("canary-error",),
}


@dataclass
class Found:
    """All that the platform left, by place."""

    texts: dict[str, str]

    def places(self, canaries: tuple[str, ...]) -> set[str]:
        return {place for place, text in self.texts.items() if any(one in text for one in canaries)}


async def _post(platform: Observed, path: str, **body: Any) -> dict[str, Any]:
    answer = await asyncio.to_thread(
        requests.post, f"{platform.api}/api/v1{path}", json=body, timeout=_WITHIN_SECONDS
    )
    assert answer.ok, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def _ended(platform: Observed, path: str, *states: str) -> dict[str, Any]:
    """What is at a path, once its state is one of these."""
    found: dict[str, Any] = {}

    async def has_ended() -> bool:
        answer = (await platform.get(f"{platform.api}/api/v1{path}")).json()
        found.update(answer.get("run") or answer)
        return found.get("state") in states

    await until(has_ended, within_seconds=_WITHIN_SECONDS)
    return found


async def _batches(platform: Observed) -> None:
    """A run that loads records and rejects one, and one with a parameter."""
    run = await _post(platform, "/sync/full", source="jira")
    ended = await _ended(platform, f"/runs/{run['workflowId']}", "completed", "failed")
    assert (ended["state"], ended["rows"]["rejected"]) == ("completed", 1), ended
    loaded = await platform.load(jobs=1, outage="canary-parameter")
    assert loaded["state"] == "completed"


def _document(site: str) -> dict[str, Any]:
    secret = {"X-Key": '{{ secret("shop") }}'}
    rows = {"table": "orders", "key": ["id"], "columns": {"id": "integer", "text": "text"}}
    return definition(
        {
            "got": ("api_call", {"url": f"{site}/result", "headers": secret}),
            "rows": ("load", {**rows, "rows": "[{'id': 1, 'text': 'canary-' + 'row'}]"}),
            "ask": ("approval", {"title": "{{ 'canary-' + 'title' }}", "timeout_seconds": 600}),
            "defined": mapping(text="'canary-definition'"),
            "refused": ("api_call", {"url": f"{site}/error", "headers": secret}),
        },
        "got -> rows",
        "rows -> ask",
        "ask -approved-> defined",
        "defined -> refused",
    )


async def _executions(platform: Observed, site: str) -> None:
    """An execution that waits for a person, is approved, and fails with its last node."""
    wanted = {"definition": _document(site), "input": {"text": "canary-input"}}
    name = (await _post(platform, "/workflow/execute/", **wanted))["execution_id"]

    decision = {"outcome": "approved", "comment": "canary-comment"}

    async def is_decided() -> bool:
        url = f"{platform.api}/api/v1/workflow/executions/{name}/nodes/ask/decide"
        answer = await asyncio.to_thread(requests.post, url, json=decision, timeout=_WITHIN_SECONDS)
        assert answer.ok or answer.status_code in (404, 409), answer.text  # it does not ask yet
        return answer.ok

    await until(is_decided, within_seconds=_WITHIN_SECONDS)
    status = await _ended(platform, f"/workflow/status/{name}", "completed", "failed")
    assert {node["id"] for node in status["nodes"] if node["state"] == "failed"} == {"refused"}


def _refused(request: Request) -> Response:
    assert request.headers["x-key"] == _OF_NODES
    return Response.of({"error": "canary-error"}, 400)


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["clear", "encrypted"])
async def found(
    request: pytest.FixtureRequest,
    shared_temporal: TemporalServer,
    postgres_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncGenerator[tuple[str, Found]]:
    """What a platform of processes left of two runs and an execution, with and without keys."""
    keys = {"ETL_PAYLOAD_KEYS": f"k1:{generate_key()}"} if request.param == "encrypted" else {}
    site = generate(12, seed=1, personality="server")
    site.edit.set_text(site.rows[0].id, "summary", "canary-record")
    site.edit.set_text(site.rows[1].id, "summary", "canary-reject")
    site.pin(site.rows[1]).fields["created"] = None
    temporal = await shared_temporal.with_namespace()
    async with AsyncExitStack() as exits:
        warehouse = exits.enter_context(empty_warehouse(postgres_url, max_connections=5))
        collector = exits.enter_context(collecting())
        environment = exits.enter_context(pytest.MonkeyPatch.context())
        answering = exits.enter_context(serving_site(environment))
        webhooks = exits.enter_context(running_webhooks())
        jira = exits.enter_context(serve(site, accepted=[_TOKEN]))
        answering.routes = {
            "/result": lambda _: Response.of({"text": "canary-result"}),
            "/error": _refused,
        }
        settings = {
            "JIRA_URL": jira.url,
            "JIRA_PERSONAL_TOKEN": _TOKEN,
            "PIPELINE_SECRET_SHOP": _OF_NODES,
            "PIPELINE_ALLOWED_NETWORKS": "127.0.0.0/8",
            "PIPELINE_ALLOWED_PORTS": str(answering.server.port),
            "NOTIFY_URLS": webhooks.url("/200/told"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
            "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={_OF_EXPORT}",
            **keys,
        }
        folder = tmp_path_factory.mktemp("whereabouts")
        async with observed(temporal, warehouse, postgres_url, folder, **settings) as platform:
            await _batches(platform)
            await _executions(platform, answering.url)
            await until(lambda: len(webhooks.posts) >= 1, within_seconds=_WITHIN_SECONDS)
            scrapes = [await platform.scrape(service) for service in SERVICES]
        history = await histories(temporal, temporal.client.namespace)
        others = (
            history.decode("utf-8", "replace"),
            platform.log,
            "".join(scrapes),
            "".join(str(span) for _, span in collector.spans),
            "".join(post.raw.decode() for post in webhooks.posts),
        )
        texts = dict(zip(_NO_TABLES, others, strict=True))
        yield request.param, Found({**texts, **stored(warehouse)})


def documented(column: int) -> Mapping[str, set[str]]:
    """The places of the table in docs/security.md, by what it speaks of."""
    [rows] = [rows for head, rows in tables(text_of("security.md")) if head[0] == "where is"]
    return {
        row[0]: {
            *code_in(row[column]),
            *re.findall(rf"\b(?:{'|'.join(_NO_TABLES)})\b", row[column]),
        }
        for row in rows
    }


def test_what_is_documented_is_where_everything_gets_to(found: tuple[str, Found]) -> None:
    how, left = found
    expected = documented(2 if how == "encrypted" else 1)
    assert all(len(left.texts[place]) > 100 for place in _NO_TABLES)
    assert expected.keys() == CANARIES.keys()
    wrong = [
        f"{what}: {sorted(places)}, documented {sorted(expected[what])}"
        for what, canaries in CANARIES.items()
        if (places := left.places(canaries)) != expected[what]
    ]
    assert not wrong, "\n".join(wrong)
