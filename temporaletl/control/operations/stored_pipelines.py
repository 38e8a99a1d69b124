"""Stored pipelines: their versions, and what differs between two."""

from __future__ import annotations

import asyncio
import difflib
import json

import yaml
from pydantic import JsonValue

from temporaletl.control.operations.audit import local_author
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.schedules import check_unscheduled
from temporaletl.control.operations.sources import registered
from temporaletl.errors import ConfigurationError
from temporaletl.names import PIPELINE
from temporaletl.warehouse.audit import Author
from temporaletl.warehouse.connection import Warehouse
from temporaletl.warehouse.pipelines import (
    PipelineEntry,
    StoredVersion,
    delete_pipeline,
    find_version,
    list_pipelines,
    list_versions,
    store_version,
)
from temporaletl.worker.pipelines.declared import find_surroundings
from temporaletl.worker.pipelines.definition import Definition
from temporaletl.worker.pipelines.secrets import refuse_secrets
from temporaletl.worker.pipelines.validation import validate


async def store_pipeline(
    platform: Platform,
    document: dict[str, JsonValue],
    *,
    name: str | None = None,
    author: Author | None = None,
) -> StoredVersion:
    """Store a definition under its name, or `name`, as the latest version.

    Safe to repeat: the same content is the same version, however it is drawn.

    Raises:
        DefinitionError: it cannot run, with every fault.
        ConfigurationError: it has no name, or another one than `name`; or a secret stands in it.
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    return await asyncio.to_thread(_store, warehouse, document, name, author or local_author())


def _store(
    warehouse: Warehouse, document: dict[str, JsonValue], name: str | None, author: Author
) -> StoredVersion:
    registered()
    refuse_secrets("definition", document)
    given = document.get("name")
    if name is not None and given is not None and given != name:
        raise ConfigurationError(f"the definition is called {given!r}, not {name!r}")
    if name is not None:
        document = {**document, "name": name}
    called = document.get("name")
    known = called if isinstance(called, str) else None
    pipeline = validate(document, find_surroundings(warehouse, pipeline=known, secrets=False))
    if pipeline.definition.name is None:
        raise ConfigurationError("a pipeline that is stored has a name")
    digest = pipeline.definition.content_hash()
    return store_version(
        warehouse,
        pipeline.definition.name,
        digest,
        document,
        created_by=author.name,
        author=author,
    )


async def stored_pipelines(platform: Platform) -> list[PipelineEntry]:
    """Every stored pipeline, by name; raises as `Platform.current_warehouse`."""
    return await asyncio.to_thread(list_pipelines, await platform.current_warehouse())


async def find_pipeline(platform: Platform, name: str, version: str | None = None) -> StoredVersion:
    """A version of a stored pipeline: by its number or hash, or the latest.

    Raises:
        NotFoundError: there is none.
        ETLError: as `Platform.current_warehouse`.
    """
    return await asyncio.to_thread(find_version, await platform.current_warehouse(), name, version)


async def pipeline_versions(platform: Platform, name: str) -> list[StoredVersion]:
    """The versions of a pipeline, the newest first; raises as `find_pipeline`."""
    return await asyncio.to_thread(list_versions, await platform.current_warehouse(), name)


async def remove_pipeline(
    platform: Platform, name: str, *, force: bool = False, author: Author | None = None
) -> None:
    """Delete a pipeline and its versions; its executions stay.

    Raises:
        NotFoundError: there is none.
        ConflictError: it has a schedule, or whether it has one cannot be known; with `force`,
            nobody looks.
        ETLError: as `Platform.current_warehouse`.
    """
    warehouse = await platform.current_warehouse()
    if not force:
        await asyncio.to_thread(find_version, warehouse, name)
        await check_unscheduled(platform, PIPELINE, name)
    by = author or local_author()
    await asyncio.to_thread(delete_pipeline, warehouse, name, author=by)


def diff_definitions(
    before: dict[str, JsonValue],
    after: dict[str, JsonValue],
    *,
    names: tuple[str, str] = ("before", "after"),
) -> list[str]:
    """What differs between two definitions, the keys of their pictures aside, as a unified diff."""
    texts = [_text_of(one) for one in (before, after)]
    lines = difflib.unified_diff(texts[0], texts[1], *names, lineterm="")
    return list(lines)


def _text_of(document: dict[str, JsonValue]) -> list[str]:
    definition = Definition.model_validate(document)
    plain = definition.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    for node in plain["nodes"]:
        # The warehouse keeps no order of keys.
        node["data"] = json.loads(json.dumps(node.get("data", {}), sort_keys=True))
    text: str = yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    return text.splitlines()
