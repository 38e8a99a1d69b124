"""The OpenAPI document: FastAPI's, with the problems that are answered and an example for all."""

from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from fastapi import FastAPI

from temporaletl.control.api.examples import example_of
from temporaletl.control.api.problems import MEDIA_TYPE, RESPONSES, Problem

_METHODS = ("get", "post", "put", "patch", "delete")
_JSON = "application/json"
#: Problems of requests that have a body, or that change something.
_OF_BODIES = ("400", "408", "413", "415")
_OF_CHANGES = ("409", "412")
_OF_ALL = ("429", "500")


def describe(app: FastAPI, modules: Mapping[str, ModuleType]) -> dict[str, Any]:
    """The document of an application; `modules` are those of its tags, and say what these are."""
    document = FastAPI.openapi(app)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas.update(problem.pop("$defs", {}))
    schemas["Problem"] = problem
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    document["tags"] = [
        {"name": tag, "description": _summary_of(module)} for tag, module in modules.items()
    ]
    _loosen_durations(document)
    for method, operation in operations(document):
        _prune(method, operation)
        _exemplify(operation, schemas)
    return document


def operations(document: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every operation of a document, with its method."""
    for path in document["paths"].values():
        for method in _METHODS:
            if method in path:
                yield method, path[method]


def _loosen_durations(part: Any) -> None:
    """Call durations texts: ISO 8601 has fractions of seconds, JSON Schema's format has none."""
    if isinstance(part, dict):
        if part.get("format") == "duration":
            del part["format"]
            part.update(pattern="^-?P", examples=["PT1H"])
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            _loosen_durations(inner)


def _summary_of(module: ModuleType) -> str:
    """What a module's first line says behind the path that it is of."""
    line = (module.__doc__ or "").partition("\n")[0]
    return line.partition(": ")[2] or line


def _prune(method: str, operation: dict[str, Any]) -> None:
    """Leave an operation the problems that it may answer with."""
    responses = operation["responses"]
    never = set() if "requestBody" in operation else {*_OF_BODIES}
    if method != "get" and "requestBody" not in operation:
        never -= {"408", "413"}
    if method == "get":
        never |= {*_OF_CHANGES}
    for status in never:
        responses.pop(status, None)
    for status in _OF_ALL:
        responses.setdefault(status, RESPONSES[int(status)])
    # 200 before 422.
    operation["responses"] = dict(sorted(responses.items()))


def _exemplify(operation: dict[str, Any], schemas: Mapping[str, Any]) -> None:
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        if "example" not in parameter and not parameter.get("examples"):
            parameter["example"] = example_of(schema, schemas, parameter["name"])
    contents = [operation.get("requestBody", {}).get("content", {})]
    contents += [response.get("content", {}) for response in operation["responses"].values()]
    for content in contents:
        for kind in (_JSON, MEDIA_TYPE):
            media = content.get(kind)
            if media is not None and "example" not in media and not media.get("examples"):
                media["example"] = example_of(media["schema"], schemas)
