import json
from typing import Any

import pytest

from temporaletl.warehouse.cursors import escaped, unescaped


@pytest.mark.parametrize(
    "cursor",
    [
        None,
        "a\0b",
        "\ud800",
        "\ud83d\ude00",  # two halves, which are no character as long as they are two
        "\ufdd0",
        "\ufdd00000",
        "\ufdd0fdd0\0",
        {"at": 5, "id\0": ["\0", {"deep": "\udfff"}, 1.5, True, None]},
        ["plain", "😀", "\\u0000"],
    ],
)
def test_a_cursor_of_any_text_comes_back_as_it_was(cursor: Any) -> None:
    kept = escaped(cursor)
    assert unescaped(kept) == cursor
    text = json.dumps(kept, ensure_ascii=False)
    text.encode()
    assert "\\u0000" not in text or "\\\\u0000" in text


@pytest.mark.parametrize("cursor", [7, "2024-05-01", {"token": "aGk=", "page": 3}, ["\\", "é", {}]])
def test_a_cursor_that_any_ledger_holds_is_kept_as_it_is(cursor: Any) -> None:
    """And so is read as it was kept before."""
    assert escaped(cursor) == cursor
    assert unescaped(cursor) == cursor
