"""When the planning of a batch begins: beside the account's view, once its login is accepted."""

import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from temporaletl import accounts
from temporaletl.accounts import note_accepted
from temporaletl.errors import CredentialsError
from temporaletl.messages import BatchMetadata
from temporaletl.queuer import beside
from temporaletl.registry import Registry

NOW = datetime(2024, 5, 1, tzinfo=UTC)
BATCH = BatchMetadata(
    batch_id="b",
    source="shop",
    connection="default",
    mode="full",
    windows={},
    worker_queue="q",
    started=NOW,
)
_SECONDS = 60
WAREHOUSE: Any = None


@pytest.fixture(autouse=True)
def _shop(monkeypatch: pytest.MonkeyPatch) -> None:
    views: Registry[accounts.ViewMethod] = Registry("account view")
    views.register("shop", lambda: None, place="here")
    monkeypatch.setattr(beside, "account_views", views)


async def test_planning_begins_once_the_login_is_accepted_and_not_when_the_view_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    planning = threading.Event()

    def read(*_: object) -> None:
        note_accepted("shop")
        assert planning.wait(_SECONDS)

    monkeypatch.setattr(beside, "hold_narrowed", read)
    async with beside.beside_planning(WAREHOUSE, BATCH) as begun:
        planning.set()
        await begun.done(has_jobs=False)


async def test_a_login_that_is_refused_ends_planning_before_it_begins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def read(*_: object) -> None:
        raise CredentialsError("no such client")

    monkeypatch.setattr(beside, "hold_narrowed", read)
    with pytest.raises(CredentialsError, match="no such client"):
        async with beside.beside_planning(WAREHOUSE, BATCH):
            pytest.fail("the planning has begun")
