"""Connections of the warehouse: made, replaced and deleted, and found beside those of the file."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from temporaletl.bound_connection import bound
from temporaletl.connections.providers import find_connection, provided, read_entries
from temporaletl.connections.source_settings import UnboundSourceError
from temporaletl.control.operations import connections as listing, stored_connections as operations
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.sources import known_planners
from temporaletl.errors import ConfigurationError, ConflictError, NotFoundError, UnknownSourceError
from temporaletl.external.jira.settings import JiraSettings
from temporaletl.secrets import redacted
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings
from temporaletl.warehouse.audit import AuditEntry, Author, read_audit
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.source_connections import (
    VersionConflictError,
    find_stored,
    stored_connections,
)
from temporaletl.warehouse.state import read_states, set_watermark
from tests.integration.warehouse.batches import NOON, begin, finish, make_metadata, rows

SETTINGS: dict[str, Any] = {
    "JIRA_URL": "https://acme.example.com",
    "JIRA_EMAIL": "loader@acme.example.com",
    "JIRA_PAGE_SIZE": 50,
}
SECRETS = {"JIRA_API_TOKEN": {"env": "ACME_TOKEN"}}
TOKEN = "acme-token-of-a-test"
ALICE = Author(name="token:alice")


@pytest_asyncio.fixture
async def platform(
    postgres_url: str, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> AsyncGenerator[Platform]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ETL_CONNECTIONS", raising=False)
    monkeypatch.setenv("ACME_TOKEN", TOKEN)
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    known_planners()
    settings = WarehouseSettings.model_validate(
        {"database_url": postgres_url, "schema_name": warehouse.schema}
    )
    async with Platform(TemporalSettings.load(), settings) as made:
        yield made


async def create(platform: Platform, name: str = "acme", **settings: Any) -> Any:
    return await operations.create_connection(
        platform, name, "jira", {**SETTINGS, **settings}, SECRETS, author=ALICE
    )


def audit(warehouse: Warehouse) -> list[AuditEntry]:
    return read_audit(warehouse, limit=100).entries


async def test_a_stored_connection_is_bound_like_one_of_the_file(
    platform: Platform, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JIRA_JQL", "project = DEFAULT")
    made = await create(platform)
    assert (made.connection.version, made.notes) == (1, ())
    with provided(stored_connections(warehouse)):
        with bound("jira", "acme"):
            settings = JiraSettings.load()
        with pytest.raises(UnboundSourceError):
            JiraSettings.load()
        with pytest.raises(ConfigurationError, match="the warehouse: connection 'acme' is one of"):
            find_connection("trino", "acme")
        with pytest.raises(
            ConfigurationError, match="the warehouse has no connection 'beta'; it has acme"
        ):
            find_connection("jira", "beta")
    assert settings.url == "https://acme.example.com"
    assert (settings.page_size, settings.jql) == (50, None)
    assert settings.api_token is not None
    assert settings.api_token.get_secret_value() == TOKEN
    with pytest.raises(ConfigurationError, match="no connection 'acme'"):
        find_connection("jira", "acme")


async def test_no_secret_is_in_the_warehouse_or_its_audit(
    platform: Platform, warehouse: Warehouse
) -> None:
    await create(platform)
    for table in ("source_connections", "etl_audit"):
        [(row,)] = rows(warehouse, f"SELECT to_jsonb(t)::text FROM {table} AS t")
        assert TOKEN not in str(row)
    [entry] = audit(warehouse)
    assert (entry.actor, entry.action, entry.target) == (
        "token:alice",
        "connection.create",
        "jira@acme",
    )
    assert entry.details["settings"] == ["JIRA_EMAIL", "JIRA_PAGE_SIZE", "JIRA_URL"]
    assert entry.details["secrets"] == ["JIRA_API_TOKEN"]


@pytest.mark.parametrize(
    ("settings", "secrets", "expected"),
    [
        ({"JIRA_API_TOKEN": "literal-secret"}, {}, "JIRA_API_TOKEN is a secret"),
        ({"JIRA_URL": "rubbish-value"}, SECRETS, "JIRA_URL is wrong"),
        ({"JIRA_PAGE_SIZE": "rubbish-value"}, SECRETS, "JIRA_PAGE_SIZE is wrong"),
        ({"JIRA_PAGESIZE": 1}, SECRETS, "is JIRA_PAGE_SIZE meant"),
        ({"JIRA_PAGE_SIZE": [1]}, SECRETS, "a list"),
        ({"JIRA_PAGE_SIZE": float("nan")}, SECRETS, "no number"),
        ({"JIRA_JQL": "a\x00b"}, SECRETS, "cannot be stored"),
        ({"JIRA_JQL": {"env": "X"}}, SECRETS, "is a place"),
        ({"source": "trino"}, SECRETS, "'source' is no setting"),
        ({}, {"JIRA_API_TOKEN": {"vault": "x"}}, "JIRA_API_TOKEN: where it is must be"),
        ({}, {"JIRA_API_TOKEN": "literal-secret"}, "JIRA_API_TOKEN: where it is must be"),
        ({}, {**SECRETS, "JIRA_URL": {"env": "X"}}, "JIRA_URL is given twice"),
        ({}, {"JIRA_API_TOKEN": {"env": "WPE_DB_PASSWORD"}}, "a variable of the platform"),
        ({}, {"JIRA_API_TOKEN": {"env": "etl_payload_keys"}}, "a variable of the platform"),
        ({}, {"JIRA_API_TOKEN": {"file": "/etc/passwd"}}, "ETL_SECRET_FOLDERS"),
        ({}, {"JIRA_API_TOKEN": {"file": "/run/secrets/../../etc/passwd"}}, "ETL_SECRET_FOLDERS"),
        ({}, {"JIRA_API_TOKEN": {"file": "token"}}, "ETL_SECRET_FOLDERS"),
    ],
)
async def test_what_is_wrong_is_refused_and_not_repeated(
    platform: Platform,
    warehouse: Warehouse,
    settings: dict[str, Any],
    secrets: Any,
    expected: str,
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        await operations.create_connection(
            platform, "acme", "jira", {**SETTINGS, **settings}, secrets
        )
    assert "connection 'acme'" in str(refused.value)
    assert expected in str(refused.value)
    for value in ("literal-secret", "rubbish-value"):
        assert value not in str(refused.value)
    assert rows(warehouse, "SELECT FROM source_connections") == []
    assert audit(warehouse) == []
    if settings.get("JIRA_API_TOKEN"):
        assert "literal-secret" not in redacted("it was literal-secret")


async def test_a_missing_setting_an_odd_name_and_an_unknown_source_are_refused(
    platform: Platform,
) -> None:
    with pytest.raises(ConfigurationError, match="JIRA_URL is not set"):
        await operations.create_connection(platform, "acme", "jira", {}, SECRETS)
    for name in ("default", "Acme", "", "a\x00"):
        with pytest.raises(ConfigurationError):
            await create(platform, name)
    with pytest.raises(UnknownSourceError, match="no source 'juri'"):
        await operations.create_connection(platform, "acme", "juri", {}, {})


async def test_a_secret_that_is_elsewhere_is_noted_and_the_rest_is_checked(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ACME_TOKEN")
    with pytest.raises(ConfigurationError, match="JIRA_URL is wrong"):
        await create(platform, JIRA_URL="rubbish-value")
    made = await create(platform)
    assert made.notes == ("JIRA_API_TOKEN: the environment variable ACME_TOKEN is not set",)
    stored = await platform.stored_connections("acme")
    with (
        provided(stored),
        bound("jira", "acme"),
        pytest.raises(ConfigurationError, match="ACME_TOKEN is not set"),
    ):
        JiraSettings.load()


async def test_a_file_of_a_secret_may_be_where_it_is_allowed(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_SECRET_FOLDERS", f"/run/secrets, {tmp_path}")
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    secrets = {"JIRA_API_TOKEN": {"file": str(tmp_path / "token")}}
    made = await operations.create_connection(platform, "acme", "jira", SETTINGS, secrets)
    assert made.notes == ()


async def test_a_name_is_one_place_s_alone(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse
) -> None:
    file = tmp_path / "connections.toml"
    file.write_text('[north]\nsource = "launchpad"\n')
    monkeypatch.setenv("ETL_CONNECTIONS", "connections.toml")
    await create(platform)
    with pytest.raises(ConflictError, match="'acme' already"):
        await create(platform)
    with pytest.raises(ConfigurationError, match=r"'north' is in connections\.toml already"):
        await create(platform, "north")
    file.write_text('[acme]\nsource = "launchpad"\n[north]\nsource = "launchpad"\n')
    with provided(stored_connections(warehouse)):
        with pytest.raises(
            ConfigurationError,
            match=r"'acme' is declared in connections\.toml and in the ware",
        ):
            find_connection("jira", "acme")
        assert [name for name, entry in read_entries() if isinstance(entry, Exception)] == ["acme"]
        assert find_connection("launchpad", "north") is not None


async def test_all_connections_are_listed_with_their_origin(
    platform: Platform, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warehouse: Warehouse
) -> None:
    (tmp_path / "connections.toml").write_text('[north]\nsource = "launchpad"\n')
    monkeypatch.setenv("ETL_CONNECTIONS", "connections.toml")
    made = await create(platform)
    found = await listing.list_connections(platform)
    acme, north = found.connections
    assert (acme.origin, acme.version, north.origin) == ("warehouse", 1, "file")
    assert acme.connection_id == made.connection.connection_id
    assert (north.connection_id, found.unread) == (None, None)
    assert await listing.connections_of(platform, "jira") == ["default", "acme"]
    with warehouse.connection() as connection:
        connection.execute("UPDATE source_connections SET settings = '{\"JIRA_NONE\": 1}'")
    [wrong, _] = (await listing.list_connections(platform)).connections
    assert (wrong.origin, wrong.source) == ("warehouse", "jira")
    assert "JIRA_NONE" in str(wrong.fault)
    monkeypatch.setenv("JIRA_URL", "https://default.example.com")
    environment = {one.source: one for one in await listing.list_environment()}
    assert {one.origin for one in environment.values()} == {"environment"}
    assert "SERVICETITAN" in str(environment["servicetitan"].fault)


async def test_a_warehouse_that_is_away_hides_no_connection_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "connections.toml").write_text('[north]\nsource = "launchpad"\n')
    monkeypatch.setenv("ETL_CONNECTIONS", str(tmp_path / "connections.toml"))
    known_planners()
    away = WarehouseSettings.model_validate({"host": "127.0.0.1", "port": 1})
    async with Platform(TemporalSettings.model_validate({}), away) as platform:
        found = await listing.list_connections(platform)
        assert [one.name for one in found.connections] == ["north"]
        assert "Connection refused" in str(found.unread)
        with (
            provided(await platform.stored_connections("acme")),
            pytest.raises(ConfigurationError, match="cannot be read: the warehouse did not answer"),
        ):
            find_connection("jira", "acme")


async def test_a_connection_is_replaced_by_whoever_saw_it_last(
    platform: Platform, warehouse: Warehouse
) -> None:
    first = (await create(platform)).connection
    url = {**SETTINGS, "JIRA_URL": "https://new.example.com"}
    second = await operations.replace_connection(
        platform, "acme", url, SECRETS, expected_version=1, author=ALICE
    )
    assert (second.connection.version, second.connection.settings) == (2, url)
    assert second.connection.connection_id == first.connection_id
    with pytest.raises(VersionConflictError, match="has version 2, not 1"):
        await operations.replace_connection(
            platform, first.connection_id, SETTINGS, SECRETS, expected_version=1
        )
    with pytest.raises(ConfigurationError, match="JIRA_PAGE_SIZE is wrong"):
        await operations.replace_connection(
            platform, "acme", {**SETTINGS, "JIRA_PAGE_SIZE": "x"}, SECRETS
        )
    assert (await operations.get_connection(platform, first.connection_id)).settings == url
    assert [entry.action for entry in audit(warehouse)] == [
        "connection.replace",
        "connection.create",
    ]
    for key in ("beta", "a\x00", "\ud800"):
        with pytest.raises(NotFoundError, match="no connection"):
            await operations.replace_connection(platform, key, {}, {})


async def test_a_connection_that_is_deleted_leaves_no_watermark_behind(
    platform: Platform, warehouse: Warehouse
) -> None:
    await create(platform)
    set_watermark(warehouse, "jira", "issues", "acme", NOON)
    set_watermark(warehouse, "jira", "issues", "default", NOON)
    with pytest.raises(VersionConflictError):
        await operations.delete_connection(platform, "acme", expected_version=2, force=True)
    gone = await operations.delete_connection(platform, "acme", force=True, author=ALICE)
    assert (gone.connection.name, gone.streams) == ("acme", ("issues",))
    assert [state.connection for state in read_states(warehouse)] == ["default"]
    with pytest.raises(NotFoundError):
        find_stored(warehouse, "acme")
    assert audit(warehouse)[0].details["watermarks"] == ["issues"]
    again = (await create(platform)).connection
    assert (again.version, again.connection_id != gone.connection.connection_id) == (1, True)


async def test_a_connection_whose_schedule_cannot_be_known_is_not_deleted(
    platform: Platform, warehouse: Warehouse
) -> None:
    await create(platform)
    with pytest.raises(ConflictError, match="whether jira@acme has a schedule cannot be known"):
        await operations.delete_connection(platform, "acme")
    assert find_stored(warehouse, "acme").version == 1


async def test_a_connection_that_is_being_loaded_is_not_deleted(
    platform: Platform, warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unscheduled(*_: object) -> None:
        pass

    monkeypatch.setattr(operations, "check_unscheduled", unscheduled)
    await create(platform)
    batch = make_metadata().model_copy(update={"source": "jira", "connection": "acme"})
    begin(warehouse, batch)
    with pytest.raises(ConflictError, match=r"etl-shop loads jira@acme: .*`etl cancel etl-shop`"):
        await operations.delete_connection(platform, "acme")
    finish(warehouse, batch)
    assert (await operations.delete_connection(platform, "acme")).streams == ()
