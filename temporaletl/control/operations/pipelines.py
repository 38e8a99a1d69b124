"""Pipelines: their definitions read, checked and drawn."""

import asyncio
import html
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.sources import registered
from temporaletl.terminal import printable
from temporaletl.warehouse.connection import Warehouse
from temporaletl.worker.pipelines.declared import find_surroundings
from temporaletl.worker.pipelines.definition import ERROR_HANDLE, Definition
from temporaletl.worker.pipelines.documents import Document, read_json, read_yaml
from temporaletl.worker.pipelines.faults import DefinitionError, DefinitionFault
from temporaletl.worker.pipelines.nodes.types import NODE_TYPES
from temporaletl.worker.pipelines.surroundings import Surroundings
from temporaletl.worker.pipelines.validation import Pipeline, validate


@dataclass(frozen=True)
class Validation:
    """What was found out about a definition: its pipeline if it can run, and all faults.

    `faults` include warnings; `line_of` gives the line of the document for a fault's path.
    """

    document: Document
    pipeline: Pipeline | None
    faults: tuple[DefinitionFault, ...]

    def line_of(self, fault: DefinitionFault) -> int | None:
        """The line of the document where a fault is, where that is known."""
        if fault.path == "document":
            return fault.line
        start = self.document.line_of(fault.path)
        return start if start is None or fault.line is None else start + fault.line - 1


def validate_pipeline(text: str, *, as_json: bool = False, here: bool = True) -> Validation:
    """Validate a definition, written in YAML or in JSON; safe to repeat, changes nothing.

    Where it will not run `here`, what it names is not checked: see `validate_document`.
    """
    document = Document(None)
    try:
        document = read_json(text) if as_json else read_yaml(text)
        pipeline = validate(document.value, _surroundings() if here else None)
    except DefinitionError as error:
        return Validation(document, None, error.faults)
    return Validation(document, pipeline, pipeline.warnings)


async def validate_document(platform: Platform, document: dict[str, JsonValue]) -> Validation:
    """Validate a definition as JSON gives it, also against what other pipelines load.

    Raises:
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    return await asyncio.to_thread(_validate_in, warehouse, document)


def _validate_in(warehouse: Warehouse, document: dict[str, JsonValue]) -> Validation:
    registered()
    name = document.get("name")
    known = name if isinstance(name, str) else None
    try:
        surroundings = find_surroundings(warehouse, pipeline=known, secrets=False)
        pipeline = validate(document, surroundings)
    except DefinitionError as error:
        return Validation(Document(document), None, error.faults)
    return Validation(Document(document), pipeline, pipeline.warnings)


def _surroundings() -> Surroundings:
    """The sources there are, and the tables that are theirs or the platform's.

    Raises:
        StrategyImportError: a source cannot be imported.
    """
    registered()
    return find_surroundings(secrets=False)


def pipeline_schema() -> dict[str, JsonValue]:
    """JSON Schema of definitions, for editors: `data` of each node by its type."""
    schema = Definition.model_json_schema(by_alias=True)
    definitions = schema["$defs"]
    node = definitions["Node"]
    kinds = []
    for name, kind in NODE_TYPES.items():
        data = kind.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(data.pop("$defs", {}))
        definitions[kind.__name__] = data
        of_type = {"const": name, "type": "string"}
        properties = {**node["properties"], "type": of_type}
        properties["data"] = {"$ref": f"#/$defs/{kind.__name__}"}
        kinds.append({"type": "object", "properties": properties, "required": ["id", "type"]})
    definitions["Node"] = {"oneOf": kinds}
    # Keys of the layout may stand beside what means something.
    definitions["Edge"].pop("additionalProperties", None)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def draw_pipeline(pipeline: Pipeline) -> str:
    """The graph of a pipeline as Mermaid draws it: a node for each step, outcomes on the edges."""
    names: Mapping[str, str] = {node: f"n{index}" for index, node in enumerate(pipeline.steps)}
    lines = ["flowchart LR"]
    for step in pipeline.steps.values():
        title = html.escape(printable(" ".join((step.data.label or step.id).split())))
        lines.append(f'    {names[step.id]}["{title}<br/>{step.type}"]')
    for link in pipeline.graph.links:
        arrow = "-.->" if link.handle == ERROR_HANDLE else "-->"
        outcome = "" if link.handle is None else f"|{link.handle}|"
        lines.append(f"    {names[link.source]} {arrow}{outcome} {names[link.target]}")
    return "\n".join(lines)
