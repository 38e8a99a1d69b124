"""Salesforce's settings: three logins, and the error of a wrong one."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from temporaletl import ConfigurationError
from temporaletl.external.salesforce.settings import (
    SalesforceSettings,
    check_field,
    check_name,
    salesforce_budget,
)

APP = {"SF_CONSUMER_KEY": "key", "SF_CONSUMER_SECRET": "hush", "SF_DOMAIN": "example.my"}
USER = {"SF_USERNAME": "jane@example.com", "SF_PASSWORD": "hush"}


def pem(*, of: type = rsa.RSAPrivateKey, passphrase: bytes | None = None) -> str:
    key = (
        rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - quick
        if of is rsa.RSAPrivateKey
        else ec.generate_private_key(ec.SECP256R1())
    )
    sealed = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, sealed
    ).decode()


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("SF_")]:
        monkeypatch.delenv(name)


def load(monkeypatch: pytest.MonkeyPatch, **variables: str) -> SalesforceSettings:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return SalesforceSettings.load()


@pytest.mark.parametrize(
    ("variables", "way", "credentials"),
    [
        (APP, "client credentials", "SF_CONSUMER_KEY and SF_CONSUMER_SECRET"),
        (USER, "password", "SF_USERNAME and SF_PASSWORD"),
        ({**USER, "SF_TOKEN": "t"}, "password", "SF_USERNAME, SF_PASSWORD and SF_TOKEN"),
        (
            {"SF_CONSUMER_KEY": "key", "SF_USERNAME": "jane@example.com", "SF_PRIVATE_KEY": "PEM"},
            "jwt",
            "SF_USERNAME, SF_CONSUMER_KEY and SF_PRIVATE_KEY",
        ),
    ],
)
def test_the_variables_that_are_set_choose_the_login(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], way: str, credentials: str
) -> None:
    if "SF_PRIVATE_KEY" in variables:
        variables = {**variables, "SF_PRIVATE_KEY": pem()}
    settings = load(monkeypatch, **variables)
    assert (settings.way, settings.credentials) == (way, credentials)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, "no credentials for Salesforce"),
        ({"SF_USERNAME": "jane"}, "SF_PASSWORD not set, though SF_USERNAME is"),
        ({"SF_PASSWORD": "x"}, "SF_USERNAME not set, though SF_PASSWORD is"),
        ({"SF_TOKEN": "x"}, "SF_USERNAME and SF_PASSWORD not set, though SF_TOKEN is"),
        ({"SF_CONSUMER_KEY": "k"}, "SF_CONSUMER_SECRET not set.*SF_PRIVATE_KEY and SF_USERNAME"),
        ({"SF_CONSUMER_SECRET": "s"}, "SF_CONSUMER_KEY not set"),
        ({"SF_CONSUMER_KEY": "k", "SF_USERNAME": "u"}, "SF_PRIVATE_KEY not set"),
        ({**APP, "SF_PASSWORD": "x"}, "SF_PASSWORD cannot go with SF_CONSUMER_KEY and"),
        ({**APP, "SF_USERNAME": "x"}, "SF_USERNAME cannot go with SF_CONSUMER_KEY and"),
        ({**USER, "SF_CONSUMER_KEY": "k"}, "SF_CONSUMER_KEY cannot go with SF_PASSWORD and"),
        ({**APP, "SF_DOMAIN": "login"}, "My Domain.*SF_INSTANCE_URL"),
        ({**APP, "SF_DOMAIN": "test"}, "My Domain.*SF_INSTANCE_URL"),
    ],
)
def test_partial_and_contradictory_logins_name_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=words) as caught:
        load(monkeypatch, **variables)
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("login", "login"),
        ("TEST", "test"),
        ("example.my", "example.my"),
        ("https://example.my.salesforce.com/", "example.my"),
        ("example--trial.sandbox.my.salesforce.com", "example--trial.sandbox.my"),
    ],
)
def test_a_domain_may_be_written_out(
    monkeypatch: pytest.MonkeyPatch, given: str, meant: str
) -> None:
    assert load(monkeypatch, **USER, SF_DOMAIN=given).domain == meant


@pytest.mark.parametrize("given", ["example", "exa mple.my", "http://example.my", "a/b.my", "-.my"])
def test_a_domain_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    with pytest.raises(ConfigurationError, match="SF_DOMAIN is wrong"):
        load(monkeypatch, **USER, SF_DOMAIN=given)


@pytest.mark.parametrize(
    "given", ["https://example.my.salesforce.com/", "http://127.0.0.1:8080", "http://[::1]:80"]
)
def test_an_instance_is_an_https_address_or_one_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    assert load(monkeypatch, **USER, SF_INSTANCE_URL=given).instance_url == given.rstrip("/")


@pytest.mark.parametrize(
    "given",
    [
        "example.my.salesforce.com",
        "http://example.my.salesforce.com",
        "http://127.0.0.1.example.com",
        "https://user:secret@example.com",
        "https://example.com/services",
        "https://example.com?a=b",
    ],
)
def test_an_instance_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    with pytest.raises(ConfigurationError, match="SF_INSTANCE_URL is wrong") as caught:
        load(monkeypatch, **USER, SF_INSTANCE_URL=given)
    assert "secret" not in str(caught.value)


def test_a_key_may_stand_on_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    text = pem()
    for written in (text, text.replace("\n", "\\n"), f'"{text}"'):
        settings = load(monkeypatch, SF_CONSUMER_KEY="k", SF_USERNAME="u", SF_PRIVATE_KEY=written)
        assert settings.private_key is not None
        assert settings.private_key.get_secret_value() == text.strip()


@pytest.mark.parametrize("kind", ["text", "sealed", "other"])
def test_a_key_that_is_none_is_named_and_not_told(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    key = {
        "text": "-----BEGIN PRIVATE KEY-----\nAAAAsecretAAAA\n-----END PRIVATE KEY-----",
        "sealed": pem(passphrase=b"x"),
        "other": pem(of=ec.EllipticCurvePrivateKey),
    }[kind]
    with pytest.raises(ConfigurationError, match=r"SF_PRIVATE_KEY is wrong: .*RSA") as caught:
        load(monkeypatch, SF_CONSUMER_KEY="k", SF_USERNAME="u", SF_PRIVATE_KEY=key)
    assert key.splitlines()[1] not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SF_PAGE_SIZE", "2001"),
        ("SF_PAGE_SIZE", "0"),
        ("SF_API_USAGE_LIMIT", "1.5"),
        ("SF_API_USAGE_LIMIT", "nan"),
        ("SF_BULK_ABOVE_ROWS", "-1"),
        ("SF_REQUESTS_PER_SECOND", "0"),
        ("SF_API_VERSION", "v59.0"),
        ("SF_EMPLOYEE_OBJECT", "User WHERE Id != null"),
        ("SF_EMPLOYEE_OBJECT", "Contact.Name"),
        ("SF_EMPLOYEE_ID_FIELD", "Id, Email"),
        ("SF_EMPLOYEE_EMAIL_FIELD", "E-mail"),
        ("SF_EMPLOYEE_USER_FIELD", "User__"),
        ("SF_IDENTITY_FIELDS", "launchpad"),
        ("SF_IDENTITY_FIELDS", "launchpad:"),
        ("SF_IDENTITY_FIELDS", "jira:A__c,jira:B__c"),
        ("SF_IDENTITY_FIELDS", "jira:A__c FROM User"),
    ],
)
def test_any_other_wrong_value_is_named_with_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"{name} is wrong"):
        load(monkeypatch, **USER, **{name: value})


def test_names_are_those_of_the_api() -> None:
    for name in ("User", "Employee__c", "ns__Employee__c", "A1_b"):
        assert check_name(name) == name
    assert check_field("Contact.Staff_Number__c") == "Contact.Staff_Number__c"
    for name in ("", "1A", "A__", "_A", "A-b", "A b", "A'", "A.", "A..B", "Ä"):
        with pytest.raises(ValueError, match="name"):
            check_field(name)


def test_it_is_configured_once_a_variable_of_a_login_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not SalesforceSettings.is_configured()
    monkeypatch.setenv("SF_DOMAIN", "login")
    monkeypatch.setenv("SF_USERNAME", "")
    assert not SalesforceSettings.is_configured()
    monkeypatch.setenv("SF_PRIVATE_KEY", "not a key at all")
    assert SalesforceSettings.is_configured()


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch, **USER, SF_TOKEN="hushed")
    assert "hush" not in f"{settings!r} {settings} {settings.model_dump()}"


def test_the_budget_wants_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    assert salesforce_budget().requests_per_second == 10
    monkeypatch.setenv("SF_REQUESTS_PER_SECOND", "2.5")
    assert salesforce_budget().requests_per_second == 2.5
