"""Connections: what their file may hold, and whose settings a source reads."""

import asyncio
import tomllib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import Field

from temporaletl import names
from temporaletl.accounts import account_views
from temporaletl.bound_connection import bound
from temporaletl.connections import source_settings as base
from temporaletl.connections.declarations import declare_owner
from temporaletl.connections.providers import (
    UnknownConnectionError,
    find_connection,
    load_connections,
    names_of_connections,
)
from temporaletl.connections.source_settings import SourceSettings, UnboundSourceError
from temporaletl.control.operations.checks import check_settings
from temporaletl.control.operations.sources import known_planners
from temporaletl.errors import ConfigurationError, CredentialsError, WarehouseCredentialsError
from temporaletl.external.cooldown import CoolDown, lift_cool_downs
from temporaletl.external.jira.settings import JiraRate, JiraSettings
from temporaletl.external.jira.site import close_sites, open_site
from temporaletl.external.launchpad.settings import LaunchpadSettings
from temporaletl.external.salesforce.settings import SalesforceSettings
from temporaletl.external.servicetitan.settings import ServiceTitanSettings
from temporaletl.external.temporal_settings import source_settings
from temporaletl.external.threads import start
from temporaletl.external.trino.access import TrinoSettings
from temporaletl.secrets import redacted
from temporaletl.service.process import _dispatch_rate
from temporaletl.settings.platform import Settings
from tests.unit.connections_file import ACME, TOKEN, ConnectionsFile

ROOT = Path(__file__).parents[2]
_SECOND = timedelta(seconds=1)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ConnectionsFile:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ETL_CONNECTIONS", "connections.toml")
    monkeypatch.setenv("ACME_TOKEN", TOKEN)
    made = ConnectionsFile(tmp_path / "connections.toml")
    made.write(ACME)
    return made


@pytest.mark.parametrize(
    ("settings", "extra"),
    [
        (JiraSettings, "jira"),
        (LaunchpadSettings, "launchpad"),
        (SalesforceSettings, "salesforce"),
        (TrinoSettings, "trino"),
    ],
)
def test_a_library_that_is_missing_is_named_with_the_extra_that_has_it(
    settings: type[SourceSettings], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert settings.library is not None
    module, named = settings.library
    assert named == extra
    needed = " ".join(declared["optional-dependencies"][extra]).replace("-", "_")
    assert module in needed
    assert module not in " ".join(declared["dependencies"]).replace("-", "_")
    monkeypatch.setattr(base, "find_spec", lambda _: None)
    with pytest.raises(ConfigurationError, match=rf"{module} is not .*'temporaletl\[{extra}\]'"):
        settings.load()


def test_without_a_file_there_is_the_environment_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ETL_CONNECTIONS", raising=False)
    monkeypatch.setenv("JIRA_REQUESTS_PER_SECOND", "7")
    assert load_connections() == []
    assert names_of_connections("jira") == ["default"]
    assert JiraRate.load().requests_per_second == 7
    with pytest.raises(UnknownConnectionError, match="ETL_CONNECTIONS"):
        find_connection("jira", "acme")


@pytest.mark.usefixtures("file")
def test_a_named_connection_has_its_own_settings_and_the_defaults() -> None:
    [acme] = load_connections()
    assert (acme.name, acme.source) == ("acme", "jira")
    with bound("jira", "acme"):
        settings = JiraSettings.load()
    assert settings.url == "https://acme.example.com"
    assert settings.api_token is not None
    assert settings.api_token.get_secret_value() == TOKEN
    assert settings.page_size == 50
    assert settings.concurrency == 6


@pytest.mark.usefixtures("file")
def test_nothing_of_the_environment_is_mixed_into_a_named_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JIRA_URL", "https://default.example.com")
    monkeypatch.setenv("JIRA_PERSONAL_TOKEN", "the-token-of-default")
    monkeypatch.setenv("JIRA_JQL", "project = DEFAULT")
    monkeypatch.setenv("JIRA_REQUESTS_PER_SECOND", "7")
    Path(".env").write_text("JIRA_TRINO_USERS=people.of_default\n")
    with bound("jira", "acme"):
        named = JiraSettings.load()
        assert JiraRate.load().requests_per_second is None
    with bound("jira", "default"):
        default = JiraSettings.load()
        assert JiraRate.load().requests_per_second == 7
    assert (named.personal_token, named.jql, named.trino_users) == (None, None, "jira.users")
    assert default.url == "https://default.example.com"
    assert (default.api_token, default.trino_users) == (None, "people.of_default")


@pytest.mark.usefixtures("file")
def test_settings_read_for_nobody_are_refused_where_there_are_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("JIRA_REQUESTS_PER_SECOND", "7")
    with pytest.raises(UnboundSourceError, match="JiraRate"):
        JiraRate.load()
    monkeypatch.delenv("ETL_CONNECTIONS")
    assert JiraRate.load().requests_per_second == 7


def test_another_server_that_a_source_reads_is_of_its_connection_too(
    file: ConnectionsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRINO_HOST", "trino.of.default")
    with bound("jira", "acme"), pytest.raises(ConfigurationError, match="TRINO_HOST is not set"):
        TrinoSettings.load()
    file.write(ACME + 'TRINO_HOST = "trino.acme.example.com"\n')
    with bound("jira", "acme"):
        assert TrinoSettings.load().host == "trino.acme.example.com"
        with pytest.raises(ConfigurationError, match="does not declare it"):
            ServiceTitanSettings.load()


def test_a_launchpad_connection_asks_no_salesforce_but_its_own(
    file: ConnectionsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SF_USERNAME", "default@example.com")
    file.write('[team]\nsource = "launchpad"\n')
    with bound("launchpad", "team"):
        assert LaunchpadSettings.load().anonymous
        assert not SalesforceSettings.is_configured()
    with bound("launchpad", "default"):
        assert SalesforceSettings.is_configured()


@pytest.mark.usefixtures("file")
def test_the_binding_reaches_tasks_and_threads() -> None:
    async def read() -> list[str | None]:
        def url() -> str | None:
            return JiraSettings.load().url

        with ThreadPoolExecutor(1) as threads, bound("jira", "acme"):
            task = asyncio.create_task(asyncio.to_thread(url))
            return [url(), await start(threads, url), await task]

    assert asyncio.run(read()) == ["https://acme.example.com"] * 3


def test_two_connections_share_no_client_even_to_the_same_site(file: ConnectionsFile) -> None:
    file.write(ACME + ACME.replace("[acme]", "[acme_again]"))
    try:
        sites = []
        for name in ("acme", "acme_again", "acme"):
            with bound("jira", name):
                sites.append(open_site(JiraSettings.load()))
        assert sites[0] is not sites[1]
        assert sites[0] is sites[2]
    finally:
        close_sites()


def test_a_cool_down_is_lifted_for_its_connection_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("temporaletl.external.cooldown._REPORTED_WITHIN", -1_000_000 * _SECOND)
    cooling = {}
    for name in ("default", "acme"):
        with bound("jira", name):
            cooling[name] = CoolDown("jira")
            cooling[name].begin(60 * _SECOND, "told so")
    lift_cool_downs("jira", "acme")
    assert cooling["acme"].remaining()[0] <= 0 * _SECOND
    assert cooling["default"].remaining()[0] > 0 * _SECOND


def test_a_secret_may_stand_in_a_file(file: ConnectionsFile, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("token-out-of-a-file\n")
    file.write(ACME.replace('env = "ACME_TOKEN"', 'file = "token"'))
    with bound("jira", "acme"):
        settings = JiraSettings.load()
        assert settings.api_token is not None
        assert settings.api_token.get_secret_value() == "token-out-of-a-file"
        assert "token-out-of-a-file" not in redacted("it was token-out-of-a-file")
        secret.write_text("another-token")
        assert JiraSettings.load() != settings


@pytest.mark.parametrize(
    ("replaced", "by", "expected"),
    [
        ("[acme]", "[default]", ["'default'", "environment"]),
        ("[acme]", "[Acme-1]", ["'Acme-1'", "small letters"]),
        ("[acme]", "", ["JIRA_API_TOKEN"]),
        ('source = "jira"', "", ["'acme'", "source is missing"]),
        ('source = "jira"', 'source = "juri"', ["'acme'", "source", "jira, launchpad"]),
        ("JIRA_PAGE_SIZE", "JIRA_PAGESIZE", ["'acme'", "JIRA_PAGESIZE", "is JIRA_PAGE_SIZE meant"]),
        ("JIRA_PAGE_SIZE", "SF_PAGE_SIZE", ["'acme'", "SF_PAGE_SIZE", "no such setting"]),
        ('{ env = "ACME_TOKEN" }', '"literal-secret"', ["'acme'", "JIRA_API_TOKEN", "{ env ="]),
        ('{ env = "ACME_TOKEN" }', '{ vault = "x" }', ["'acme'", "JIRA_API_TOKEN", "{ env ="]),
        ("= 50", "= [50]", ["'acme'", "JIRA_PAGE_SIZE", "a list"]),
        ('source = "jira"', "source = jira", ["no TOML", "line 2"]),
    ],
)
def test_what_is_wrong_in_the_file_is_named_and_not_printed(
    file: ConnectionsFile, replaced: str, by: str, expected: list[str]
) -> None:
    file.write(ACME.strip().replace(replaced, by, 1))
    with pytest.raises(ConfigurationError) as error:
        load_connections()
    message = str(error.value)
    assert message.startswith("connections.toml")
    for part in expected:
        assert part in message
    for value in ("literal-secret", "acme.example.com", "ACME_TOKEN", "vault"):
        assert value not in message


@pytest.mark.parametrize(
    ("replaced", "by", "expected"),
    [
        ("ACME_TOKEN", "ABSENT_TOKEN", "JIRA_API_TOKEN: the environment variable ABSENT_TOKEN"),
        ('env = "ACME_TOKEN"', 'file = "absent"', "JIRA_API_TOKEN: cannot read the file that it"),
        ('env = "ACME_TOKEN"', 'file = "/dev/absent"', "JIRA_API_TOKEN: cannot read /dev/absent:"),
        ('env = "ACME_TOKEN"', 'file = "/dev"', "JIRA_API_TOKEN: cannot read /dev: Is a dir"),
        ('env = "ACME_TOKEN"', 'file = "/dev/null"', "JIRA_API_TOKEN: /dev/null is empty"),
        ("= 50", '= "rubbish-value"', "JIRA_PAGE_SIZE is wrong"),
        ('"https://acme.example.com"', '"rubbish-value"', "JIRA_URL is wrong"),
        ('JIRA_URL = "https://acme.example.com"', "", "JIRA_URL is not set"),
    ],
)
def test_a_setting_that_is_wrong_is_named_with_file_and_connection(
    file: ConnectionsFile, replaced: str, by: str, expected: str
) -> None:
    file.write(ACME.replace(replaced, by))
    with bound("jira", "acme"), pytest.raises(ConfigurationError) as error:
        JiraSettings.load()
    assert str(error.value).startswith(f"connections.toml: connection 'acme': {expected}")
    assert "rubbish-value" not in str(error.value)


@pytest.mark.usefixtures("file")
def test_an_unknown_connection_or_one_of_another_source_is_refused() -> None:
    for source, name, words in (
        ("jira", "beta", "no connection 'beta'; it has acme"),
        ("servicetitan", "acme", "one of source 'jira'"),
    ):
        with pytest.raises(UnknownConnectionError, match=words):
            find_connection(source, name)
        with bound(source, name), pytest.raises(UnknownConnectionError):
            ServiceTitanSettings.load()


def test_a_file_that_is_not_there_is_named(file: ConnectionsFile) -> None:
    file.path.unlink()
    with pytest.raises(ConfigurationError, match=r"ETL_CONNECTIONS: cannot read connections\.toml"):
        load_connections()


def test_a_temporal_connection_enters_with_its_own_key_alone(
    file: ConnectionsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOURCE_TEMPORAL_API_KEY", "the-key-of-default")
    monkeypatch.setenv("SOURCE_TEMPORAL_TLS", "true")
    monkeypatch.setenv("OTHER_KEY", "the-key-of-other")
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "platform")
    file.write("""
        [other]
        source = "temporal"
        SOURCE_TEMPORAL_ADDRESS = "temporal.example.com:7233"
        SOURCE_TEMPORAL_NAMESPACES = "billing,shipping"
        SOURCE_TEMPORAL_API_KEY = { env = "OTHER_KEY" }
        [near]
        source = "temporal"
        SOURCE_TEMPORAL_ADDRESS = "127.0.0.1:7233"
    """)
    with bound("temporal", "other"):
        settings, place = source_settings()
    assert settings.namespaces == ("billing", "shipping")
    assert (place.address, place.api_key) == ("temporal.example.com:7233", "the-key-of-other")
    with bound("temporal", "near"), pytest.raises(ConfigurationError, match="NAMESPACES is not"):
        source_settings()


class PlainSettings(Settings):
    """What an author may have written before there were connections."""

    address: str = Field("", validation_alias="PLAIN_ADDRESS")


def test_a_source_whose_settings_are_the_environments_alone_has_no_connections(
    file: ConnectionsFile,
) -> None:
    declare_owner("plain", PlainSettings.load)
    file.write('[acme]\nsource = "plain"\n')
    with pytest.raises(
        ConfigurationError, match="PlainSettings, which knows the environment alone"
    ):
        find_connection("plain", "acme")


@pytest.mark.parametrize(
    ("default", "acme", "expected"),
    [("7", "3", 10), ("7", None, None), (None, "3", None), ("rubbish", "3", 3)],
)
def test_a_sources_queue_gives_out_what_all_connections_may_ask(
    file: ConnectionsFile,
    monkeypatch: pytest.MonkeyPatch,
    default: str | None,
    acme: str | None,
    expected: float | None,
) -> None:
    if default is not None:
        monkeypatch.setenv("JIRA_REQUESTS_PER_SECOND", default)
    if acme is not None:
        file.write(ACME + f"JIRA_REQUESTS_PER_SECOND = {acme}\n")
    assert _dispatch_rate("jira") == expected


def test_refused_credentials_are_those_of_the_connection_in_use() -> None:
    told = "jira: HTTP 401; check JIRA_API_TOKEN"
    assert str(CredentialsError(told)) == told
    with bound("jira", "default"):
        assert str(CredentialsError(told)) == told
    with bound("jira", "acme"):
        error = CredentialsError(told)
        assert str(error) == f"{told} (connection 'acme')"
        assert str(CredentialsError(str(error))) == str(error), "it is told again"
        assert str(WarehouseCredentialsError("no CREATE")) == "no CREATE"


def test_ids_of_default_are_what_they_were_and_others_are_no_sources_of_that_name() -> None:
    noon = datetime(2025, 1, 31, 12, tzinfo=UTC)
    assert names.ScheduleKey("jira").id == "etl-schedule-jira"
    assert names.ScheduleKey("jira").workflow_id == "etl-jira"
    assert names.run_workflow_id("jira", "full", noon) == "etl-jira-full-20250131T120000.000000Z"
    assert names.ScheduleKey("jira", "acme").id == "etl-schedule-jira@acme"
    named = names.ScheduleKey("jira", "acme", "nightly")
    assert (named.id, named.workflow_id) == (
        "etl-schedule-jira@acme:nightly",
        "etl-jira@acme:nightly",
    )
    for key in (names.ScheduleKey("jira"), named, named._replace(connection="default")):
        assert names.ScheduleKey.of_id(key.id) == key
    for source, connection in (("jira", "default"), ("jira", "acme")):
        assert names.parse_label(names.label(source, connection)) == (source, connection)


def test_a_check_of_settings_says_that_it_did_not_try_the_credentials(
    file: ConnectionsFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source without an account view cannot be asked whom it takes us for."""
    file.write(ACME)
    known_planners()
    monkeypatch.setattr(account_views, "_entries", {})
    [check] = asyncio.run(check_settings("jira", "acme"))
    assert (check.name, check.verdict) == ("settings", "ok")
    assert check.detail == (
        "all there; credentials not tried: `etl check jira --connection acme` does"
    )


def test_a_source_that_is_none_is_quoted(file: ConnectionsFile) -> None:
    file.write('[acme]\nsource = "jirra"')
    with pytest.raises(ConfigurationError, match=r"source: there is no source 'jirra'; those of"):
        load_connections()
