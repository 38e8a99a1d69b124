"""The settings of ServiceTitan, its rate, and the position of an export."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from temporaletl import ConfigurationError
from temporaletl.external.servicetitan.resources import RESOURCES, ExportPosition, continuation
from temporaletl.external.servicetitan.settings import ServiceTitanSettings, servicetitan_budget
from tests.unit.settings_loading import loader

GIVEN = {
    "SERVICETITAN_CLIENT_ID": "cid.1",
    "SERVICETITAN_CLIENT_SECRET": "cs1.s3cret",
    "SERVICETITAN_APP_KEY": "ak1.s3cret",
    "SERVICETITAN_TENANT_ID": "42",
}
Load = Callable[[dict[str, str]], ServiceTitanSettings]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Load:
    return loader(ServiceTitanSettings, monkeypatch, tmp_path)


def test_what_must_be_given_is_enough(load: Load) -> None:
    settings = load(GIVEN)
    assert settings.url == "https://api.servicetitan.io"
    assert settings.auth_url == "https://auth.servicetitan.io/connect/token"
    assert (settings.paging, settings.page_size) == ("export", 1_000)
    assert "s3cret" not in repr(settings)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"SERVICETITAN_CLIENT_ID": ""}, "SERVICETITAN_CLIENT_ID is not set"),
        ({"SERVICETITAN_CLIENT_SECRET": ""}, "SERVICETITAN_CLIENT_SECRET is not set"),
        ({"SERVICETITAN_APP_KEY": ""}, "SERVICETITAN_APP_KEY is not set .*developer portal"),
        ({"SERVICETITAN_TENANT_ID": ""}, "SERVICETITAN_TENANT_ID is not set"),
        ({"SERVICETITAN_TENANT_ID": "acme"}, "SERVICETITAN_TENANT_ID is wrong"),
        ({"SERVICETITAN_URL": "api.servicetitan.io"}, "SERVICETITAN_URL is wrong"),
        ({"SERVICETITAN_URL": "https://a:b@example.com"}, "without credentials"),
        ({"SERVICETITAN_AUTH_URL": "nowhere"}, "SERVICETITAN_AUTH_URL is wrong"),
        ({"SERVICETITAN_PAGE_SIZE": "5001"}, "SERVICETITAN_PAGE_SIZE is wrong.*1 to 5000"),
        ({"SERVICETITAN_PAGING": "both"}, "SERVICETITAN_PAGING is wrong"),
        ({"SERVICETITAN_REQUESTS_PER_SECOND": "0"}, "SERVICETITAN_REQUESTS_PER_SECOND is wrong"),
        ({"SERVICETITAN_LAG_SECONDS": "-1"}, "SERVICETITAN_LAG_SECONDS is wrong"),
        (
            {"SERVICETITAN_URL": "https://api-integration.servicetitan.io"},
            "SERVICETITAN_URL and SERVICETITAN_AUTH_URL name different environments",
        ),
    ],
)
def test_what_is_missing_or_wrong_is_named(load: Load, change: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as raised:
        load(GIVEN | change)
    assert "s3cret" not in str(raised.value)


def test_both_addresses_of_one_environment_are_taken(load: Load) -> None:
    settings = load(
        GIVEN
        | {
            "SERVICETITAN_URL": "https://api-integration.servicetitan.io/",
            "SERVICETITAN_AUTH_URL": "https://auth-integration.servicetitan.io",
        }
    )
    assert settings.site == "https://api-integration.servicetitan.io/tenant/42"
    assert settings.auth_url == "https://auth-integration.servicetitan.io/connect/token"


@pytest.mark.parametrize(
    ("given", "lag"),
    [
        ({}, timedelta(minutes=10)),
        ({"SERVICETITAN_PAGING": "list"}, timedelta(minutes=1)),
        ({"SERVICETITAN_LAG_SECONDS": "5"}, timedelta(seconds=5)),
        ({"SERVICETITAN_LAG_SECONDS": "0"}, timedelta(0)),
    ],
)
def test_windows_end_behind_what_is_withheld(
    load: Load, given: dict[str, str], lag: timedelta
) -> None:
    assert load(GIVEN | given).lag == lag


def test_the_rate_is_known_without_the_other_settings(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.environ", {})
    assert servicetitan_budget().requests_per_second == 50
    monkeypatch.setattr("os.environ", {"SERVICETITAN_REQUESTS_PER_SECOND": "12.5"})
    assert servicetitan_budget().requests_per_second == 12.5


def test_lists_are_ordered_by_the_parameters_that_they_have() -> None:
    assert RESOURCES["jobs"].order("ModifiedOn") == {"sort": "+ModifiedOn"}
    assert RESOURCES["customers"].order("Id", descending=True) == {"sort": "-Id"}
    assert RESOURCES["invoices"].order("ModifiedOn", descending=True) == {
        "orderBy": "ModifiedOn",
        "orderByDirection": "desc",
    }


NOON = datetime(2025, 5, 1, 12, tzinfo=UTC)


def position(**more: Any) -> Any:
    position = ExportPosition(**{"site": "s", "token": "t", "ended": True, "reached": NOON, **more})
    return msgspec.to_builtins(position)


@pytest.mark.parametrize(
    ("cursor", "token"),
    [
        (position(), "t"),
        (position(reached=NOON - timedelta(hours=1)), "t"),
        (position(reached=NOON + timedelta(microseconds=1)), None),  # the watermark was set back
        (position(site="other"), None),
        (position(reached=None), None),  # a backfill, or a job that did not end
        (position(token=None), None),
        ({"paging": "list", "page": 3}, None),
        (None, None),
        ({"something": "else"}, None),
        ([1, 2], None),
    ],
)
def test_an_export_goes_on_where_the_last_one_of_its_tenant_ended(
    cursor: Any, token: str | None
) -> None:
    assert continuation(cursor, site="s", watermark=NOON) == token
