"""The command line over the API: the same words, documents and exit statuses as on the machine."""

import asyncio
import contextlib
import io
import json
import os
import re
import sys
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import pytest_asyncio

from temporaletl.command import run_command
from temporaletl.control.cli import session
from temporaletl.control.cli.main import app
from tests.far_times import FAR_DAYS, FAR_DAYS_NAME
from tests.integration.api.conftest import serve
from tests.integration.api.in_process import schema_of
from tests.integration.command_line import CommandLine, Ended, publish_numbers
from tests.integration.flows.services import Services, running
from tests.integration.temporal_server import TemporalServer
from tests.waiting import until

#: What differs between two calls of a command that looks: spans up to the present.
_PRESENT = re.compile(
    r"\d+(\.\d+)? s\b( ago)?|\d+ (h|min) \d+ (min|s)( ago)?|\d+(\.\d+)? \w+ old|clock it is \S+"
)
#: And of one that starts a run: its ids and times, and how often one looked how it goes.
_OWN = re.compile(
    r"\d{8}T\d{6}(\.\d{6})?Z(-[0-9a-f]{8})?|[0-9a-f]{16}\b|[0-9a-f-]{36}|"
    r"\d{4}-\d\d-\d\dT[\d:.]+Z|\"seconds\": [\d.]+"
)
_BOTH = re.compile(f"{_PRESENT.pattern}|{_OWN.pattern}")
#: Lines that the services log, which run in this process; and how a run went, when one looked.
_PASSING = re.compile(r"(?m)^(20\d\d-.*|numbers \w+ (planning|running|finishing)\b.*)\n")
_STATUS = ("status", "--json", "--limit", "50")
_SOURCES = re.compile(r"the sources are .*")
#: What is loaded, and options of a run that loads it again.
_CONTENT: dict[str, Any] = {"size": 9, "bad_every": 4, "people": ["ann", "bob"]}
_LOADED = " ".join(
    f"--param {name}={json.dumps(value).replace(' ', '')}" for name, value in _CONTENT.items()
)
_SLOW = f"{_LOADED} --param page_seconds=2"
#: Nothing is there: what went past the API would fail.
_NOWHERE = {
    "TEMPORAL_ADDRESS": "127.0.0.1:1",
    "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
    "ETL_DATA_DIR": "/nonexistent",
}


@dataclass(frozen=True)
class Commands:
    """Runs `etl` in this process: over the API, or on the platform itself."""

    local: Mapping[str, str]
    remote: Mapping[str, str]
    run: str
    failed: str
    services: Services
    tokens: dict[str, str] = field(default_factory=dict)

    async def __call__(
        self, *arguments: str, here: bool = False, settings: Mapping[str, str] | None = None
    ) -> Ended:
        environment = {**(self.local if here else self.remote), **(settings or {})}
        words = [word.replace("{run}", self.run) for word in arguments]
        words = [word.replace("{failed}", self.failed) for word in words]
        return await asyncio.to_thread(_run, words, environment)


def _run(arguments: list[str], environment: Mapping[str, str]) -> Ended:
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, environment),
        # The logs of this process are the tests'.
        mock.patch.object(session, "quiet_logs"),
        mock.patch.object(sys, "argv", ["etl", *arguments]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as ended,
    ):
        run_command(app, "etl")
    assert isinstance(ended.value.code, int)
    return Ended(ended.value.code, out.getvalue(), err.getvalue())


def told(ended: Ended, *, masked: re.Pattern[str] = _PRESENT) -> tuple[int, str, str]:
    """What a command said, but for what differs between any two calls of it."""
    # This process knows the sources of other tests, too.
    err = _SOURCES.sub("the sources are …", _PASSING.sub("", ended.err))
    return ended.status, masked.sub("…", ended.out), masked.sub("…", err)


@pytest_asyncio.fixture(scope="module")
async def etl(
    temporal_server: TemporalServer, postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[Commands]:
    folder = tmp_path_factory.mktemp("served")
    publish_numbers(folder)
    async with (
        schema_of(postgres_url) as warehouse,
        running(temporal_server.client, warehouse, attempts=50, segment_seconds=1) as services,
    ):
        line = CommandLine(services, folder, postgres_url)
        await services.run(**_CONTENT)
        loaded = await services.run(**_CONTENT)
        failed = await services.run("incremental", poisoned=0)
        async with serve(line) as api:
            known = Commands(line.environment(), {}, loaded.batch_id, failed.batch_id, services)
            remote = {**line.environment(), **_NOWHERE, "ETL_API_URL": api.address}
            for scope in ("operate", "read"):
                made = await known("token", "create", scope, "--scope", scope, here=True)
                known.tokens[scope] = made.out.strip()
            remote["ETL_API_TOKEN"] = known.tokens["operate"]
            yield replace(known, remote=remote)


async def _all_ended(services: Services) -> bool:
    open_ones = f"TaskQueue = '{services.queue}' AND ExecutionStatus = 'Running'"
    return (await services.client.count_workflows(open_ones)).count == 0


@pytest.mark.parametrize(
    "arguments",
    [
        *("status {run}", "status {run} --json", "status nope"),
        *("pause {run}", "resume nope", "cancel nope"),
        *("logs {run}", "logs {run} --json", "logs nope", "retry {run}", "retry nope"),
        *("freshness", "notify list", "notify list --json", "notify test"),
        *("connections list", "connections list --json", "connections check"),
        *("connections check nope", "connections check default"),
        *("check numbers", "check numbers --json", "check nope"),
        *("state show numbers", "state show numbers --json", "state show nope"),
        *("state show numbers --stream nope", "state set numbers --watermark 2999-01-01"),
        *("state reset numbers --unblock", "state set numbers --watermark 2025-01-31"),
        *("state reset numbers --stream nope", "state reset numbers"),
        *("rejects list numbers", "rejects list numbers --json", "rejects list nope"),
        *("rejects list numbers --stream nope --json", "state show numbers"),
        *("identities list numbers", "identities list numbers --json", "identities list nope"),
        *("identities fill numbers", "identities fill numbers --json", "identities fill nope"),
        *("schedule nope", "schedule numbers 9", "schedule numbers --catchup-window-minutes 0"),
        *("schedule-resume numbers", "token revoke nope"),
        *("audit list --limit 3", "audit list --limit 3 --json"),
        *("run nope", "run numbers --stream nope", "run numbers --from 2999-01-01"),
        "run numbers --connection nope",
    ],
)
async def test_a_command_says_over_the_api_what_it_says_on_the_machine(
    etl: Commands, arguments: str
) -> None:
    words = arguments.split()
    assert told(await etl(*words)) == told(await etl(*words, here=True))


async def test_runs_are_listed_and_filtered_over_the_api_as_on_the_machine(etl: Commands) -> None:
    await until(lambda: _all_ended(etl.services))
    chosen = ("--source", "numbers", "--connection", "default", "--state", "failed")
    for words in (_STATUS, (*_STATUS, *chosen)):
        listed, here = [(await etl(*words, here=here)).document for here in (False, True)]
        assert listed == here
    batches = [run["batch_id"] for run in listed]
    assert batches == [
        batch
        for (batch,) in etl.services.rows(
            "SELECT batch_id FROM etl_batches WHERE state = 'failed' ORDER BY created_at DESC"
        )
    ]
    assert etl.failed in batches


@pytest.mark.parametrize(
    "arguments",
    [
        *("run numbers --param nope=1", "run numbers --param nope=1 --wait"),
        *(
            f"run numbers --mode full {_LOADED} --wait",
            f"run numbers --mode full {_LOADED} --wait --json",
        ),
        *("run numbers --mode full --param poisoned=0 --wait", "rejects replay numbers --wait"),
        *("retry {failed} --wait", "retry {failed} --wait --json"),
        *(f"run numbers {_SLOW}", f"run numbers {_SLOW} --json"),
    ],
)
async def test_a_run_is_started_and_followed_over_the_api_as_on_the_machine(
    etl: Commands, arguments: str
) -> None:
    words = arguments.split()
    said = []
    # Whatever ran before: what is loaded now is what the first of the two meets.
    await etl.services.run(**_CONTENT)
    for here in (False, True):
        said.append(told(await etl(*words, here=here), masked=_BOTH))
        # A second run is refused while one goes on.
        await until(lambda: _all_ended(etl.services))
    assert said[0] == said[1]


async def test_a_token_is_made_listed_and_revoked_over_the_api(etl: Commands) -> None:
    made = await etl("token", "create", "ci", "--expires-in-days", "1.5")
    assert made.out.startswith("etl_")
    assert made.err.startswith("created token ci (read), valid until 20")
    documents = [
        (await etl("token", "list", "--json", here=here)).document for here in (True, False)
    ]
    listed = [[{**token, "last_used_at": None} for token in tokens] for tokens in documents]
    assert listed[0] == listed[1]
    assert (await etl("status", settings={"ETL_API_TOKEN": made.out.strip()})).status == 0
    assert (await etl("token", "revoke", "ci")).status == 0
    audit = (await etl("audit", "list", "--json")).document
    assert [(one["actor"], one["action"]) for one in audit[:2]] == [
        ("token:operate", "token.revoke"),
        ("token:operate", "token.create"),
    ]


@pytest.mark.parametrize(
    ("arguments", "settings", "status", "said"),
    [
        ("status", {"ETL_API_TOKEN": "etl_wrong"}, 2, "the token is not valid"),
        ("status", {"ETL_API_TOKEN": ""}, 2, "a token is needed"),
        ("state reset numbers", {"ETL_API_TOKEN": "{read}"}, 2, "token:read may read only"),
        ("status", {"ETL_API_URL": "http://127.0.0.1:1"}, 1, "http://127.0.0.1:1 does not answer"),
        ("rejects list numbers --limit 201", {}, 2, "less than or equal to 200"),
    ],
)
async def test_what_the_api_refuses_is_one_line(
    etl: Commands, arguments: str, settings: dict[str, str], status: int, said: str
) -> None:
    given = {name: value.format(**etl.tokens) for name, value in settings.items()}
    refused = await etl(*arguments.split(), settings=given)
    assert (refused.status, refused.out) == (status, "")
    assert re.fullmatch(f"etl: .*{re.escape(said)}.*\n", refused.err), refused.err
    assert not any(token in refused.err for token in (*etl.tokens.values(), "etl_wrong"))


async def test_a_read_token_may_look(etl: Commands) -> None:
    assert (await etl("status", settings={"ETL_API_TOKEN": etl.tokens["read"]})).status == 0


async def test_a_schedule_is_kept_over_the_api(etl: Commands) -> None:
    wanted = ("schedule", "numbers", FAR_DAYS, "3", "--timezone", "Europe/London")
    assert (await etl(*wanted)).out.startswith(
        f"created etl-schedule-numbers: incremental, {FAR_DAYS_NAME} at 03:00 Euro"
    )
    for words in (
        *(wanted, ("schedules",), ("schedules", "--json"), ("schedule-pause", "numbers")),
        *(wanted, ("schedule-resume", "numbers")),
        ("schedule-backfill", "numbers", "--from", "2025-01-04", "--to", "2025-01-05"),
    ):
        assert told(await etl(*words)) == told(await etl(*words, here=True)), words
    assert (await etl("schedule-delete", "numbers")).status == 0
    assert told(await etl("schedule-delete", "numbers", here=True))[0] == 1

    async def is_forgotten() -> bool:
        # It is listed for a moment, by the one longer than by the other.
        looks = [await etl("freshness", "--json", here=here) for here in (False, True)]
        return all("and no schedule" in look.out for look in looks)

    await until(is_forgotten)


async def test_a_connection_is_kept_over_the_api(etl: Commands) -> None:
    made = await etl("connections", "create", "north", "--source", "numbers")
    assert (made.status, made.out) == (0, "created connection numbers@north, version 1\n"), made.err
    for words in (
        *(("list",), ("list", "--json"), ("check", "north"), ("check", "--json")),
        *(("create", "north", "--source", "numbers"), ("create", "x", "--source", "nope")),
        ("replace", "north", "--set", "NOPE=1"),
        ("replace", "north", "--version", "7"),
    ):
        over_api, here = (
            await etl("connections", *words),
            await etl("connections", *words, here=True),
        )
        assert told(over_api) == told(here), words
    replaced = await etl("connections", "replace", "north", "--json")
    assert replaced.document["version"] == 2
    gone = await etl("connections", "delete", "north")
    assert gone.out == "deleted connection numbers@north\n"
    assert (await etl("connections", "delete", "north")).status == 1


async def test_a_second_run_is_refused_over_the_api_unless_it_is_forced(etl: Commands) -> None:
    words = ("run", "numbers", "--param", "pages=10000", "--param", "page_seconds=0.2", "--json")
    started = await etl(*words)
    assert started.status == 0, started
    first = started.document["workflow_id"]
    for here in (False, True):
        refused = await etl(*words, here=here)
        assert (refused.status, first in refused.err) == (1, True), refused
    forced = await etl(*words, "--force")
    assert forced.status == 0, forced
    for run in (first, forced.document["workflow_id"]):
        assert (await etl("cancel", run)).status == 0
    await until(lambda: _all_ended(etl.services))


async def test_the_local_engine_of_the_api_executes_a_run(etl: Commands) -> None:
    wanted = ("run", "numbers", "--mode", "full", *_LOADED.split(), "--engine", "local")
    ended = await etl(*wanted, "--wait", "--json")
    assert (ended.status, ended.document["state"]) == (0, "completed"), ended
    assert (ended.document["engine"], ended.document["rows"]["rejected"]) == ("local", 3)
    failed = await etl(*wanted, "--param", "nope=1", "--wait")
    assert failed.status == (await etl(*wanted, "--param", "nope=1", "--wait", here=True)).status


async def test_health_names_the_same_parts_over_the_api(etl: Commands) -> None:
    found = [(await etl("health", "--json", here=here)).document["parts"] for here in (True, False)]
    assert [part["name"] for part in found[0]] == [part["name"] for part in found[1]]


_ORDERS = """\
name: orders
nodes:
  - {id: big, type: condition, data: {condition: trigger.amount > 10}}
  - {id: told, type: transform, data: {transform_type: mapping, mapping: {n: inputs.amount}}}
  - {id: ask, type: approval, data: {title: Well?}}
edges:
  - {source: big, target: told, sourceHandle: true}
  - {source: told, target: ask}
"""


@pytest.fixture
def definitions(tmp_path: Path) -> tuple[str, str]:
    file, faulty = tmp_path / "orders.yaml", tmp_path / "faulty.yaml"
    file.write_text(_ORDERS)
    faulty.write_text(_ORDERS.replace("trigger.amount", "triger.amount"))
    return str(file), str(faulty)


async def test_pipelines_are_kept_and_executed_over_the_api_as_on_the_machine(
    etl: Commands, definitions: tuple[str, str]
) -> None:
    file, faulty = definitions
    stored = await etl("pipeline", "store", file)
    assert (stored.status, stored.out.split(" (")[0]) == (0, "orders version 1"), stored.err
    scheduled = await etl("pipeline", "schedule", "orders", "often", FAR_DAYS)
    assert scheduled.status == 0, scheduled.err
    waiting = await etl("pipeline", "run", "orders", "--input", '{"amount": 12}', "--json")
    execution = waiting.document["execution_id"]

    async def asks() -> bool:
        return (await etl("pipeline", "decide", execution, "ask", "approved")).status == 0

    await until(asks)

    async def has_ended() -> bool:
        found = await etl("pipeline", "status", execution, "--json")
        return bool(found.document["ended_at"])

    await until(has_ended)
    waited = await etl("pipeline", "run", file, "--input", '{"amount": 1}', "--wait")
    assert waited.status == 0, waited.err
    again = await etl("pipeline", "run", "--from", execution, "--node", "told", "--json")
    cancelled = await etl("pipeline", "cancel", again.document["execution_id"])
    assert cancelled.status == 0, cancelled.err

    async def is_cancelled() -> bool:
        found = await etl("pipeline", "status", again.document["execution_id"], "--json")
        return bool(found.document["state"] == "cancelled")

    await until(is_cancelled)
    for words in (
        *(("list",), ("list", "--json"), ("versions", "orders"), ("versions", "never")),
        *(("versions", "orders", "--json"), ("validate", file), ("validate", faulty, "--json")),
        *(
            ("diff", "orders@1", file),
            ("diff", "orders@7", file),
            ("run", "never"),
            ("graph", file),
        ),
        *(("executions",), ("executions", "orders", "--json"), ("status", execution)),
        *(("status", execution, "--json"), ("status", "never"), ("result", execution, "told")),
        *(("result", execution, "nothing"), ("pause", execution), ("resume", "never")),
        *(("decide", execution, "ask", "rejected"), ("decide", execution, "told", "approved")),
        *(("store", faulty), ("delete", "orders"), ("delete", "never")),
        *(("schedule", "never", "1", "3"), ("schedule-pause", "orders", "often")),
        ("schedule-resume", "orders", "rare"),
    ):
        over_api, on_machine = (
            await etl("pipeline", *words),
            await etl("pipeline", *words, here=True),
        )
        assert told(over_api) == told(on_machine), words
    assert (await etl("pipeline", "schedule-delete", "orders", "often")).status == 0
    assert (await etl("pipeline", "delete", "orders")).status == 0
    assert (await etl("pipeline", "versions", "orders", here=True)).status == 1
