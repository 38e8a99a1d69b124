"""Clients that jobs share, while the secrets of their settings are replaced in their files."""

import gc
from pathlib import Path
from weakref import WeakSet

import pytest
from pydantic import Field, SecretStr

from temporaletl.bound_connection import bound
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.external.jira.site import JiraSite, close_sites, open_site
from temporaletl.external.shared import Shared
from temporaletl.settings.platform import Settings
from tests.unit.connections_file import ACME, ConnectionsFile


class ShopSettings(Settings):
    url: str = Field("https://shop.example.com", validation_alias="SHOP_URL")
    token: SecretStr = Field(validation_alias="SHOP_TOKEN")


class ShopClient:
    def __init__(self, settings: ShopSettings) -> None:
        self.settings = settings

    def close(self) -> None:
        """Nothing is open."""


def test_a_client_of_a_replaced_secret_lives_while_it_is_used_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_shop, living = Shared(ShopClient), WeakSet[ShopClient]()

    def opened(token: str, **more: str) -> ShopClient:
        (tmp_path / "token").write_text(token)
        for name, value in more.items():
            monkeypatch.setenv(name, value)
        client = open_shop(ShopSettings.load())
        living.add(client)
        return client

    monkeypatch.setenv("SHOP_TOKEN_FILE", str(tmp_path / "token"))
    used = opened("the-first-token")
    assert opened("the-first-token") is used
    for number in range(5):
        opened(f"token-number-{number}")
    gc.collect()
    assert {one.settings.token.get_secret_value() for one in living} == {
        "the-first-token",
        "token-number-4",
    }
    # Another shop, whatever its token: both are kept.
    opened("token-number-4", SHOP_URL="https://other.example.com")
    del used
    gc.collect()
    assert len(living) == 2


def test_clients_of_replaced_secrets_and_users_of_a_connection_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ETL_CONNECTIONS", "connections.toml")
    ConnectionsFile(tmp_path / "connections.toml").write(
        ACME.replace('env = "ACME_TOKEN"', 'file = "token"').replace(
            '"loader@acme.example.com"', '{ file = "user" }'
        )
    )
    living = WeakSet[JiraSite]()
    try:
        with bound("jira", "acme"):
            for number in range(3):
                (tmp_path / "token").write_text(f"token-number-{number}")
                (tmp_path / "user").write_text(f"loader-{number}@example.com")
                living.add(open_site(JiraSettings.load()))
            gc.collect()
            assert [one.settings.email for one in living] == ["loader-2@example.com"]
    finally:
        close_sites()
