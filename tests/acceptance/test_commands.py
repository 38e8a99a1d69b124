"""Commands: output, exit status, what they do not modify, and that no secret is exposed."""

import base64
import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from temporaletl.messages import BatchSummary
from temporaletl.temporal.connect import open_client
from tests.acceptance.platform import Platform, platform_in
from tests.fakes.jira import JiraService, generate
from tests.fakes.server import FakeServer

_ISSUES = 60
_EMAIL = "me@example.com"
_TOKEN = "ATATT3xFfGF0-a-jira-token"
_PASSWORD = "s3cret-of-the-database"
_SECRETS = (
    _TOKEN,
    _PASSWORD,
    base64.b64encode(f"{_EMAIL}:{_TOKEN}".encode()).decode(),
)
_EVERYTHING = (
    ("run", "jira", "--mode", "full", "--wait"),
    ("run", "jira", "--mode", "full", "--wait", "--json"),
    ("status",),
    ("status", "--json"),
    ("sources", "--json"),
    ("check", "jira", "--json"),
    ("check", "temporal"),
    ("state", "show", "jira", "--json"),
    ("rejects", "list", "jira"),
    ("schedules", "--json"),
    ("preview", "jira", "--json"),
)


@pytest.fixture(scope="module")
def service() -> JiraService:
    return JiraService(
        generate(_ISSUES, seed=13, personality="cloud"), accepted=[f"{_EMAIL}:{_TOKEN}"]
    )


@pytest.fixture(scope="module")
def jira(service: JiraService) -> Iterator[FakeServer]:
    with FakeServer(service) as server:
        yield server


@pytest.fixture(scope="module")
def platform(jira: FakeServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    environment = {
        "JIRA_URL": jira.url,
        "JIRA_EMAIL": _EMAIL,
        "JIRA_API_TOKEN": _TOKEN,
        "TEMPORAL_ACTIVITY_MAX_RETRIES": "2",
    }
    with platform_in(
        tmp_path_factory.mktemp("commands"), environment, password=_PASSWORD
    ) as running:
        assert _PASSWORD in running.environment["DATABASE_URL"]
        assert running.load("jira", "--mode", "full").state == "completed"
        yield running


@pytest.fixture
def outage(jira: FakeServer) -> Iterator[None]:
    """The source answers every request with 503."""
    jira.faults.add("503:1")
    yield
    jira.faults.clear()


def document(platform: Platform, *words: str, status: int = 0) -> Any:
    """The one JSON document that a command prints on standard output."""
    ended = platform.etl(*words, "--json")
    assert ended.returncode == status, ended.stderr
    assert "\x1b" not in ended.stdout
    return json.loads(ended.stdout)


def test_every_command_with_json_prints_one_document(platform: Platform) -> None:
    events = platform.rows("SELECT count(*)::int FROM events")[0][0]
    summary = document(platform, "run", "jira", "--mode", "full", "--wait")
    assert (summary["state"], summary["rows"]["unchanged"]) == ("completed", events)

    begun = document(platform, "run", "jira", "--mode", "full")
    assert begun["workflow_id"].startswith("etl-jira-full-")
    runs = document(platform, "status")
    assert begun["workflow_id"] in {run["workflow_id"] for run in runs}
    [shown] = [run for run in runs if run["batch_id"] == summary["batch_id"]]
    assert (shown["state"], shown["rows"]) == ("completed", summary["rows"])
    one = document(platform, "status", summary["workflow_id"])
    assert one["run"] == shown

    with ThreadPoolExecutor(3) as threads:
        sources, checked, states, rejects, schedules, rows = threads.map(
            lambda words: document(platform, *words.split()),
            (
                *("sources", "check jira", "state show jira", "rejects list jira", "schedules"),
                "preview jira --limit 7",
            ),
        )
    assert {"jira", "temporal"} <= {each["source"] for each in sources}
    assert (checked["source"], checked["ok"]) == ("jira", True)
    assert [(each["source"], each["stream"]) for each in states] == [("jira", "issues")]
    assert rejects == schedules == []
    assert len(rows) == 7
    assert {row["event_id"] for row in rows} <= {
        event_id for (event_id,) in platform.rows("SELECT event_id FROM events")
    }


def test_0_is_done(platform: Platform) -> None:
    for words in (("run", "jira", "--wait"), ("status",), ("--version",)):
        assert platform.etl(*words).returncode == 0


@pytest.mark.usefixtures("outage")
def test_1_is_work_that_failed(platform: Platform) -> None:
    ended = platform.etl("run", "jira", "--mode", "full", "--wait", "--json")
    assert ended.returncode == 1
    summary = BatchSummary.model_validate_json(ended.stdout)
    assert summary.state == "failed"
    assert "503" in (summary.error or "")
    assert ended.stderr.splitlines()[-1] == f"etl: {summary.error}"
    [listed] = [
        run for run in document(platform, "status") if run["workflow_id"] == summary.workflow_id
    ]
    assert (listed["state"], listed["error"]) == ("failed", summary.error)


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        (("run", "jirra"), {}, "'jirra'"),
        (("run", "jira", "--from", "yesterday"), {}, "'yesterday'"),
        (("run", "jira", "--param", "issues_per_job=0", "--wait"), {}, "issues_per_job"),
        (("state", "show", "jirra"), {}, "'jirra'"),
        (("preview", "jira"), {"JIRA_API_TOKEN": "wrong"}, "JIRA_API_TOKEN"),
        (("nonsense",), {}, "nonsense"),
    ],
)
def test_2_is_what_a_person_must_correct(
    platform: Platform, words: tuple[str, ...], settings: dict[str, str], message: str
) -> None:
    assert_error(elsewhere(platform, *words, **settings), 2, message)


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        (("pause", "etl-jira-full-never"), {}, "'etl-jira-full-never'"),
        (("status", "etl-jira-full-never"), {}, "'etl-jira-full-never'"),
        (("run", "jira"), {"TEMPORAL_ADDRESS": "127.0.0.1:1"}, "127.0.0.1:1"),
    ],
)
def test_1_is_also_what_is_not_there_or_does_not_answer(
    platform: Platform, words: tuple[str, ...], settings: dict[str, str], message: str
) -> None:
    assert_error(elsewhere(platform, *words, **settings), 1, message)


def assert_error(ended: "subprocess.CompletedProcess[str]", status: int, message: str) -> None:
    assert (ended.returncode, ended.stdout) == (status, "")
    assert message in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("etl: ")


def elsewhere(
    platform: Platform, *words: str, **settings: str
) -> "subprocess.CompletedProcess[str]":
    """Run a command with other settings than the services'."""
    return replace(platform, environment=platform.environment | settings).etl(*words)


def contents(platform: Platform) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, with its physical location and writer."""
    tables = platform.rows(
        "SELECT relname::text FROM pg_class WHERE relkind = 'r' AND "
        "relnamespace = 'workplace'::regnamespace ORDER BY 1"
    )
    return {
        table: platform.rows(f'SELECT ctid::text, xmin::text, t::text FROM "{table}" t ORDER BY 1')
        for (table,) in tables
    }


def contents_but_logs(platform: Platform) -> dict[str, list[tuple[Any, ...]]]:
    """The contents but for the logs of runs, which the services write a moment later."""
    return {table: rows for table, rows in contents(platform).items() if table != "etl_run_log"}


async def test_preview_writes_nothing(platform: Platform) -> None:
    client = await open_client(platform.temporal.endpoint)

    async def workflows() -> set[str]:
        return {each.run_id async for each in client.list_workflows()}

    platform.load("jira", "--mode", "full")
    rows, runs = contents_but_logs(platform), await workflows()
    for words in (
        ("--limit", "50"),
        ("--limit", "5", "--json"),
        ("--from", "2023-06-01", "--to", "2023-07-01"),
    ):
        assert platform.etl("preview", "jira", *words).returncode == 0
    assert contents_but_logs(platform) == rows
    assert await workflows() == runs


async def test_no_secret_gets_out(platform: Platform, service: JiraService) -> None:
    """In success and failure: not in what is printed, logged, stored or sent."""
    url = platform.environment["DATABASE_URL"]
    nowhere = {"DATABASE_URL": f"postgresql://postgres:{_PASSWORD}@127.0.0.1:1/warehouse"}
    garbled = {"DATABASE_URL": f"postgresql://postgres:{_PASSWORD}@host:port/warehouse"}
    unknown = {"DATABASE_URL": url.replace("/warehouse", "/elsewhere")}
    commands: list[tuple[tuple[str, ...], dict[str, str]]] = [
        *((words, {}) for words in _EVERYTHING),
        *(
            (words, settings)
            for words, settings in (
                (("state", "show", "jira"), nowhere),
                (("state", "show", "jira"), garbled),
                (("check", "jira"), unknown),
                (("check", "jira"), {"JIRA_EMAIL": "you@example.com"}),
            )
        ),
    ]
    with ThreadPoolExecutor(3) as threads:
        started = [threads.submit(elsewhere, platform, *words, **env) for words, env in commands]
    outputs = [each.result() for each in started]
    accepted, service.accepted = service.accepted, {"nobody"}
    try:
        refused = platform.etl("run", "jira", "--wait")
    finally:
        service.accepted = accepted
    assert refused.returncode == 2
    assert "401" in refused.stderr
    outputs.append(refused)

    printed = "".join(each.stdout + each.stderr for each in outputs)
    logged = "".join(log.read_text(errors="replace") for log in platform.folder.glob("logs/*.log*"))
    stored = json.dumps(contents(platform), default=str)
    sent = await histories(platform)
    for text, known in (
        (printed, "jira"),
        (logged, "segment_ended"),
        (stored, "etl-jira-full-"),
        (sent, "etl-jira-full-"),
    ):
        assert known in text
        assert [secret for secret in _SECRETS if secret in text] == []


async def histories(platform: Platform) -> str:
    """All workflow histories as JSON, with decoded payloads."""
    client = await open_client(platform.temporal.endpoint)

    def decoded(value: Any) -> Any:
        match value:
            case dict():
                return {
                    key: base64.b64decode(each).decode(errors="replace")
                    if key == "data" and isinstance(each, str)
                    else decoded(each)
                    for key, each in value.items()
                }
            case list():
                return [decoded(each) for each in value]
            case _:
                return value

    found = []
    async for each in client.list_workflows():
        handle = client.get_workflow_handle(each.id, run_id=each.run_id)
        found.append(decoded((await handle.fetch_history()).to_json_dict()))
    assert len(found) > 3
    return json.dumps(found, ensure_ascii=False)
