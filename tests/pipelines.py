"""Definitions of pipelines, written briefly."""

from collections.abc import Mapping
from typing import Any


def definition(nodes: Mapping[str, tuple[str, dict[str, Any]]], *edges: str) -> dict[str, Any]:
    """A definition: nodes by id, with type and data; edges as `a -> b` or `a -true-> b`."""
    parts = []
    for edge in edges:
        source, arrow, target = edge.split()
        handle = arrow.strip("->") or None
        parts.append({"source": source, "target": target, "sourceHandle": handle})
    return {
        "nodes": [{"id": id_, "type": kind, "data": data} for id_, (kind, data) in nodes.items()],
        "edges": parts,
    }


def mapping(**fields: str) -> tuple[str, dict[str, Any]]:
    """A node that makes an object of expressions."""
    return "transform", {"transform_type": "mapping", "mapping": fields}
