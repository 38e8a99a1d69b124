"""`etl pipeline store|list|versions|diff|delete`: output of stored pipelines."""

from pathlib import Path

from pydantic import JsonValue

from temporaletl.command import MISUSED
from temporaletl.control.cli.output import (
    add_row,
    make_table,
    note,
    print_json,
    print_table,
    say,
    show_time,
)
from temporaletl.control.cli.session import call
from temporaletl.control.cli.views.pipelines import print_faults, read_definition, valid_document
from temporaletl.control.operations.stored_pipelines import (
    diff_definitions,
    find_pipeline,
    pipeline_versions,
    remove_pipeline,
    store_pipeline,
    stored_pipelines,
)


def store(file: Path, *, as_json: bool) -> int:
    """Store a definition, or print its faults; return the status to exit with."""
    found = read_definition(file)
    if found.pipeline is None or not isinstance(found.document.value, dict):
        print_faults(file, found)
        return MISUSED
    stored = call(store_pipeline, found.document.value)
    if as_json:
        print_json(stored.model_dump(mode="json", exclude={"document"}))
    else:
        print_faults(file, found)
        say(f"{stored.pipeline} version {stored.number} ({stored.sha256[:12]})")
    return 0


def print_pipelines(*, as_json: bool) -> None:
    """List the stored pipelines, with their last executions."""
    found = call(stored_pipelines)
    if as_json:
        print_json([one._asdict() for one in found])
        return
    if not found:
        say("No pipeline is stored yet: `etl pipeline store FILE` stores one.")
        return
    table = make_table("pipeline", "version", "nodes", "executions", "last")
    for one in found:
        last = f"{one.last_state} {show_time(one.last_at)}" if one.last_at else ""
        add_row(table, one.name, str(one.number), str(one.nodes), str(one.executions), last)
    print_table(table)


def print_versions(name: str, *, as_json: bool) -> None:
    """List the versions of a pipeline, the newest first."""
    found = call(pipeline_versions, name)
    if as_json:
        print_json([one.model_dump(mode="json", exclude={"document"}) for one in found])
        return
    table = make_table("version", "hash", "stored", "by")
    for one in found:
        number = f"{one.number} (latest)" if one.latest else str(one.number)
        add_row(table, number, one.sha256[:12], show_time(one.created_at), one.created_by or "")
    print_table(table)


def print_difference(before: str, after: str) -> int:
    """Print what differs between two definitions; 1 where anything does."""
    lines = diff_definitions(document_of(before), document_of(after), names=(before, after))
    for line in lines:
        say(line)
    if not lines:
        note("they do the same")
    return 1 if lines else 0


def delete(name: str, *, force: bool) -> None:
    """Delete a pipeline, and say so."""
    call(remove_pipeline, name, force=force)
    say(f"pipeline {name} deleted; its executions stay")


def document_of(what: str) -> dict[str, JsonValue]:
    """The definition that a file has, or a stored version."""
    file = Path(what)
    if not file.is_file():
        name, _, version = what.partition("@")
        return call(find_pipeline, name, version or None).document
    return valid_document(file)
