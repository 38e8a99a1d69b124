"""What the checks say of settings, without a request to a source."""

from pathlib import Path

import pytest

from temporaletl.bound_connection import bound
from temporaletl.checks.sources import password_of, weak
from temporaletl.control.operations import checks
from temporaletl.control.operations.checks import check_settings
from temporaletl.control.operations.sources import known_planners
from temporaletl.errors import ConfigurationError
from temporaletl.service.process import _dispatch_rate
from temporaletl.settings.platform import WarehouseSettings
from temporaletl.strategies import budgets

_GOOD = {
    "JIRA_URL": "http://127.0.0.1:9",
    "JIRA_PERSONAL_TOKEN": "a-token",
    "LP_PROJECTS": "a-project",
    "SERVICETITAN_TENANT_ID": "1",
    "SERVICETITAN_CLIENT_ID": "an-id",
    "SERVICETITAN_CLIENT_SECRET": "a-secret",
    "SERVICETITAN_APP_KEY": "a-key",
}
_RATES = {
    "jira": "JIRA_REQUESTS_PER_SECOND",
    "launchpad": "LP_REQUESTS_PER_SECOND",
    "salesforce": "SF_REQUESTS_PER_SECOND",
    "servicetitan": "SERVICETITAN_REQUESTS_PER_SECOND",
    "temporal": "SOURCE_TEMPORAL_REQUESTS_PER_SECOND",
}


@pytest.mark.parametrize("rate", ["0", "-1", "fast", "inf", "1e-310", "0.001", "1e9"])
@pytest.mark.parametrize("source", _RATES)
async def test_a_rate_that_fails_each_run_is_told_by_the_checks(
    source: str, rate: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    known_planners()
    for name, value in _GOOD.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(_RATES[source], rate)
    [settings] = await check_settings(source, "default")
    assert (settings.name, settings.verdict) == ("settings", "wrong")
    assert _RATES[source] in settings.detail


@pytest.mark.parametrize("rate", ["0", '"fast"', "inf", "1e-310"])
async def test_so_is_the_rate_of_a_named_connection(
    rate: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known_planners()
    file = tmp_path / "connections.toml"
    lines = ["[acme]", 'source = "jira"', 'JIRA_URL = "http://127.0.0.1:9"']
    lines += ['JIRA_PERSONAL_TOKEN = { env = "ACME_TOKEN" }', f"JIRA_REQUESTS_PER_SECOND = {rate}"]
    file.write_text("\n".join(lines))
    monkeypatch.setenv("ETL_CONNECTIONS", str(file))
    monkeypatch.setenv("ACME_TOKEN", "a-token-of-acme")
    [settings] = await check_settings("jira", "acme")
    assert (settings.name, settings.verdict) == ("settings", "wrong")
    assert "connection 'acme': JIRA_REQUESTS_PER_SECOND is wrong" in settings.detail


async def test_a_secret_that_redaction_cannot_hide_is_noted_by_its_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def account(_source: str) -> str:
        return "me"

    known_planners()
    monkeypatch.setattr(checks, "read_account", account)
    for name, value in _GOOD.items():
        monkeypatch.setenv(name, value)
    for token, noted in (("a-token-of-mine", []), ("token", ["JIRA_PERSONAL_TOKEN"])):
        monkeypatch.setenv("JIRA_PERSONAL_TOKEN", token)
        found = [one for one in await check_settings("jira", "default") if one.name == "secrets"]
        assert [one.detail.partition(" ")[0] for one in found] == noted
        assert {one.verdict for one in found} <= {"note"}


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("DATABASE_URL", "postgresql://me:postgres@127.0.0.1/any", "the password in DATABASE_URL"),
        ("WPE_DB_PASSWORD", "data", "WPE_DB_PASSWORD"),
    ],
)
def test_so_is_the_password_of_the_warehouse(
    variable: str, value: str, named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DATABASE_URL", "WPE_DB_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WPE_DB_HOST", "127.0.0.1")
    monkeypatch.setenv(variable, value)
    [noted] = weak(password_of(WarehouseSettings.load()))
    assert noted.detail.startswith(f"{named} is ")


@pytest.mark.parametrize("source", [source for source in _RATES if source != "temporal"])
def test_the_bounds_are_those_of_every_source(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    known_planners()
    with bound(source, "default"):
        for rate in ("0.01", "1000000"):
            monkeypatch.setenv(_RATES[source], rate)
            assert budgets.get(source)().requests_per_second == float(rate)
            assert _dispatch_rate(source) == float(rate)
        monkeypatch.setenv(_RATES[source], "0.001")
        with pytest.raises(ConfigurationError, match=_RATES[source]):
            budgets.get(source)()
