"""Cursors keep the names of their fields: those of open jobs are stored."""

from typing import Any

import msgspec
import pytest

from temporaletl.external.rest.keyset import _HighWaterMark
from temporaletl.external.rest.numbering import _Numbered
from temporaletl.worker.sources.jira.extract.keyset import Position as JiraPosition
from temporaletl.worker.sources.launchpad.extract.keyset import Position as LaunchpadPosition
from temporaletl.worker.sources.servicetitan.extract.list_position import ListPosition


@pytest.mark.parametrize(
    ("kind", "stored"),
    [
        (JiraPosition, {"at": 5, "token": "t", "start": 3, "round": 2, "ids": {"7": 4}}),
        (
            LaunchpadPosition,
            {"subject": "~a", "start": 3, "last": "x", "moved": True, "round": 2, "known": 1},
        ),
        (ListPosition, {"paging": "list", "way": "walk", "page": 2, "round": 2, "expected": 9}),
        (_HighWaterMark, {"time": None, "page": 1, "round": 2, "done": False}),
        (
            _Numbered,
            {"pages": 3, "size": 9, "rows": 2, "total": 5, "moved": True, "round": 2}
            | {"done": False, "last": 8},
        ),
    ],
)
def test_a_stored_cursor_is_read_and_written_as_it_was(kind: Any, stored: dict[str, Any]) -> None:
    cursor = msgspec.convert(stored, kind)
    assert cursor.pass_number == 2
    assert msgspec.to_builtins(cursor) == stored
