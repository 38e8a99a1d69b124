"""Data of nodes that do not go together: each is a fault with its place."""

from typing import Any

import pytest

from tests.unit.pipelines.test_validation import document, faults, node

#: Type of a node, its data, and the place and text of the fault.
_OF_DATA: list[tuple[str, dict[str, Any], str]] = [
    ("ai_agent", {"agent_type": "extract"}, ": output_schema is what extract needs"),
    ("ai_agent", {"agent_type": "judge"}, ": judge needs instructions"),
    (
        "database",
        {"connection": "x", "operation": "query", "query": "SELECT 1", "table": "t"},
        ": query needs query, and has no table, key or rows",
    ),
    (
        "database",
        {"connection": "x", "operation": "insert", "table": "t"},
        ": insert needs table and rows, and has no query",
    ),
    *(
        (
            "api_call",
            {"url": "https://x.test/", "headers": {name: "y.test"}},
            f".headers: {name} is set by the client itself",
        )
        for name in ("Host", "Upgrade", "Proxy-Authorization")
    ),
    (
        "api_call",
        {"url": "https://x.test/", "paging": {"items": "data"}},
        ".paging: needs one of next_url and next_query",
    ),
    (
        "transform",
        {"transform_type": "mapping", "mapping": {"a": "1"}, "where": "True"},
        ": where needs over",
    ),
    *(
        (
            "load",
            {
                "table": "t",
                "key": ["id"],
                "columns": {"id": "text", name: "text"},
                "rows": "inputs",
            },
            f": no column can be called {name}: choose other names",
        )
        for name in ("key", "table", "comment", "indexes", "ctid")
    ),
    *(
        ("condition", {"condition": text}, f".condition column {column}: {fault}")
        for text, column, fault in (
            ("-" * 3_900 + "1", 1, "nested more than 80 levels deep"),
            ("_x > 1", 1, "_x: names do not begin with _"),
            ("[a async for a in inputs]", 1, "async for cannot be used"),
            ("[1 for inputs.a in [1]]", 8, "a comprehension assigns to names"),
        )
    ),
]


@pytest.mark.parametrize(("kind", "data", "fault"), _OF_DATA)
def test_data_that_do_not_go_together_are_a_fault(
    kind: str, data: dict[str, Any], fault: str
) -> None:
    (told,) = faults(document(node("a", kind, **data)))
    assert told.startswith(f"nodes[0].data{fault}")
