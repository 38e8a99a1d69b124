"""Examples made from JSON schemas: those that a schema has, and what its names stand for."""

from collections.abc import Mapping
from typing import Any

_WORKFLOW = "etl-jira-full-20261127T180000.000000Z"
_BATCH = "jira-full-20261127T180000Z-0f8d2c1b"
_JOB = "jira-issues-full-5e6a7f900f8d2c1b"
#: Values of texts by the names of their fields; of a name that ends with one of these, too.
_TEXTS = {
    "workflow_id": _WORKFLOW,
    "workflowId": _WORKFLOW,
    "batch_id": _BATCH,
    "job_id": _JOB,
    "run_id": "0199f3a2-7b1c-7d43-9a51-3f0c2b7d9e10",
    "runId": "0199f3a2-7b1c-7d43-9a51-3f0c2b7d9e10",
    "source": "jira",
    "connection": "default",
    "mode": "incremental",
    "stream": "issues",
    "streams": "issues",
    "state": "completed",
    "timezone": "UTC",
    "days": "Mon-Fri",
    "hours": "3",
    "overlap": "skip",
    "schedule_id": "etl-schedule-jira",
    "actor": "token:ci",
    "created_by": "cli:alice@host",
    "action": "sync.full",
    "target": "jira",
    "token_id": "0123456789ab",
    "name": "issues",
    "activity": "run_segment",
    "workflow_type": "ETLFlow",
    "task_queue": "etl-worker-queue",
    "ui_url": "https://temporal.example.com/namespaces/default/workflows/etl-jira",
    "reason": "Jira moves on Saturday",
    "employee_id": "E000042",
    "email": "ada@example.com",
    "person": "5b10a2844c20165700ede21g",
    "key": "PROJ-12",
    "tables": "events",
    "version": "1",
    "verdict": "ok",
    "detail": "answers",
}
_FORMATS = {
    "date-time": "2026-11-27T18:00:00Z",
    "date": "2026-11-27",
    "duration": "PT1H",
    "uuid": "0199f3a2-7b1c-7d43-9a51-3f0c2b7d9e10",
}
_DEEPEST = 8


def example_of(
    schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str = "", depth: int = 0
) -> Any:
    """An example that a schema takes; `schemas` are those that it refers to by their names.

    `name` is that of the field, for texts of which the schema says nothing.
    """
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas, name, depth)
    for given in ("examples", "enum"):
        if schema.get(given):
            return _whole(schema[given][0], schema)
    for given in ("example", "const"):
        if given in schema:
            return schema[given]
    if schema.get("default") is not None:
        return schema["default"]
    kinds = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    if kinds:
        known = [one for one in kinds if one.get("type") != "null"]
        return example_of(known[0], schemas, name, depth) if known else None
    return _of_type(schema, schemas, name, depth + 1)


def _whole(example: Any, schema: Mapping[str, Any]) -> Any:
    """An example with its nulls: FastAPI takes them out of the documents that it makes."""
    if not isinstance(example, dict):
        return example
    missing = [name for name in schema.get("required", ()) if name not in example]
    return example | dict.fromkeys(missing)


def _of_type(schema: Mapping[str, Any], schemas: Mapping[str, Any], name: str, depth: int) -> Any:
    match schema.get("type"):
        case "object":
            return {
                field: example_of(inner, schemas, field, depth)
                for field, inner in schema.get("properties", {}).items()
                if depth < _DEEPEST or field in schema.get("required", ())
            }
        case "array":
            if "prefixItems" in schema:
                return [example_of(one, schemas, name, depth) for one in schema["prefixItems"]]
            inner = schema.get("items")
            return [example_of(inner, schemas, name, depth)] if inner and depth < _DEEPEST else []
        case "string":
            return _FORMATS.get(schema.get("format", "")) or _text(name)
        case "integer" | "number" as kind:
            return {"integer": int, "number": float}[kind](schema.get("minimum", 1))
        case kind:
            return False if kind == "boolean" else None


def _text(name: str) -> str:
    if name in _TEXTS:
        return _TEXTS[name]
    return next((text for end, text in _TEXTS.items() if name.endswith(f"_{end}")), "text")
