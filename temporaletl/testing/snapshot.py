"""Loaded warehouses to compare with: as they were before a run that fails, or without faults."""

# ruff: noqa: S101 - pytest's assertions

import re
from collections.abc import Callable
from datetime import datetime, timedelta
from weakref import WeakKeyDictionary

from temporaletl.errors import ETLError
from temporaletl.messages import QueuerInput
from temporaletl.testing.contents import Content, read_content
from temporaletl.testing.harness import Harness, assert_no_secrets
from temporaletl.testing.source_fixture import SourceFixture
from temporaletl.testing.tables import Tables, assert_same, keys_only
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


#: The content of the last fault-free load of each kind of source fixture.
_sound: WeakKeyDictionary[type[SourceFixture], Tables] = WeakKeyDictionary()


def compare_with_sound(harness: Harness, compare: Callable[[Tables], None]) -> None:
    """Compare with the content of a fault-free load; the source is to be without faults by now.

    Fixtures of a kind serve the same, except for an address in it perhaps. So it is compared with
    the last fault-free load of any, and only where that fails with another one of this server.
    """
    kind = type(harness.fixture)
    if (known := _sound.get(kind)) is not None:
        try:
            compare(known)
        except AssertionError:
            pass
        else:
            return
    sound = harness.warehouse()
    harness.load(sound)
    expected = _sound[kind] = read_content(sound, harness.source)
    compare(expected)


def assert_as_without_faults(
    harness: Harness, warehouse: Warehouse, *, unsettled: bool = False
) -> None:
    """Fail unless a warehouse holds what a fault-free load brings; its keys, if `unsettled`."""
    found = read_content(warehouse, harness.source)

    def compare(expected: Tables) -> None:
        if unsettled:
            assert_same(keys_only(found), keys_only(expected))
        else:
            assert_same(found, expected)

    compare_with_sound(harness, compare)
