"""Collections: sets of connections, and what becomes of them when one of these goes."""

import pytest

from temporaletl.control.operations import collections as operations
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.stored_connections import delete_connection
from temporaletl.errors import ConfigurationError, ConflictError, NotFoundError, UnknownSourceError
from temporaletl.warehouse.audit import read_audit
from temporaletl.warehouse.collections import Member
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.source_connections import VersionConflictError
from tests.integration.warehouse.test_source_connections import ALICE, create, platform

__all__ = ["platform"]

JIRA = Member(source="jira")
ACME = Member(source="jira", connection="acme")


async def test_a_collection_holds_connections_of_any_origin_once(platform: Platform) -> None:
    await create(platform)
    made = await operations.create_collection(
        platform, "tracking", [JIRA, ACME, JIRA], author=ALICE
    )
    assert (made.members, made.version) == ((ACME, JIRA), 1)
    assert await operations.list_collections(platform) == [made]
    assert await operations.get_collection(platform, made.collection_id) == made
    assert await operations.get_collection(platform, "tracking") == made


async def test_a_member_must_be_a_connection(platform: Platform) -> None:
    for member, kind in (
        (Member(source="juri"), UnknownSourceError),
        (ACME, ConfigurationError),
        (Member(source="jira", connection="a\x00"), ConfigurationError),
    ):
        with pytest.raises(kind):
            await operations.create_collection(platform, "tracking", [member])
    for name in ("", " a", "a\x00"):
        with pytest.raises(ConfigurationError, match="name of a collection"):
            await operations.create_collection(platform, name, [])
    assert await operations.list_collections(platform) == []


async def test_a_collection_is_replaced_by_whoever_saw_it_last(
    platform: Platform, warehouse: Warehouse
) -> None:
    made = await operations.create_collection(platform, "tracking", [JIRA], author=ALICE)
    other = await operations.create_collection(platform, "other", [])
    key = made.collection_id
    empty = await operations.replace_collection(
        platform, key, "renamed", [], expected_version=1, author=ALICE
    )
    assert (empty.name, empty.members, empty.version) == ("renamed", (), 2)
    with pytest.raises(VersionConflictError, match="version 2, not 1"):
        await operations.replace_collection(platform, key, "renamed", [JIRA], expected_version=1)
    for clash in (
        operations.create_collection(platform, "other", []),
        operations.replace_collection(platform, key, "other", [JIRA]),
    ):
        with pytest.raises(ConflictError, match="'other' already"):
            await clash
    assert await operations.get_collection(platform, key) == empty
    with pytest.raises(VersionConflictError):
        await operations.delete_collection(platform, key, expected_version=1)
    assert await operations.delete_collection(platform, key, author=ALICE) == empty
    with pytest.raises(NotFoundError):
        await operations.delete_collection(platform, key)
    assert await operations.list_collections(platform) == [other]
    actions = [entry.action for entry in read_audit(warehouse, limit=10).entries]
    assert actions == [f"collection.{verb}" for verb in ("delete", "replace", "create", "create")]


async def test_a_connection_that_is_deleted_leaves_its_collections(platform: Platform) -> None:
    await create(platform)
    await operations.create_collection(platform, "tracking", [JIRA, ACME])
    untouched = await operations.create_collection(platform, "other", [JIRA])
    await delete_connection(platform, "acme", force=True)
    found = {one.name: one for one in await operations.list_collections(platform)}
    assert (found["tracking"].members, found["tracking"].version) == ((JIRA,), 2)
    assert found["other"] == untouched
