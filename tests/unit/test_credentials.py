"""Credentials are clean, sendable, and go out encrypted to where they belong alone."""

import importlib
import os
import pkgutil
import re
from collections.abc import Iterator

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

import temporaletl
from temporaletl.connections.source_settings import variables
from temporaletl.errors import ConfigurationError, SourceProtocolError
from temporaletl.external.http import HttpClient
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.external.launchpad.settings import LaunchpadSettings
from temporaletl.external.rest.api import RestApi, RestSettings, TokenSettings
from temporaletl.external.salesforce.settings import SalesforceSettings
from temporaletl.external.servicetitan.settings import ServiceTitanSettings
from temporaletl.external.trino.access import TrinoSettings
from temporaletl.notifications.settings import NotificationSettings
from temporaletl.secrets import REDACTED, redacted
from temporaletl.settings.platform import (
    Settings,
    TemporalSettings,
    WarehouseSettings,
)
from temporaletl.temporal.endpoint import endpoint

_TENANT = {
    "SERVICETITAN_CLIENT_ID": "cid.canary",
    "SERVICETITAN_CLIENT_SECRET": "cs1.canary",
    "SERVICETITAN_APP_KEY": "ak1.canary",
    "SERVICETITAN_TENANT_ID": "7",
}


_LAUNCHPAD = {
    "LP_CONSUMER_KEY": "consumer",
    "LP_ACCESS_TOKEN_KEY": "key.canary",
    "LP_ACCESS_TOKEN_SECRET": "secret.canary",
}


_ORG = {"SF_USERNAME": "me@example.com", "SF_PASSWORD": "s3cretcanary"}


def settings_classes() -> Iterator[type[BaseSettings]]:
    for module in pkgutil.walk_packages(temporaletl.__path__, "temporaletl."):
        if not re.search(r"temporaletl\.testing|__main__|\.templates", module.name):
            importlib.import_module(module.name)
    todo: list[type[BaseSettings]] = [BaseSettings]
    while todo:
        cls = todo.pop()
        todo += cls.__subclasses__()
        if cls.__module__.partition(".")[0] == "temporaletl":
            yield cls


SECRET_FIELDS = [
    pytest.param(cls, name, id=f"{cls.__name__}.{name}")
    for cls in settings_classes()
    for name, field in cls.model_fields.items()
    if "SecretStr" in str(field.annotation)
]


def test_all_settings_keep_secrets_in() -> None:
    for cls in settings_classes():
        assert issubclass(cls, Settings)
        assert cls._clean_secret.__func__ is Settings._clean_secret.__func__  # type: ignore[attr-defined]
        for name, field in cls.model_fields.items():
            if field.annotation is int:
                continue  # how many tokens, for one
            if re.search("password|secret|private_key$|token$|api_key|app_key|webhook", name):
                assert "SecretStr" in str(field.annotation), f"{cls.__name__}.{name}"


@pytest.mark.parametrize(("cls", "name"), SECRET_FIELDS)
@pytest.mark.parametrize("odd", ["can\u200bary", "can\x00ary", "can\x9bary", "can\u202eary", " \n"])
def test_no_secret_of_any_setting_holds_what_nobody_sees(
    cls: type[Settings], name: str, odd: str
) -> None:
    with pytest.raises(ValueError, match=r"holds a character|is empty") as told:
        cls._clean_secret(SecretStr(odd), _Info(name))  # type: ignore[arg-type]
    assert odd not in str(told.value)


@pytest.mark.parametrize(("cls", "name"), SECRET_FIELDS)
def test_only_keys_have_several_lines(cls: type[Settings], name: str) -> None:
    if name in cls.key_secrets:
        cls._clean_secret(SecretStr("-----BEGIN\nQ2FuYXJ5\n"), _Info(name))  # type: ignore[arg-type]
        assert REDACTED in redacted("of the key: Q2FuYXJ5")
        return
    with pytest.raises(ValueError, match="holds a character"):
        cls._clean_secret(SecretStr("can\nary"), _Info(name))  # type: ignore[arg-type]


@pytest.mark.parametrize(("cls", "name"), SECRET_FIELDS)
def test_every_secret_of_every_setting_is_trimmed_and_known(cls: type[Settings], name: str) -> None:
    checked = cls._clean_secret(SecretStr("  canary-of-a-setting\n"), _Info(name))  # type: ignore[arg-type]
    assert isinstance(checked, SecretStr)
    assert checked.get_secret_value() == "canary-of-a-setting"
    assert redacted("so: canary-of-a-setting") == f"so: {REDACTED}"


class _Info:
    def __init__(self, field_name: str) -> None:
        self.field_name = field_name


@pytest.mark.parametrize("odd", ["tok\nen", "tok\u200ben", "token\u2026", "tok\x00en", "tok\xa0en"])
@pytest.mark.parametrize("name", ["JIRA_PERSONAL_TOKEN", "JIRA_API_TOKEN", "JIRA_EMAIL"])
def test_what_no_header_can_hold_is_refused_by_name_and_not_repeated(
    monkeypatch: pytest.MonkeyPatch, name: str, odd: str
) -> None:
    monkeypatch.setenv("JIRA_URL", "https://jira.example.com")
    for each in ("JIRA_EMAIL", "JIRA_API_TOKEN") if name != "JIRA_PERSONAL_TOKEN" else ():
        monkeypatch.setenv(each, "fine")
    if "\0" in odd:
        monkeypatch.setattr(os, "environ", {**os.environ, name: odd})
    else:
        monkeypatch.setenv(name, odd)
    with pytest.raises(ConfigurationError, match=f"{name} is wrong: holds a character") as told:
        JiraSettings.load()
    assert odd not in str(told.value)


def test_a_secret_with_a_newline_at_its_end_is_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JIRA_URL", "https://jira.example.com")
    monkeypatch.setenv("JIRA_PERSONAL_TOKEN", " s3cretcanary77\n")
    token = JiraSettings.load().personal_token
    assert token is not None
    assert token.get_secret_value() == "s3cretcanary77"


def test_a_password_within_an_address_is_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:s3cret%2Fcanary@db.example.com/x")
    WarehouseSettings.load().conninfo()
    assert redacted("password=s3cret/canary") == f"password={REDACTED}"


@pytest.mark.parametrize("password", ["s3/canary", "s3@canary", "77/s3canary", "s3/ca@nary"])
def test_an_address_that_is_read_otherwise_than_meant_is_refused_unseen(
    monkeypatch: pytest.MonkeyPatch, password: str
) -> None:
    monkeypatch.setenv("DATABASE_URL", f"postgresql://me:{password}@db.example.com:5432/x")
    with pytest.raises(ConfigurationError, match=r"DATABASE_URL .*%40") as told:
        WarehouseSettings.load().conninfo()
    assert "s3" not in str(told.value)


def test_an_address_may_hold_an_at_sign_where_it_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:s%40@db.example.com/x?application_name=a@b")
    assert "dbname=x" in WarehouseSettings.load().conninfo().get_secret_value()


@pytest.mark.parametrize(
    ("url", "fine"),
    [
        ("https://jira.example.com", True),
        ("http://jira.example.com", False),
        ("http://127.0.0.1:8080", True),
        ("http://[::1]:8080", True),
        ("http://localhost", True),
        ("http://localhost.example.com", False),
        ("http://jira.internal:8080/base", True),
        ("http://10.0.0.7", False),
    ],
)
def test_credentials_go_out_encrypted_unless_a_setting_names_the_host(
    monkeypatch: pytest.MonkeyPatch, url: str, *, fine: bool
) -> None:
    monkeypatch.setenv("JIRA_URL", url)
    monkeypatch.setenv("JIRA_PERSONAL_TOKEN", "s3cretcanary")
    monkeypatch.setenv("ETL_PLAIN_HTTP_HOSTS", "other.internal, Jira.internal")
    if fine:
        assert JiraSettings.load().url == url
        return
    with pytest.raises(ConfigurationError, match=r"JIRA_URL must begin with https.*ETL_PLAIN_HTTP"):
        JiraSettings.load()


@pytest.mark.parametrize(
    ("variable", "cls", "others"),
    [
        ("SERVICETITAN_URL", ServiceTitanSettings, _TENANT),
        ("SERVICETITAN_AUTH_URL", ServiceTitanSettings, _TENANT),
        ("LP_SERVICE_ROOT", LaunchpadSettings, _LAUNCHPAD),
        ("SF_INSTANCE_URL", SalesforceSettings, _ORG),
        ("GCP_TOKEN_URI", TrinoSettings, {"TRINO_HOST": "trino.example.com"}),
        ("SLACK_WEBHOOK_URL", NotificationSettings, {}),
        ("NOTIFY_URLS", NotificationSettings, {}),
    ],
)
def test_no_credential_of_any_source_goes_out_in_plain(
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    cls: type[Settings],
    others: dict[str, str],
) -> None:
    for name, value in others.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv(variable, "http://plain.example.com")
    with pytest.raises(ConfigurationError, match=f"{variable} must begin with https"):
        cls.load()
    monkeypatch.setenv("ETL_PLAIN_HTTP_HOSTS", "plain.example.com")
    cls.load()


def test_the_settings_of_a_new_source_ask_for_https(monkeypatch: pytest.MonkeyPatch) -> None:
    class ShopSettings(RestSettings):
        model_config = SettingsConfigDict(alias_generator=variables("SHOP"))
        api_key: SecretStr

    monkeypatch.setenv("SHOP_API_KEY", "s3cretcanary")
    monkeypatch.setenv("SHOP_URL", "http://shop.example.com")
    with pytest.raises(ConfigurationError, match="SHOP_URL must begin with https"):
        ShopSettings.load()


@pytest.mark.parametrize("access", ["TEMPORAL_API_KEY", "TEMPORAL_GRPC_META_AUTHORIZATION"])
def test_a_key_of_temporal_goes_out_over_tls_only(access: str) -> None:
    plain = {access: "s3cretcanary", "TEMPORAL_TLS": "false"}
    here = endpoint(TemporalSettings(address="127.0.0.1:7233"), plain)
    assert here.tls is False
    with pytest.raises(ConfigurationError, match="TEMPORAL_ADDRESS wants TLS"):
        endpoint(TemporalSettings(address="temporal.example.com:7233"), plain)


@pytest.mark.parametrize("odd", ["s3cret\u200bcanary", "s3cret\u00e9canary"])
def test_a_key_of_temporal_that_cannot_be_sent_is_refused_by_name(odd: str) -> None:
    with pytest.raises(ConfigurationError, match="TEMPORAL_API_KEY holds a character") as told:
        endpoint(TemporalSettings(), {"TEMPORAL_API_KEY": odd})
    assert "canary" not in str(told.value)


@pytest.mark.parametrize(
    "link",
    ["//elsewhere.example.com/x", "https://elsewhere.example.com/x", "http://shop.example.com/x"],
)
async def test_no_link_leads_a_token_to_another_host(
    monkeypatch: pytest.MonkeyPatch, link: str
) -> None:
    monkeypatch.setattr(HttpClient, "request", lambda *_, **__: pytest.fail("was asked"))
    settings = TokenSettings(url="https://shop.example.com/v1", token=SecretStr("s3cretcanary"))
    with pytest.raises(SourceProtocolError, match="leads to"):
        await RestApi("shop", settings).get(link)
