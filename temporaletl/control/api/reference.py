"""The OpenAPI document as a reader wants it: operations by tag, each with rows and examples."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_JSON = "application/json"


class Row(NamedTuple):
    """A parameter, or a field of a body."""

    name: str
    place: str  # path, query, header or body
    kind: str
    required: bool
    description: str


class Answer(NamedTuple):
    """One status that an operation may answer with."""

    status: str
    description: str
    example: str | None


class Operation(NamedTuple):
    """An operation with what it takes, and what it answers."""

    id: str
    method: str
    path: str
    summary: str
    description: str
    rows: list[Row]
    request: str | None
    command: str
    answers: list[Answer]
    problems: list[str]


class Section(NamedTuple):
    """The operations of a tag."""

    name: str
    description: str
    operations: list[Operation]


def sections_of(document: Mapping[str, Any]) -> list[Section]:
    """The operations of a document by their tags."""
    described = {tag["name"]: tag["description"] for tag in document["tags"]}
    found: dict[str, list[Operation]] = {name: [] for name in described}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for tag in operation["tags"]:
                found[tag].append(_operation(document, method.upper(), path, operation))
    return [Section(name, described[name], one) for name, one in found.items()]


def _operation(
    document: Mapping[str, Any], method: str, path: str, operation: Mapping[str, Any]
) -> Operation:
    body = operation.get("requestBody", {}).get("content", {}).get(_JSON)
    request = None if body is None else _shown(body.get("example"))
    responses: Mapping[str, Any] = operation["responses"]
    return Operation(
        id=operation["operationId"],
        method=method,
        path=path,
        summary=operation["summary"],
        description=operation["description"],
        rows=[*_parameters(document, operation), *_fields(document, body)],
        request=request,
        command=_command(method, path, operation, body),
        answers=[
            _answer(status, response)
            for status, response in responses.items()
            if status < "400" or "application/problem+json" not in response.get("content", {})
        ],
        problems=[status for status in responses if status >= "400"],
    )


def _parameters(document: Mapping[str, Any], operation: Mapping[str, Any]) -> Iterator[Row]:
    for one in operation.get("parameters", []):
        yield Row(
            one["name"],
            one["in"],
            _kind(document, one["schema"]),
            one.get("required", False),
            one.get("description", ""),
        )


def _fields(document: Mapping[str, Any], body: Mapping[str, Any] | None) -> Iterator[Row]:
    schema = {} if body is None else _resolved(document, body["schema"])
    for name, field in schema.get("properties", {}).items():
        yield Row(
            name,
            "body",
            _kind(document, field),
            name in schema.get("required", ()),
            field.get("description", ""),
        )


def _resolved(document: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" in schema:
        found = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        return _resolved(document, found)
    for one in schema.get("anyOf", ()):
        if one.get("type") != "null":
            return _resolved(document, one)
    return schema


def _kind(document: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    """A field's type in words, with its default."""
    resolved = _resolved(document, schema)
    if "enum" in resolved:
        kind = ", ".join(map(str, resolved["enum"]))
    elif resolved.get("type") == "array":
        kind = f"list of {_kind(document, resolved.get('items', {}))}"
    else:
        kind = resolved.get("format") or resolved.get("type") or "any"
    default = schema.get("default")
    return kind if default in (None, [], {}) else f"{kind}; {json.dumps(default)} unless given"


def _command(
    method: str, path: str, operation: Mapping[str, Any], body: Mapping[str, Any] | None
) -> str:
    words = ["curl"]
    if method != "GET":
        words += ["-X", method]
    if operation.get("security"):
        words += ['-H "Authorization: Bearer $TOKEN"']
    if body is not None:
        words += ["-H 'Content-Type: application/json'", f"-d '{json.dumps(body['example'])}'"]
    query = [
        f"{one['name']}={one.get('example', (one.get('examples') or [''])[0])}"
        for one in operation.get("parameters", [])
        if one["in"] == "query" and one.get("required")
    ]
    for one in operation.get("parameters", []):
        if one["in"] == "path":
            found = one.get("example") or _first(one["schema"])
            path = path.replace(f"{{{one['name']}}}", str(found))
    return " ".join([*words, f"'$ETL{path}{'?' + '&'.join(query) if query else ''}'"]).replace(
        "'$ETL", '"$ETL"\''
    )


def _first(schema: Mapping[str, Any]) -> Any:
    return (schema.get("examples") or ["…"])[0]


def _answer(status: str, response: Mapping[str, Any]) -> Answer:
    content: Mapping[str, Any] = response.get("content", {})
    example = next((one.get("example") for one in content.values()), None)
    return Answer(status, response["description"], _shown(example))


def _shown(example: Any) -> str | None:
    if example is None or isinstance(example, str):
        return example
    return json.dumps(example, indent=2, ensure_ascii=False)
