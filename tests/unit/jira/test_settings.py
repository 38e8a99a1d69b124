"""The settings of Jira, and the words of its queries."""

from collections.abc import Callable
from pathlib import Path

import pytest

from temporaletl import ConfigurationError
from temporaletl.external.jira.settings import JiraSettings, jira_budget
from temporaletl.external.jira.site import IssueRange, open_site
from tests.unit.settings_loading import loader

CLOUD = {
    "JIRA_URL": "https://example.atlassian.net/",
    "JIRA_EMAIL": "a@example.com",
    "JIRA_API_TOKEN": "s3cret",
}
SERVER = {"JIRA_URL": "https://jira.example/jira", "JIRA_PERSONAL_TOKEN": "s3cret"}


Load = Callable[[dict[str, str]], JiraSettings]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    return loader(JiraSettings, monkeypatch, tmp_path)


def test_both_ways_in_are_taken(load: Load) -> None:
    cloud, server = load(CLOUD), load(SERVER)
    assert (cloud.url, cloud.email) == ("https://example.atlassian.net", "a@example.com")
    assert server.personal_token is not None
    assert "s3cret" not in repr((cloud, server))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"JIRA_URL": ""}, "JIRA_URL is not set"),
        ({"JIRA_URL": "example.atlassian.net"}, "JIRA_URL is wrong"),
        ({"JIRA_URL": "https://a:b@example.com"}, "without credentials"),
        ({"JIRA_EMAIL": ""}, "JIRA_EMAIL is not set, though JIRA_API_TOKEN is"),
        ({"JIRA_API_TOKEN": ""}, "JIRA_API_TOKEN is not set, though JIRA_EMAIL is"),
        ({"JIRA_EMAIL": "", "JIRA_API_TOKEN": ""}, "no credentials for Jira"),
        ({"JIRA_PERSONAL_TOKEN": "x"}, "both set"),
        ({"JIRA_JQL": "project = A ORDER BY key"}, "without ORDER BY"),
        ({"JIRA_EXTRACT_FROM": "files"}, "JIRA_EXTRACT_FROM"),
    ],
)
def test_what_is_missing_or_contradicts_is_named(
    load: Load, change: dict[str, str], reason: str
) -> None:
    with pytest.raises(ConfigurationError, match=reason) as raised:
        load(CLOUD | change)
    assert "s3cret" not in str(raised.value)


def test_quoted_words_are_no_order(load: Load) -> None:
    assert load(CLOUD | {"JIRA_JQL": 'summary ~ "order by"'}).jql == 'summary ~ "order by"'


def test_without_the_api_neither_address_nor_credentials_are_needed(load: Load) -> None:
    settings = load({"JIRA_EXTRACT_FROM": "trino"})
    assert (settings.uses_trino, settings.uses_api, settings.has_api) == (True, False, False)
    with pytest.raises(ConfigurationError, match=r"cannot be reached: set JIRA_URL"):
        open_site(settings)


def test_with_the_dataset_the_api_may_still_complete_it(load: Load) -> None:
    settings = load(CLOUD | {"JIRA_EXTRACT_FROM": "trino"})
    assert (settings.uses_api, settings.has_api) == (False, True)


@pytest.mark.parametrize(
    ("backends", "reason"),
    [
        ({"JIRA_EXTRACT_FROM": "trino", "JIRA_BACKLOG_FROM": "api"}, "JIRA_URL is not set"),
        ({"JIRA_EXTRACT_FROM": "api", "JIRA_BACKLOG_FROM": "trino"}, "JIRA_URL is not set"),
        ({"JIRA_EXTRACT_FROM": "trino", "JIRA_JQL": "a = 1"}, "JIRA_TRINO_ISSUES"),
        ({"JIRA_EXTRACT_FROM": "trino", "JIRA_EMAIL": "a@example.com"}, "JIRA_API_TOKEN is not"),
        ({"JIRA_EXTRACT_FROM": "trino", "JIRA_TRINO_ISSUES": "issues"}, "as jira.issues"),
    ],
)
def test_what_the_backends_need_is_named(load: Load, backends: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        load(backends)


def test_the_budget_is_what_the_setting_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JIRA_REQUESTS_PER_SECOND", raising=False)
    assert jira_budget().requests_per_second is None
    monkeypatch.setenv("JIRA_REQUESTS_PER_SECOND", "2.5")
    assert jira_budget().requests_per_second == 2.5


def test_a_range_has_its_bounds_in_milliseconds() -> None:
    issues = IssueRange("updated", from_ms=1000, to_ms=2000, filters=("a = 1 OR b = 2", "c = 3"))
    assert issues.jql() == "(a = 1 OR b = 2) AND (c = 3) AND updated >= 1000 AND updated < 2000"


def test_a_range_is_read_oldest_first() -> None:
    issues = IssueRange("created", to_ms=2000, updated_from_ms=1000)
    assert issues.jql(ordered=True) == (
        "updated >= 1000 AND created < 2000 ORDER BY created ASC, key ASC"
    )


def test_a_query_is_never_unbounded() -> None:
    assert IssueRange().jql() == "created is not EMPTY"
