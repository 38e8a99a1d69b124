"""The settings of sources over REST, and the session that they make."""

from pathlib import Path

import pytest
import requests
from pydantic import SecretStr

from temporaletl import ConfigurationError
from temporaletl.external.rest import (
    RestApi,
    RestSettings,
    TokenSettings,
    close_apis,
    open_api,
    variables,
)

URL = "https://api.example.com/v1"


class ShopSettings(TokenSettings, alias_generator=variables("SHOP")):
    region: str = "north"


class OpenSettings(RestSettings, alias_generator=variables("OPEN")): ...


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHOP_URL", URL)
    monkeypatch.setenv("SHOP_TOKEN", "a-token")


def test_settings_are_named_after_their_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PAGE_SIZE", "7")
    monkeypatch.setenv("SHOP_REGION", "south")
    monkeypatch.setenv("URL", "https://elsewhere.example.com")
    settings = ShopSettings.load()
    assert (settings.url, settings.page_size, settings.region) == (URL, 7, "south")
    assert ShopSettings.variable("page_size") == "SHOP_PAGE_SIZE"
    assert ShopSettings.credentials() == "SHOP_TOKEN"


def test_two_sources_do_not_share_their_settings() -> None:
    with pytest.raises(ConfigurationError, match="OPEN_URL is not set"):
        OpenSettings.load()


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SHOP_URL", "", "SHOP_URL is not set (the API's address"),
        ("SHOP_URL", "api.example.com", "SHOP_URL is wrong: must be an address"),
        ("SHOP_URL", "https://me:pass@api.example.com", "without credentials or parameters"),
        ("SHOP_URL", "https://api.example.com?key=1", "without credentials or parameters"),
        ("SHOP_TOKEN", "", "SHOP_TOKEN is not set (the access token)"),
        ("SHOP_TOKEN", "two\nlines", "SHOP_TOKEN is wrong: holds a character that no header can"),
        ("SHOP_PAGE_SIZE", "0", "SHOP_PAGE_SIZE is wrong"),
        ("SHOP_READ_TIMEOUT_SECONDS", "inf", "SHOP_READ_TIMEOUT_SECONDS is wrong"),
    ],
)
def test_a_bad_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as refused:
        ShopSettings.load()
    assert told in str(refused.value)
    assert "pass" not in str(refused.value)


def test_the_token_is_told_to_the_api_alone() -> None:
    settings = ShopSettings.load()
    assert "a-token" not in repr(settings)
    assert settings.headers()["Authorization"] == "Bearer a-token"
    assert "Authorization" not in RestSettings.model_validate({"url": URL}).headers()


def test_a_token_loses_the_line_end_of_the_file_it_came_from() -> None:
    settings = TokenSettings.model_validate({"url": URL, "token": SecretStr("a-token\n")})
    assert settings.token.get_secret_value() == "a-token"


def test_a_process_has_one_session_for_the_same_settings() -> None:
    try:
        first = open_api("shop", ShopSettings.load())
        assert open_api("shop", ShopSettings.load()) is first
        other = ShopSettings.load().model_copy(update={"token": SecretStr("another")})
        assert open_api("shop", other) is not first
    finally:
        close_apis()


def test_a_netrc_file_does_not_replace_the_token(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine api.example.com login me password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    api = RestApi("shop", ShopSettings.load())
    request = api._session.prepare_request(requests.Request("GET", URL))
    api.close()
    assert request.headers["Authorization"] == "Bearer a-token"


def test_a_rate_is_the_sources_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ShopSettings.budget().requests_per_second is None
    monkeypatch.setenv("SHOP_REQUESTS_PER_SECOND", "2.5")
    assert ShopSettings.budget().requests_per_second == 2.5
