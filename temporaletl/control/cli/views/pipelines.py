"""View of pipelines: faults as `file:line: place: what is wrong`, graphs, the schema."""

from dataclasses import replace
from pathlib import Path

from pydantic import JsonValue

from temporaletl.command import MISUSED
from temporaletl.control.cli.output import note, print_json, say
from temporaletl.control.cli.session import call
from temporaletl.control.client.settings import ClientSettings
from temporaletl.control.operations.pipeline_drawing import draw_picture
from temporaletl.control.operations.pipelines import (
    Validation,
    draw_pipeline,
    pipeline_schema,
    validate_document,
    validate_pipeline,
)
from temporaletl.errors import ConfigurationError


def print_validation(file: Path, *, as_json: bool) -> int:
    """Print the faults of a definition; return the status to exit with."""
    found = read_definition(file)
    if as_json:
        print_json(
            {
                "valid": found.pipeline is not None,
                "content_hash": found.pipeline and found.pipeline.definition.content_hash(),
                "faults": [
                    {
                        "path": fault.path,
                        "node": fault.node,
                        "line": found.line_of(fault),
                        "column": fault.column,
                        "message": fault.message,
                        "warning": fault.warning,
                    }
                    for fault in found.faults
                ],
            }
        )
    else:
        print_faults(file, found)
        if found.pipeline is not None:
            nodes, edges = len(found.pipeline.steps), len(found.pipeline.graph.links)
            say(f"{file}: valid, {nodes} nodes and {edges} edges")
    return 0 if found.pipeline is not None else MISUSED


def print_graph(file: Path, *, svg: bool) -> int:
    """Print a definition's graph, or its faults; return the status to exit with."""
    found = read_definition(file)
    if found.pipeline is None:
        print_faults(file, found)
        return MISUSED
    say(draw_picture(found.pipeline) if svg else draw_pipeline(found.pipeline))
    return 0


def print_schema() -> None:
    """Print the JSON Schema of definitions."""
    print_json(pipeline_schema())


def read_definition(file: Path) -> Validation:
    """Read and check a definition: by this machine, or by the platform whose API is used.

    Raises:
        ConfigurationError: the file cannot be read.
        ETLError: as the API has it.
    """
    here = ClientSettings.load().url is None
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file} cannot be read: {error}") from None
    found = validate_pipeline(text, as_json=file.suffix == ".json", here=here)
    if here or found.pipeline is None or not isinstance(found.document.value, dict):
        return found
    said = call(validate_document, found.document.value)
    return replace(said, document=found.document)


def valid_document(file: Path) -> dict[str, JsonValue]:
    """The definition that a file has; prints its faults, and its warnings.

    Raises:
        ConfigurationError: it has faults.
    """
    found = read_definition(file)
    print_faults(file, found)
    if found.pipeline is None or not isinstance(found.document.value, dict):
        raise ConfigurationError(f"{file} is not valid")
    return found.document.value


def print_faults(file: Path, found: Validation) -> None:
    for fault in found.faults:
        line = found.line_of(fault)
        where = f"{file}:{line}" if line is not None else f"{file}"
        kind = "warning: " if fault.warning else ""
        note(f"{where}: {kind}{fault}")
