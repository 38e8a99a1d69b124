"""All settings by name, the origins of their values, and variables that are no settings."""

import json
from pathlib import Path

import pytest

from temporaletl.control.cli.commands.stack import _sources
from temporaletl.control.operations.sources import known_planners
from temporaletl.setting_catalogue import (
    platform_settings,
    settings_of_source,
    unknown_variables,
)
from tests.unit.test_cli import Etl, etl
from tests.unit.test_documentation import OTHERS, PARAMETERS, settings_fields

__all__ = ["etl"]


def test_the_catalogue_has_every_setting_of_every_class() -> None:
    known_planners()
    found = [platform_settings(), *map(settings_of_source, PARAMETERS)]
    names = {name for settings in found for one in settings for name in one.names}
    own = {name for name in OTHERS if not name.startswith("SOURCE_")}
    assert settings_fields().keys() | own <= names
    assert {name for name in names if not name.startswith("SOURCE_TEMPORAL_")} - own <= set(
        settings_fields()
    )


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("JIRA_API_TOKE", "JIRA_API_TOKE is set, and is no setting: did you mean JIRA_API_TOKEN?"),
        ("ETL_API_PROT", "ETL_API_PROT is set, and is no setting: did you mean ETL_API_PORT?"),
        ("ETL_HASH_KYE", "ETL_HASH_KYE is set, and is no setting: did you mean ETL_HASH_KEY?"),
        ("JIRA_XQWZV", "JIRA_XQWZV is set, and is no setting"),
        ("JIRA_NOPE", "JIRA_NOPE is set, and is no setting"),  # nearest: JIRA_TRINO_USERS
        ("TRINO_HOTS", "TRINO_HOTS is set, and is no setting: did you mean TRINO_HOST?"),
        ("LP_MEMBER", None),  # another source's
        ("TEMPORAL_GRPC_META_X_REGION", None),
        ("jira_url", None),
        ("TEMPORAL_CLI_SHOW_STACKS", None),
        ("JIRA_SERVICE_HOST", None),
        ("PIPELINE_SECRET_SHOP", None),
        ("TEMPORAL_PORT_7233_TCP_ADDR", None),
        ("JIRA_TOKEN_OF_ACME", None),  # where a connection's secret is
    ],
)
def test_a_variable_that_is_no_setting_is_named_with_what_may_be_meant(
    name: str, said: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known_planners()
    file = tmp_path / "connections.toml"
    file.write_text('[acme]\nsource = "jira"\nJIRA_API_TOKEN = { env = "JIRA_TOKEN_OF_ACME" }\n')
    monkeypatch.setenv("ETL_CONNECTIONS", str(file))
    before = unknown_variables(["jira"])
    monkeypatch.setenv(name, "a-value-that-may-be-secret")
    found = [str(one) for one in unknown_variables(["jira"]) if one not in before]
    assert found == ([] if said is None else [said])
    assert "a-value-that-may-be-secret" not in str(found)


def test_settings_are_listed_with_their_origins_and_no_secret(
    etl: Etl, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    secrets = ("a-token-in-dotenv", "a-token-in-a-file", "a-password-in-a-url")
    (tmp_path / "token").write_text(secrets[1])
    (tmp_path / ".env").write_text(f"JIRA_API_TOKEN={secrets[0]}\nJIRA_URL=https://a.example.com\n")
    (tmp_path / "connections.toml").write_text(
        '[acme]\nsource = "jira"\nJIRA_URL = "https://acme.example.com"\n'
        'JIRA_PERSONAL_TOKEN = { file = "token" }\n'
        '[beta]\nsource = "jira"\nJIRA_PERSONAL_TOKEN = { env = "NOBODY_SET_THIS" }\n'
    )
    monkeypatch.setenv("ETL_CONNECTIONS", "connections.toml")
    monkeypatch.setenv("JIRA_URL", "https://b.example.com")
    monkeypatch.setenv("JIRA_URLS", "https://c.example.com")
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me:{secrets[2]}@127.0.0.1:9/any")
    status, out, err = etl("settings", "--json")
    listed = json.loads(out)
    of = {(one["of"], one["name"]): one for one in listed["settings"]}
    shown = {key: (one["value"], one["origin"]) for key, one in of.items()}
    assert shown["jira", "JIRA_URL"] == ("https://b.example.com", "environment")
    assert shown["jira", "JIRA_API_TOKEN"] == ("[redacted]", ".env")
    assert shown["jira", "JIRA_PAGE_SIZE"] == ("100", "default")
    assert shown["platform", "DATABASE_URL"] == ("[redacted]", "environment")
    assert shown["platform", "WPE_DB_SCHEMA"][1] == "default"
    assert shown["jira@acme", "JIRA_URL"] == ("https://acme.example.com", "connection (file)")
    assert shown["jira@acme", "JIRA_PERSONAL_TOKEN"] == ("[redacted]", "file token")
    assert shown["jira@beta", "JIRA_PERSONAL_TOKEN"][1] == "env NOBODY_SET_THIS"
    assert "is not set" in of["jira@beta", "JIRA_PERSONAL_TOKEN"]["fault"]
    assert ("trino", "TRINO_HOST") in shown
    assert ("jira", "TRINO_HOST") not in shown
    assert listed["unknown"] == [{"name": "JIRA_URLS", "near": "JIRA_URL"}]
    assert status == 2  # the warehouse's connections cannot be read

    _, some, noted = etl("settings", "jira", "--connection", "acme", "--set-only")
    assert [line.split()[0] for line in some.splitlines()] == [
        *("jira@acme", "setting", "JIRA_PERSONAL_TOKEN", "JIRA_URL")
    ]
    assert "JIRA_URLS is set, and is no setting: did you mean JIRA_URL?" in noted
    missing, _, said = etl("settings", "jira", "--connection", "gamma")
    assert missing == 2
    assert "there is no connection 'gamma'" in said
    assert not any(secret in out + err + some + noted for secret in secrets)


def test_a_stack_says_which_sources_are_ready_and_what_the_others_lack(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "connections.toml"
    file.write_text(
        '[acme]\nsource = "trino"\nTRINO_HOST = "trino.example.com"\n'
        f'TRINO_STREAMS_FILE = "{tmp_path / "streams.toml"}"\n'
        '[beta]\nsource = "jira"\n[gamma]\nsource = "nowhere"\n'
    )
    (tmp_path / "streams.toml").write_text(
        '[a]\nsql = "SELECT 1"\nevent_time = "t"\nevent_id = "i"\nevent_type = "x"\n'
    )
    monkeypatch.setenv("ETL_CONNECTIONS", str(file))
    monkeypatch.setenv("JIRA_URLS", "https://jira.example.com")
    monkeypatch.delenv("TRINO_HOST", raising=False)
    first, *others = _sources()
    assert first.startswith("Sources     ready: ")
    assert "temporal" in first
    assert "trino@acme" in first
    lines = {line.split()[0]: line for line in others}
    assert "JIRA_URL is not set" in lines["jira:"]
    assert lines["trino:"].endswith("TRINO_HOST not set")
    assert "connection 'beta': JIRA_URL is not set" in lines["jira@beta:"]
    assert "there is no source 'nowhere'" in lines["gamma:"]
    assert "`etl init SOURCE` asks for" in lines["`etl"]
    assert lines["JIRA_URLS"].endswith("is no setting: did you mean JIRA_URL?")
