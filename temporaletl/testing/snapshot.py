"""Snapshots of a loaded warehouse, to compare with it after a run that fails."""

# ruff: noqa: S101 - pytest's assertions

import re
from datetime import datetime, timedelta

from temporaletl.errors import ETLError
from temporaletl.messages import QueuerInput
from temporaletl.testing.contents import Content, read_content
from temporaletl.testing.harness import Harness, assert_no_secrets
from temporaletl.testing.tables import assert_same
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.state import SyncState, read_states

#: A crash, which gives the reader of an error or a reject no reason.
CRASH = re.compile(r"(Type|Attribute|Key|Index|Assertion|NotImplemented|Recursion)Error\b")


class Snapshot:
    """Rows and watermarks of a source: what a failed run leaves unchanged."""

    def __init__(self, rows: dict[str, dict[str, Content]], states: list[SyncState]) -> None:
        self.rows = rows
        self.watermarks = {(state.stream, state.connection): state.watermark for state in states}


def take_snapshot(harness: Harness, warehouse: Warehouse) -> Snapshot:
    """Read a source's rows and watermarks."""
    return Snapshot(read_content(warehouse, harness.source), read_states(warehouse, harness.source))


def loaded_warehouse(harness: Harness) -> tuple[Warehouse, list[tuple[QueuerInput, datetime]]]:
    """Return a loaded warehouse, and the runs to follow, with their deletion scans and times."""
    for name, value in harness.fixture.scans.items():
        harness.patch.setenv(name, value)
    warehouse = harness.warehouse()
    harness.load(warehouse, harness.request("full"))
    later = harness.fixture.now + timedelta(hours=1)
    return warehouse, [(harness.request("incremental"), later), (harness.request("full"), later)]


def assert_reported(harness: Harness, error: ETLError) -> None:
    """Fail unless the error gives a reason in words, and no secret."""
    text = str(error)
    assert text.strip(), f"{type(error).__name__} says nothing"
    assert not CRASH.search(text), f"no reason in words: {text}"
    assert_no_secrets(harness.fixture, text)


def assert_unchanged(harness: Harness, warehouse: Warehouse, before: Snapshot) -> None:
    """Fail where rows or watermarks differ from a snapshot."""
    after = take_snapshot(harness, warehouse)
    assert_same(after.rows, before.rows)
    assert after.watermarks == before.watermarks, "the watermark moved"


def assert_recovered(harness: Harness, warehouse: Warehouse, before: Snapshot) -> None:
    """Run the recovered source again; fail where rows differ from a snapshot."""
    later = harness.fixture.now + timedelta(hours=2)
    harness.load(warehouse, harness.request("incremental"), scheduled=later)
    harness.load(warehouse, harness.request("full"), scheduled=later)
    assert_same(read_content(warehouse, harness.source), before.rows)
