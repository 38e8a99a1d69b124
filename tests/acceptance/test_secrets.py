"""A source that echoes credentials and terminal escapes: neither leaves the platform."""

import asyncio
import json
import re
from collections.abc import Iterator

import pytest

from temporaletl.settings.platform import TemporalSettings
from temporaletl.temporal.connect import connect
from tests.acceptance.platform import Platform, platform_in
from tests.echo import STEERING, echoing
from tests.fakes.jira import generate, serve

#: Controls that no command and no log may send, in a text or as the escapes of JSON.
_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    with echoing() as url:
        yield url


def _settings(url: str) -> dict[str, str]:
    return {
        # As a file of a secret is often read.
        "JIRA_URL": url,
        "JIRA_PERSONAL_TOKEN": "s3cretcanary77\n",
        "LP_SERVICE_ROOT": f"{url}/",
        "LP_MEMBERS": "somebody",
        "LP_CONSUMER_KEY": "consumer\n",
        "LP_ACCESS_TOKEN_KEY": "keycanary77\n",
        "LP_ACCESS_TOKEN_SECRET": " secret/canary+77\n",
        "SERVICETITAN_URL": url,
        "SERVICETITAN_AUTH_URL": f"{url}/connect/token",
        "SERVICETITAN_CLIENT_ID": "cid.fake\n",
        "SERVICETITAN_CLIENT_SECRET": "cs1/canary&77\n",
        "SERVICETITAN_APP_KEY": "ak1canary77\r\n",
        "SERVICETITAN_TENANT_ID": "7",
        "SF_INSTANCE_URL": url,
        "SF_USERNAME": "me@example.com\n",
        "SF_PASSWORD": "pass<canary>&77\n",
        "SF_TOKEN": "tokencanary77\n",
    }


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory, echo: str) -> Iterator[Platform]:
    with platform_in(tmp_path_factory.mktemp("echo"), _settings(echo)) as running:
        yield running


@pytest.mark.parametrize("source", ["jira", "launchpad", "servicetitan", "salesforce"])
def test_what_a_source_repeats_of_a_credential_leaves_by_no_way(
    platform: Platform, source: str
) -> None:
    printed = ""
    for words in (
        ("check", source),
        ("check", source, "--json"),
        ("preview", source, "--limit", "1"),
        ("run", source, "--mode", "full", "--wait"),
        ("status",),
        ("status", "--json"),
        ("state", "show", source),
        ("rejects", "list", source),
    ):
        done = platform.etl(*words, timeout_seconds=120)
        printed += done.stdout + done.stderr
    (workflow_id,) = {
        str(found)
        for (found,) in platform.rows(
            f"SELECT workflow_id FROM etl_batches WHERE source = '{source}'"
        )
    }
    for words in (("status", workflow_id), ("status", workflow_id, "--json")):
        done = platform.etl(*words)
        printed += done.stdout + done.stderr
    logs = "".join(path.read_text() for path in (platform.folder / "logs").glob("*er.log"))
    stored = "".join(
        str(row)
        for table in ("etl_batches", "etl_jobs", "etl_rejects")
        for row in platform.rows(f"SELECT to_jsonb(t)::text FROM {table} t")
    )
    history = asyncio.run(_histories(platform))
    for where, text in {
        "printed": printed,
        "logs": logs,
        "stored": stored,
        "history": history,
    }.items():
        assert "canary" not in text, f"{where}: {text[max(0, text.index('canary') - 300) :][:600]}"
    assert "Traceback" not in printed
    assert "[redacted]" in printed
    assert not _OBEYED.search(printed)
    assert not _OBEYED.search(logs)


async def _histories(platform: Platform) -> str:
    settings = TemporalSettings(address=platform.environment["TEMPORAL_ADDRESS"])
    client = await connect(settings)
    return "".join(
        [
            (
                await client.get_workflow_handle(each.id, run_id=each.run_id).fetch_history()
            ).to_json()
            async for each in client.list_workflows()
        ]
    )


def test_what_a_record_holds_is_shown_and_not_obeyed(platform: Platform) -> None:
    site = generate(1, seed=1, personality="server")
    site.edit.set_text(site.rows[0].id, "summary", f"[bold]{STEERING}")
    with serve(site) as server:
        environment = {**platform.environment, "JIRA_URL": server.url}
        plain = platform.etl("preview", "jira", "--limit", "100", environment=environment)
        document = platform.etl(
            "preview", "jira", "--limit", "100", "--json", environment=environment
        )
    assert plain.returncode == document.returncode == 0, plain.stderr + document.stderr
    assert not _OBEYED.search(plain.stdout + document.stdout)
    whole = json.dumps(json.loads(document.stdout), ensure_ascii=False)
    assert json.dumps(f"[bold]{STEERING}", ensure_ascii=False)[1:-1] in whole
