"""Connection checks of the standard suite: two connections of a source in one warehouse."""

# ruff: noqa: S101 - pytest's assertions

from datetime import timedelta
from typing import Any

import pytest

from temporaletl.bound_connection import DEFAULT
from temporaletl.errors import RetryableError
from temporaletl.testing.contents import read_content, read_locations, read_rejects
from temporaletl.testing.harness import Harness, require
from temporaletl.testing.tables import assert_same
from temporaletl.warehouse.budget import block_source
from temporaletl.warehouse.state import read_states

#: The name of a connection beside `default`.
_OTHER = "other"


class ConnectionChecks:
    """The connection checks of a `SourceSuite`."""

    def test_two_connections_hold_what_each_would_alone(self, harness: Harness) -> None:
        alone = harness.warehouse()
        first = harness.load(alone).rows
        expected = read_content(alone, harness.source)
        warehouse = harness.warehouse()
        harness.load(warehouse)
        locations = read_locations(warehouse, harness.source)
        harness.add_connection(_OTHER)
        other = harness.request(connection=_OTHER)
        assert first.inserted > 0
        assert harness.load(warehouse, other).rows == first, "it met rows of another connection"
        for connection in (DEFAULT, _OTHER):
            assert_same(read_content(warehouse, harness.source, connection), expected)
            states = {
                state.stream
                for state in read_states(warehouse, harness.source)
                if state.connection == connection and state.watermark is not None
            }
            assert states == set(harness.streams)
        assert read_locations(warehouse, harness.source) == locations
        # A rate-limited connection does not hold up another.
        block_source(warehouse, harness.source, _OTHER, timedelta(hours=1))
        later = harness.fixture.now + timedelta(hours=1)
        assert harness.load(warehouse, scheduled=later).rows.inserted == 0
        with pytest.raises(RetryableError):
            harness.load(warehouse, other, scheduled=later)
        assert read_locations(warehouse, harness.source) == locations

    def test_what_is_deleted_from_one_connection_stays_in_the_other(self, harness: Harness) -> None:
        if not harness.fixture.scans:
            return
        warehouse = harness.warehouse()
        harness.add_connection(_OTHER, **harness.fixture.scans)
        for connection in (DEFAULT, _OTHER):
            harness.load(warehouse, harness.request(connection=connection))
        before = read_content(warehouse, harness.source)
        require(lambda: harness.fixture.delete(harness.fixture.now + timedelta(minutes=30)))
        later = harness.fixture.now + timedelta(hours=1)
        harness.load(warehouse, harness.request(connection=_OTHER), scheduled=later)
        after = read_content(warehouse, harness.source, _OTHER)
        assert after != before, "the deletion did not arrive"
        assert_same(read_content(warehouse, harness.source), before)

    def test_rejects_of_one_connection_are_none_of_the_other(self, harness: Harness) -> None:
        require(harness.fixture.corrupt)
        warehouse = harness.warehouse()
        harness.add_connection(_OTHER)
        harness.load(warehouse)
        first = read_rejects(warehouse)
        assert {reject["connection"] for reject in first} == {DEFAULT}
        harness.load(warehouse, harness.request(connection=_OTHER))
        both = read_rejects(warehouse)
        assert {reject["connection"] for reject in both} == {DEFAULT, _OTHER}
        assert _of_default(both) == first
        harness.load(warehouse, harness.request("replay", connection=_OTHER))
        assert _of_default(read_rejects(warehouse)) == first


def _of_default(rejects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [reject for reject in rejects if reject["connection"] == DEFAULT]
