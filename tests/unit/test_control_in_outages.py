"""Control of runs while the warehouse does not answer."""

from typing import Any

import pytest

from temporaletl.control.operations import control, local_control
from temporaletl.control.operations.control import control_run
from temporaletl.errors import WarehouseUnavailableError


class PlatformWithoutAnswer:
    """A platform whose warehouse was there, and does not answer any more."""

    has_warehouse = True
    engine = None

    async def current_warehouse(self) -> object:
        return object()

    async def client(self) -> object:
        return object()


def _away(*_: Any) -> None:
    raise WarehouseUnavailableError("the warehouse did not answer")


async def test_what_only_the_ledger_could_know_is_not_said_to_be_nowhere(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def unknown(*_: Any) -> None:
        return None

    monkeypatch.setattr(local_control, "want", _away)
    monkeypatch.setattr(control, "find_batch", _away)
    monkeypatch.setattr(control, "find_workflow", unknown)
    platform: Any = PlatformWithoutAnswer()
    with pytest.raises(WarehouseUnavailableError):
        await control_run(platform, "etl-jira-full-1", "pause")
