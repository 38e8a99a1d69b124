"""The client of the HTTP API: errors by class, the token that goes nowhere else, cut answers."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from temporaletl.control.client.api import Api
from temporaletl.control.client.calls import remote
from temporaletl.control.client.following import RemoteRun, StartedRun
from temporaletl.control.client.problems import (
    ApiCredentialsError,
    ApiProtocolError,
    ApiUnavailableError,
)
from temporaletl.control.client.settings import ClientSettings, NotOverApiError
from temporaletl.control.error_codes import ERROR_CODES
from temporaletl.control.operations.audit import list_audit
from temporaletl.control.operations.following import LostSightError
from temporaletl.control.operations.preview import preview
from temporaletl.control.operations.tokens import list_tokens
from temporaletl.errors import ConfigurationError, ETLError, RetryableError
from temporaletl.warehouse.idempotency import RequestRunningError

TOKEN = "etl_0123456789ab_of-this-client-alone"
STARTED = {
    "workflowId": "w",
    "runId": "r",
    "queue": "q",
    "engine": "temporal",
    "source": "jira",
    "connection": "default",
    "mode": "full",
    "retries": None,
}


@dataclass
class Answer:
    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: bool = False
    #: What happens before it is sent.
    meanwhile: Callable[[], object] = str

    @classmethod
    def problem(cls, status: int, code: str, detail: str = "said", **headers: str) -> "Answer":
        kind = {"Content-Type": "application/problem+json"}
        return cls(status, {"detail": detail, "code": code}, {**kind, **headers})


@dataclass
class Script:
    """A server that gives answers in their order, the last of them for ever."""

    answers: list[Answer]
    address: str = ""
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)

    def api(self) -> Api:
        return Api(ClientSettings.model_validate({"url": self.address, "token": TOKEN}))

    async def call[T](self, work: Callable[[Api], Any]) -> Any:
        async with self.api() as api:
            return await work(api)


@pytest.fixture
def script() -> Iterator[Script]:
    known = Script([])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known.requests.append((self.command, self.path, dict(self.headers)))
            answer = known.answers.pop(0) if len(known.answers) > 1 else known.answers[0]
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            answer.meanwhile()
            if answer.cut:
                self.close_connection = True
                self.connection.close()
                return
            body = b"" if answer.body is None else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in {"Content-Type": "application/json", **answer.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the server's own names

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        known.address = f"http://127.0.0.1:{server.server_port}"
        yield known
        server.shutdown()
        thread.join()


async def error_of(script: Script, answer: Answer) -> ETLError:
    script.answers = [answer]
    with pytest.raises(ETLError) as raised:
        await script.call(remote(list_tokens))
    return raised.value


@pytest.mark.parametrize(("kind", "status", "code"), ERROR_CODES)
async def test_a_problem_is_the_error_that_the_operation_raised(
    script: Script, kind: type[ETLError], status: int, code: str
) -> None:
    error = await error_of(script, Answer.problem(int(status), code, f"{code}: do this"))
    assert type(error) is kind
    assert str(error) == f"{code}: do this"


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (Answer.problem(401, "unauthenticated"), ApiCredentialsError, "said"),
        (Answer.problem(403, "forbidden"), ApiCredentialsError, "said"),
        (Answer.problem(413, "too-large"), ConfigurationError, "said"),
        (Answer.problem(500, "internal"), ETLError, "said"),
        (Answer.problem(404, "not-found", "Not Found"), ApiProtocolError, "another version"),
        (Answer.problem(599, "internal"), ETLError, "said"),
        (Answer(502, {}), ApiUnavailableError, "does not answer: HTTP 502"),
        (Answer(522, {}), ApiUnavailableError, "does not answer: HTTP 522"),
        (Answer(520), ApiUnavailableError, "does not answer: HTTP 520"),
        (Answer(200, {"items": 1}), ApiProtocolError, "does not fit (items)"),
        (Answer(200, None, {"Content-Type": "text/html"}), ApiProtocolError, "another version"),
        (Answer(404, {}), ApiProtocolError, "no API of this platform: HTTP 404"),
        (Answer(cut=True), ApiUnavailableError, "does not answer: the connection failed"),
    ],
)
async def test_what_else_answers_is_told(
    script: Script, answer: Answer, kind: type[ETLError], said: str
) -> None:
    error = await error_of(script, answer)
    assert type(error) is kind
    assert said in str(error)
    assert TOKEN not in str(error)


@pytest.mark.parametrize("page", [{}, {"items": {}}, {"items": [1]}])
async def test_a_list_that_is_none_is_told(script: Script, page: dict[str, Any]) -> None:
    script.answers = [Answer(200, page)]
    with pytest.raises(ApiProtocolError, match="another version"):
        await script.call(lambda api: api.pages(StartedRun, "runs", limit=1))


async def test_too_many_requests_are_told_with_the_delay(script: Script) -> None:
    answer = Answer.problem(429, "too-many-requests", **{"Retry-After": "60"})
    error = await error_of(script, answer)
    assert isinstance(error, RetryableError)
    assert error.delay == timedelta(seconds=60)


async def test_the_token_goes_to_its_address_and_follows_no_redirect(
    script: Script, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    error = await error_of(script, Answer(308, None, {"Location": f"{script.address}/elsewhere"}))
    assert type(error) is ConfigurationError
    assert "redirects" in str(error)
    [(_, path, headers)] = script.requests
    assert (path, headers["Authorization"]) == ("/api/v1/tokens", f"Bearer {TOKEN}")
    assert TOKEN not in repr(script.api().__dict__)


async def test_a_token_is_replaced_in_its_file_between_requests_and_during_one(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    file.write_text("etl_first")
    monkeypatch.setenv("ETL_API_URL", script.address)
    monkeypatch.setenv("ETL_API_TOKEN_FILE", str(file))
    refused = Answer.problem(401, "unauthenticated")
    replaced = replace(refused, meanwhile=lambda: file.write_text("etl_third"))
    script.answers = [Answer(body=[]), Answer(body=[]), replaced, Answer(body=[]), refused]
    async with Api(ClientSettings.load()) as api:
        await api.get(list[str], "first")
        file.write_text("etl_second")
        for _ in range(2):
            await api.get(list[str], "then")
        with pytest.raises(ApiCredentialsError):
            await api.get(list[str], "last")
    sent = [headers["Authorization"] for _, _, headers in script.requests]
    assert sent == [f"Bearer etl_{n}" for n in ("first", "second", "second", "third", "third")]


async def test_a_start_whose_answer_is_cut_off_is_sent_again_with_its_key(script: Script) -> None:
    started = Answer(202, STARTED)
    running = Answer.problem(409, "request-running")
    script.answers = [Answer(cut=True), running, running, running, started]
    made = await script.call(lambda api: api.start(StartedRun, "runs", json={"source": "jira"}))
    assert made == StartedRun.model_validate(STARTED)
    keys = [headers["Idempotency-Key"] for _, _, headers in script.requests]
    assert len(keys) == 5
    assert len(set(keys)) == 1


async def test_a_start_is_not_sent_for_ever(script: Script) -> None:
    script.answers = [Answer(cut=True)]
    with pytest.raises(ApiUnavailableError):
        await script.call(lambda api: api.start(StartedRun, "runs", json={}))
    assert len(script.requests) == 3
    assert RequestRunningError in {kind for kind, _, _ in ERROR_CODES}


def report(state: str = "running", *, ended: bool = False) -> Answer:
    run = {
        "workflow_id": "w",
        "run_id": "r",
        "batch_id": "b",
        "state": state,
        "started_at": "2026-01-01T00:00:00Z",
        "ended_at": "2026-01-01T00:01:00Z" if ended else None,
        "jobs": {"planned": 2, "completed": 1, "running": 1},
    }
    trouble = {"workflow_id": "w", "error": "slow", "activity": "expand_jobs", "attempt": 2}
    return Answer(200, {"run": run, "troubles": [] if ended else [trouble]})


async def followed(script: Script, silence: timedelta) -> tuple[list[Any], Any]:
    started = StartedRun.model_validate(STARTED)
    async with script.api() as api:
        run = RemoteRun(api, started, silence=silence)
        async with asyncio.timeout(120):
            return [snapshot async for snapshot in run.snapshots()], await run.result()


async def test_an_api_that_is_away_for_a_while_is_sat_out(script: Script) -> None:
    summary = {"batch_id": "b", "workflow_id": "w", "state": "completed", "seconds": 60}
    result = Answer(200, {"summary": summary, "misconfigured": False})
    script.answers = [report(), Answer(cut=True), report("completed", ended=True), result]
    seen, ended = await followed(script, timedelta(minutes=5))
    assert [(one.state, one.planned, one.done) for one in seen] == [("running", 2, 1)] * 2
    assert seen[0].trouble == "slow (expand_jobs, attempt 2)"
    assert "does not answer" in seen[1].trouble
    assert (ended.summary.state, ended.misconfigured) == ("completed", False)


async def test_an_api_that_stays_away_does_not_end_the_run(script: Script) -> None:
    script.answers = [Answer(503, {})]
    with pytest.raises(LostSightError, match="`etl status w` once the API answers"):
        await followed(script, timedelta(seconds=1))


async def test_lists_are_read_page_by_page_as_far_as_they_are_wanted(script: Script) -> None:
    def page(ids: range, following: str | None) -> Answer:
        entry: dict[str, Any] = {
            **dict.fromkeys(("actor", "action", "target"), "x"),
            "at": "2026-01-01T00:00:00Z",
            "outcome": "done",
            "details": {},
            "reason": None,
            "request_id": None,
        }
        return Answer(200, {"items": [{**entry, "audit_id": i} for i in ids], "next": following})

    script.answers = [page(range(200), "more"), page(range(200, 250), "and more")]
    found = await script.call(lambda api: remote(list_audit)(api, limit=250))
    assert [entry.audit_id for entry in found.entries] == [*range(250)]
    assert found.next is not None
    paths = [path for _, path, _ in script.requests]
    assert paths == ["/api/v1/audit?limit=200", "/api/v1/audit?limit=50&after=more"]


def test_what_is_of_the_machine_is_not_done_over_the_api() -> None:
    with pytest.raises(NotOverApiError, match="unset ETL_API_URL"):
        remote(preview)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ETL_API_URL": "etl.example.com"}, "ETL_API_URL is wrong: must be an address like"),
        ({"ETL_API_URL": "http://etl.example.com", "ETL_API_TOKEN": TOKEN}, "must begin with htt"),
        ({"ETL_API_TOKEN": TOKEN, "ETL_API_TOKEN_FILE": "x"}, "are both set: unset one"),
    ],
)
def test_a_wrong_setting_is_told_without_the_token(
    settings: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as raised:
        Api(ClientSettings.load())
    assert said in str(raised.value)
    assert TOKEN not in str(raised.value)
