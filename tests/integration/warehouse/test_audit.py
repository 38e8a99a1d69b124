"""Audit: an effect and its row are there together, or neither is; and pages of it."""

from datetime import timedelta

import pytest

from temporaletl.control.operations.audit import list_audit, record_outcome
from temporaletl.control.operations.platform import OldLedgerError, Platform
from temporaletl.control.operations.state import move_watermark, unblock
from temporaletl.control.operations.tokens import create_token, list_tokens, revoke_token
from temporaletl.errors import ConfigurationError, ConflictError
from temporaletl.secrets import remember_secret
from temporaletl.settings.platform import TemporalSettings, WarehouseSettings
from temporaletl.warehouse.audit import AuditEntry, Author, read_audit, record
from temporaletl.warehouse.budget import block_source
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.state import read_states
from tests.integration.warehouse.batches import NOON, rows

ALICE = Author(name="token:alice", reason="a test", request_id="req-1")


@pytest.fixture
def platform(postgres_url: str, warehouse: Warehouse) -> Platform:
    settings = WarehouseSettings.model_validate(
        {"database_url": postgres_url, "schema_name": warehouse.schema}
    )
    return Platform(TemporalSettings.model_validate({}), settings)


def entries(warehouse: Warehouse) -> list[AuditEntry]:
    return read_audit(warehouse, limit=100).entries


def break_audit(warehouse: Warehouse) -> None:
    """Let no row be written any more."""
    with warehouse.connection() as connection:
        connection.execute("ALTER TABLE etl_audit ADD CHECK (audit_id < 0) NOT VALID")


async def test_a_token_and_its_audit_row_are_created_together(
    platform: Platform, warehouse: Warehouse
) -> None:
    async with platform:
        made = await create_token(platform, "ci", "operate", author=ALICE)
        await revoke_token(platform, "ci", author=ALICE)
    revoked, created = entries(warehouse)
    assert (created.action, created.target, created.outcome) == ("token.create", "ci", "done")
    assert (created.actor, created.reason, created.request_id) == ("token:alice", "a test", "req-1")
    assert created.details == {
        "token_id": made.token.token_id,
        "scope": "operate",
        "expires_at": None,
    }
    assert (revoked.action, revoked.details) == (
        "token.revoke",
        {"token_id": made.token.token_id},
    )
    assert made.token.created_by == "token:alice"
    assert made.text.get_secret_value()[-43:] not in str(
        [one.model_dump() for one in entries(warehouse)]
    )


async def test_without_its_audit_row_no_effect_is_kept(
    platform: Platform, warehouse: Warehouse
) -> None:
    break_audit(warehouse)
    async with platform:
        for effect in (
            create_token(platform, "ci", "read"),
            move_watermark(platform, "jira", ["issues"], NOON),
        ):
            with pytest.raises(Exception, match="etl_audit"):
                await effect
        assert await list_tokens(platform) == []
    assert read_states(warehouse) == []


async def test_what_was_refused_leaves_no_row_of_a_deed(
    platform: Platform, warehouse: Warehouse
) -> None:
    async with platform:
        await create_token(platform, "ci", "read")
        with pytest.raises(ConflictError):
            await create_token(platform, "ci", "read", author=ALICE)
        await record_outcome(platform, ALICE, "token.create", "ci", "refused")
    refused, done = entries(warehouse)
    assert (refused.outcome, refused.actor) == ("refused", "token:alice")
    assert done.actor.startswith("cli:")


async def test_watermarks_set_by_hand_are_in_the_audit(
    platform: Platform, warehouse: Warehouse
) -> None:
    block_source(warehouse, "jira", "default", timedelta(hours=1))
    async with platform:
        await move_watermark(platform, "jira", ["issues"], NOON, author=ALICE)
        moved = await move_watermark(platform, "jira", ["issues"], None, author=ALICE)
        assert moved.unblocked
        assert await unblock(platform, "jira", author=ALICE) is None
        block_source(warehouse, "jira", "default", timedelta(hours=1))
        assert await unblock(platform, "jira", author=ALICE) is not None
    lifted, reset, put = entries(warehouse)
    assert (put.action, put.target) == ("state.set", "jira")
    assert put.details == {
        "streams": ["issues"],
        "watermark": NOON.isoformat(),
        "unblocked": False,
    }
    assert (reset.action, reset.details["unblocked"]) == ("state.reset", True)
    assert (lifted.action, lifted.details) == ("state.unblock", {})


async def test_pages_go_from_the_latest_to_the_first_whatever_is_written_meanwhile(
    platform: Platform, warehouse: Warehouse
) -> None:
    for number in range(5):
        with warehouse.connection() as connection:
            record(connection, ALICE, "test.count", str(number))
            # Of one time: their ids order them.
            connection.execute("UPDATE etl_audit SET at = '2024-05-01 12:00:00Z'")
    seen, position = [], None
    async with platform:
        while True:
            page = await list_audit(platform, limit=2, before=position)
            seen += [entry.target for entry in page.entries]
            await record_outcome(platform, ALICE, "test.read", "meanwhile", "done")
            if page.next is None:
                break
            position = page.next
        assert seen == ["4", "3", "2", "1", "0"]
        with pytest.raises(ConfigurationError, match="limit 0"):
            await list_audit(platform, limit=0)


def test_no_secret_and_nothing_that_cannot_be_stored_comes_into_the_audit(
    warehouse: Warehouse,
) -> None:
    remember_secret("canary-of-a-test")
    author = Author(name="a\x00b", reason="for canary-of-a-test", request_id="\ud800")
    with warehouse.connection() as connection:
        record(
            connection,
            author,
            "test.leak",
            "canary-of-a-test",
            details={"of canary-of-a-test": ["\x00", {"inner": "canary-of-a-test"}]},
        )
    [(row,)] = rows(warehouse, "SELECT to_jsonb(a)::text FROM etl_audit AS a")
    assert "canary" not in str(row)
    [entry] = entries(warehouse)
    assert (entry.actor, entry.request_id) == ("a�b", "�")


async def test_tables_of_an_earlier_version_are_named(
    platform: Platform, warehouse: Warehouse
) -> None:
    with warehouse.connection() as connection:
        connection.execute("DELETE FROM etl_migrations WHERE name LIKE '0013%'")
    async with platform:
        with pytest.raises(OldLedgerError, match=r"0013_control\.sql is missing"):
            await list_tokens(platform)
