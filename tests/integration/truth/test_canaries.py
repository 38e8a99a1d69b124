"""Secrets of every kind, in runs and requests that go well and wrong: none leaves the platform."""

import io
import logging
import os
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field, replace
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
import requests
import structlog

from temporaletl.control.api.access import COOKIE
from temporaletl.control.operations.platform import Platform
from temporaletl.control.web import dashboard as front
from temporaletl.secrets import REDACTED
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings
from temporaletl.telemetry.logs import configure_logs
from tests.echo import echoing
from tests.fakes.server import Request, Response
from tests.integration.api.in_process import Served, platform_of, schema_of, serving
from tests.integration.engine.running import select
from tests.integration.flows.services import Services, running
from tests.integration.pipelines.site import serving_site
from tests.integration.temporal_server import TemporalServer
from tests.integration.truth.stored import stored
from tests.pipelines import definition, mapping
from tests.waiting import until
from tests.webhooks import Webhooks, running_webhooks

_WITHIN_SECONDS = 180
#: Wherever a secret is, so is this.
CANARY = "canary77"
BY_ENV, BY_FILE = f"env-token/{CANARY}+1", f"file<token>{CANARY}&2"
BY_NODE = f"of a node&{CANARY}=3"
PASTED = f"pasted-{CANARY}-where-it-does-not-belong"
SETTINGS = {"JIRA_EMAIL": "me@example.com"}
CONNECTIONS = "/api/v1/source-connections"


@dataclass
class Stack:
    """The platform with canaries for secrets; `answers` are all that anybody was given."""

    served: Served
    services: Services
    webhooks: Webhooks
    echo: str
    site: str
    log: io.StringIO
    cookie: str = ""
    #: What was handed out on purpose: tokens and log-ins, without CANARY in them.
    given: list[str] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)

    async def __call__(self, method: str, path: str, **more: Any) -> requests.Response:
        answer = await self.served(method, path, **more)
        self.answers.append(f"{answer.headers} {answer.text}")
        return answer

    async def page(self, path: str, method: str = "GET", **more: Any) -> requests.Response:
        headers = {"Cookie": f"{COOKIE}={self.cookie}", "Sec-Fetch-Site": "same-origin"}
        anybody = replace(self.served, headers={})
        answer = await anybody(method, path, headers=headers, allow_redirects=False, **more)
        self.answers.append(f"{answer.headers} {answer.text}")
        return answer


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(
    temporal_server: TemporalServer, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Stack]:
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "token").write_text(f"{BY_FILE}\n")
    root, log = logging.getLogger(), io.StringIO()
    before = root.level, [*root.handlers]
    with (
        running_webhooks() as webhooks,
        echoing() as echo,
        pytest.MonkeyPatch.context() as environment,
        serving_site(environment) as site,
    ):
        site.routes = {"/taken": _repeated(200), "/refused": _repeated(400)}
        host = f"127.0.0.1:{webhooks.port}"
        hooks = [
            f"http://{host}/500/{CANARY}-webhook",
            f"{echo}/{CANARY}-echoed-webhook",
            f"json://user:{CANARY}-pass@{host}/500/{CANARY}-apprise",
        ]
        environment.setenv("ACME_TOKEN", BY_ENV)
        environment.setenv("PIPELINE_SECRET_SHOP", BY_NODE)
        environment.setenv("ETL_SECRET_FOLDERS", str(folder))
        environment.setenv("SLACK_WEBHOOK_URL", f"http://{host}/404/services/T0/{CANARY}-slack")
        environment.setenv("NOTIFY_URLS", ",".join(hooks))
        environment.setenv("ETL_WEBHOOK_SECRET", f"{CANARY}-signing-key")
        configure_logs(level=logging.DEBUG, stream=log)
        with_password = f"{postgres_url}&password={CANARY}-of-postgresql"
        async with (
            schema_of(with_password) as warehouse,
            running(temporal_server.client, warehouse, segment_seconds=1) as services,
            serving(
                platform_of(services, with_password), services, fronts=(front.install,)
            ) as served,
        ):
            yield await _with_access(Stack(served, services, webhooks, echo, site.url, log))
    structlog.reset_defaults()
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def _repeated(status: int) -> Callable[[Request], Response]:
    """Repeats the secret that it was sent: in a good answer, or in an error."""

    def answer(request: Request) -> Response:
        assert BY_NODE in request.headers["x-key"]
        return Response.of({"data": dict(request.headers), "error": str(request.query)}, status)

    return answer


async def _with_access(stack: Stack) -> Stack:
    """Create a token and log in with it: both are handed out, and nowhere else."""
    key = {"Idempotency-Key": f"{CANARY}-key"}
    body = {"name": "operator", "scope": "operate"}
    made = await stack.served("POST", "/api/v1/tokens", json=body, headers=key)
    assert made.status_code == 201, made.text
    token = made.json()["text"]
    stack.served = replace(stack.served, headers={"Authorization": f"Bearer {token}"})
    form = {"token": token}
    anybody = replace(stack.served, headers={"Sec-Fetch-Site": "same-origin"})
    answer = await anybody("POST", "/log-in", data=form, allow_redirects=False)
    assert answer.status_code == 303, answer.text
    stack.cookie = SimpleCookie(answer.headers["set-cookie"])[COOKIE].value
    stack.given = [token, stack.cookie]
    return stack


async def _ended(stack: Stack, run: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    async def has_ended() -> bool:
        found.update((await stack("GET", f"/api/v1/runs/{run}")).json().get("run") or {})
        return found.get("ended_at") is not None

    await until(has_ended, within_seconds=_WITHIN_SECONDS)
    return found


async def _connections(stack: Stack) -> None:
    """Load connections whose source refuses everything and repeats what it was sent."""
    places = {"env": "ACME_TOKEN"}, {"file": f"{os.environ['ETL_SECRET_FOLDERS']}/token"}
    for name, place in zip(("by_env", "by_file"), places, strict=True):
        settings = {**SETTINGS, "JIRA_URL": stack.echo}
        body = {
            "name": name,
            "source": "jira",
            "settings": settings,
            "secrets": {"JIRA_API_TOKEN": place},
        }
        made = await stack("POST", CONNECTIONS, json=body)
        assert made.status_code == 201, made.text
        await stack("POST", f"{CONNECTIONS}/{name}/check")
        started = await stack("POST", f"{CONNECTIONS}/{name}/run", json={"mode": "full"})
        assert started.status_code == 202, started.text
        run = started.json()["workflowId"]
        assert (await _ended(stack, run))["state"] == "failed"
        for more in ("", "/jobs", "/pages", "/log", "/result"):
            await stack("GET", f"/api/v1/runs/{run}{more}")
        for path in (f"/runs/{run}", f"/connections/jira/{name}"):
            await stack.page(path)


async def _pasted(stack: Stack) -> None:
    """Send secrets where none belongs: as a name, a value, a path, a part of an address."""
    secret = BY_ENV
    url = f"https://me:{PASTED}@jira.example.com"
    wrong: list[dict[str, Any]] = [
        {"name": PASTED, "source": "jira", "settings": {}, "secrets": {"JIRA_API_TOKEN": PASTED}},
        {"name": "w", "source": "jira", "settings": {"JIRA_API_TOKEN": PASTED}},
        {"name": "w", "source": "jira", "settings": {"JIRA_URL": url}, "secrets": {}},
        {
            "name": "w",
            "source": "jira",
            "settings": {**SETTINGS, "JIRA_URL": stack.echo, "JIRA_JQL": secret},
        },
        {
            "name": "w",
            "source": "jira",
            "settings": {**SETTINGS, "JIRA_URL": stack.echo, secret: 1},
        },
        {"name": secret, "source": "jira", "settings": {}},
        {secret: 1, "name": secret, "source": secret},
    ]
    for body in wrong:
        answer = await stack("POST", CONNECTIONS, json=body)
        assert answer.status_code in (404, 422), answer.text
    key = {"Idempotency-Key": "once"}
    for body in (
        {"source": secret},
        {"source": "numbers", "connection": secret},
        {"source": "numbers", secret: secret},
        {"source": "numbers", "params": {"least": secret}},
        {"source": "numbers", "params": {"outage": secret}},
        {"source": "numbers", "params": {secret: 1}},
        {"source": "numbers", "streams": [secret]},
    ):
        answer = await stack("POST", "/api/v1/sync/full", json=body, headers=key)
        assert answer.status_code in (404, 422), (body, answer.text)
    started = await stack("POST", "/api/v1/sync/full", json={"source": "numbers"}, headers=key)
    run = started.json()["workflowId"]
    await _ended(stack, run)
    token = stack.given[0]
    await stack("POST", f"/api/v1/sync/{run}/pause", json={"reason": f"{token} {secret}"})
    await stack("GET", f"/api/v1/runs?after={token}&state={token}")
    await stack("POST", "/api/v1/sync/full", json={"source": token, token: token})
    await stack.page("/connections/new", "POST", data={"source": "jira", "name": token})
    for name in ("", "?q="):
        await stack("GET", f"/api/v1/runs/{name}{quote(secret, safe='')}")
        await stack("GET", f"/nothing/{name}{quote(secret, safe='')}")
    form = {"source": "jira", "name": "w", "setting": secret, "JIRA_API_TOKEN": PASTED}
    await stack.page("/connections/new", "POST", data=form)
    await stack.page("/runs", "POST", data={"source": "numbers", "params": f'{{"{secret}": 1}}'})
    await stack.page("/runs/none/pause", "POST", data={"reason": secret})
    anybody = replace(stack.served, headers={"Authorization": f"Bearer {secret}"})
    stack.answers.append((await anybody("GET", "/api/v1/runs")).text)


def _leaky(site: str) -> dict[str, Any]:
    """A pipeline whose nodes send a secret, get it back, and pass on what they got."""
    secret = '{{ secret("shop") }}'

    def call(path: str, **more: Any) -> dict[str, Any]:
        sent = {"headers": {"X-Key": secret}, "query": {"key": f"a {secret}"}}
        return {"url": f"{site}/{path}", **sent, **more}

    hook = {"url": f"{site}/refused", "payload": {"n": 1}, "signing_secret": "shop"}
    each = {"over": "trigger", "type": "api_call", "data": call("refused")}
    return definition(
        {
            "taken": ("api_call", call("taken")),
            "kept": mapping(all="inputs"),
            "refused": ("api_call", call("refused")),
            "why": mapping(all="inputs"),
            "hook": ("webhook", {**hook, "headers": {"X-Key": secret}, "on_error": "continue"}),
            "each": ("map", each),
            "last": mapping(n="1 // 0"),
        },
        "taken -> kept",
        "refused -error-> why",
        "hook -> each",
        "each -> last",
    )


async def _pipelines(stack: Stack) -> None:
    """Execute a pipeline whose nodes fail with secrets in hand; then paste one into another."""
    document = _leaky(stack.site)
    stored = await stack("PUT", "/api/v1/pipelines/leaky", json={"definition": document})
    assert stored.status_code == 200, stored.text
    body = {"pipeline": "leaky", "input": [1, 2]}
    started = await stack("POST", "/api/v1/workflow/execute/", json=body)
    assert started.status_code == 202, started.text
    name = started.json()["execution_id"]
    status: dict[str, Any] = {}

    async def has_ended() -> bool:
        status.update((await stack("GET", f"/api/v1/workflow/status/{name}")).json())
        return status["state"] not in ("pending", "running")

    await until(has_ended, within_seconds=_WITHIN_SECONDS)
    states = {node["id"]: node["state"] for node in status["nodes"]}
    ended = dict.fromkeys(nodes := [node["id"] for node in document["nodes"]], "completed")
    assert states == {**ended, "refused": "failed", "hook": "failed", "last": "failed"}
    for node in nodes:
        shown = await stack("GET", f"/api/v1/workflow/executions/{name}/nodes/{node}/result")
        assert node not in ("kept", "why") or REDACTED in shown.text
    resume = {"resume": {"execution_id": name, "node": "last"}}
    pasted = {"x": f"of a {BY_NODE}"}
    requested: list[tuple[dict[str, Any], int]] = [
        (resume, 202),
        ({"pipeline": "leaky", "input": pasted}, 422),
        ({"definition": {**document, "description": BY_NODE}}, 422),
    ]
    for request, code in requested:
        answer = await stack("POST", "/api/v1/workflow/execute/", json=request)
        assert answer.status_code == code, answer.text
    wrong = {"definition": definition({"n": mapping(n=f"'{BY_NODE}'")})}
    assert (await stack("PUT", "/api/v1/pipelines/w", json=wrong)).status_code == 422
    await stack("POST", "/api/v1/workflow/validate/", json=wrong)
    for path in (f"history/{name}", f"status/{name}", "executions", f"executions/{BY_NODE}"):
        await stack("GET", f"/api/v1/workflow/{quote(path)}")
    for path in ("", "/leaky", "/leaky/versions", f"/{quote(BY_NODE, safe='')}"):
        await stack("GET", f"/api/v1/pipelines{path}")
    for path in ("/pipelines", "/pipelines/leaky", f"/executions/{name}"):
        page = await stack.page(path)
        assert page.status_code == 200, page.text
    form = {"input": f'"{BY_NODE}"'}
    await stack.page("/pipelines/leaky/execute", "POST", data=form)
    await stack.page(f"/executions/{name}/nodes/last/decide", "POST", data={"comment": BY_NODE})


async def _all_pages(stack: Stack) -> None:
    for path in (
        *("", "/rejects", "/schedules", "/people", "/notifications", "/audit", "/tokens"),
        *("/connections", "/runs", "/events"),
    ):
        await stack.page(path or "/")
    for path in (
        *("runs", "audit", "tokens", "notifications", "notifications/destinations", "freshness"),
        *("source-connections", "sources", "state", "temporal/workflows", "temporal/schedules"),
    ):
        await stack("GET", f"/api/v1/{path}")
    for path in ("/health", "/openapi.json", "/docs"):
        await stack("GET", path)


async def _broken(stack: Stack) -> None:
    """Ask a platform whose warehouse and Temporal refuse it."""
    temporal = TemporalSettings.model_validate(
        {"address": "127.0.0.1:9", "api_key": f"{CANARY}-of-temporal", "tls": True}
    )
    nowhere = f"postgresql://me:{CANARY}-nowhere@127.0.0.1:9/warehouse"
    settings = WarehouseSettings.model_validate({"database_url": nowhere})
    async with serving(Platform(temporal, settings), fronts=(front.install,)) as broken:
        for path in ("/health", "/api/v1/runs", "/api/v1/temporal/workflows", "/", "/runs"):
            answer = await broken("GET", path)
            stack.answers.append(f"broken {path}: {answer.status_code} {answer.text}")


async def _histories(stack: Stack) -> str:
    client = stack.services.client
    handles = [
        client.get_workflow_handle(one.id, run_id=one.run_id)
        for queue in (stack.services.queue, f"{stack.services.queue}-etl")
        async for one in client.list_workflows(f"TaskQueue = '{queue}'")
    ]
    assert handles
    return "".join([(await handle.fetch_history()).to_json() for handle in handles])


async def test_no_secret_is_in_anything_that_leaves_or_stays(stack: Stack) -> None:
    await _connections(stack)
    await _pasted(stack)
    await _pipelines(stack)
    await stack("POST", "/api/v1/notifications/test", json={})
    await until(
        lambda: len(select(stack.services.warehouse, "SELECT FROM etl_notifications")) > 0,
        within_seconds=_WITHIN_SECONDS,
    )
    await _broken(stack)
    await _all_pages(stack)
    texts = {
        **{f"answer {number}": text for number, text in enumerate(stack.answers)},
        **{f"table {name}": text for name, text in stored(stack.services.warehouse).items()},
        "log": stack.log.getvalue(),
        "histories": await _histories(stack),
        "notifications": "".join(post.raw.decode() for post in stack.webhooks.posts),
        "settings": repr([stack.served.platform, stack.served.platform.warehouse_settings]),
    }
    assert len(texts["log"]) > 1_000
    assert texts["notifications"]
    assert texts["table etl_audit"]
    found = [
        f"{where}: …{text[max(0, text.index(secret) - 200) :][:300]}…"
        for where, text in texts.items()
        for secret in (CANARY, *stack.given)
        if secret in text
    ]
    assert not found, "\n".join(found)
