"""Pipelines, over the API: checked, stored, compared and deleted."""

from datetime import datetime
from typing import Any

from pydantic import BaseModel, JsonValue

from temporaletl.control.client.api import Api
from temporaletl.control.client.operations import over_api
from temporaletl.control.operations.pipelines import Validation, validate_document
from temporaletl.control.operations.stored_pipelines import (
    find_pipeline,
    pipeline_versions,
    remove_pipeline,
    store_pipeline,
    stored_pipelines,
)
from temporaletl.errors import ConfigurationError
from temporaletl.warehouse.audit import Author
from temporaletl.warehouse.pipelines import PipelineEntry, StoredVersion
from temporaletl.worker.pipelines.documents import Document
from temporaletl.worker.pipelines.faults import DefinitionFault
from temporaletl.worker.pipelines.messages import FoundFault
from temporaletl.worker.pipelines.validation import validate

_PIPELINES = "pipelines"


class _Validated(BaseModel):
    valid: bool
    faults: tuple[FoundFault, ...]


class _Version(BaseModel):
    number: int
    version: str
    created_by: str | None
    created_at: datetime
    latest: bool


class _Versions(BaseModel):
    items: list[_Version]


class _Stored(_Version):
    pipeline: str
    definition: dict[str, JsonValue]


class _Listed(BaseModel):
    name: str
    version: str
    number: int
    nodes: int
    updated_at: datetime
    executions: int
    last_state: str | None
    last_at: datetime | None


class _Pipelines(BaseModel):
    items: list[_Listed]


def read_fault(found: FoundFault) -> DefinitionFault:
    """A fault as the API tells it."""
    return DefinitionFault(**found.model_dump())


@over_api(validate_document)
async def _validate_document(api: Api, document: dict[str, JsonValue]) -> Validation:
    wanted = {"definition": document}
    said = await api.send("POST", _Validated, "workflow", "validate", "", json=wanted)
    pipeline = validate(document) if said.valid else None
    return Validation(Document(document), pipeline, tuple(map(read_fault, said.faults)))


@over_api(store_pipeline)
async def _store_pipeline(
    api: Api,
    document: dict[str, JsonValue],
    *,
    name: str | None = None,
    author: Author | None = None,
) -> StoredVersion:
    del author  # the API knows who sends the request
    called = name or document.get("name")
    if not isinstance(called, str):
        raise ConfigurationError("a pipeline that is stored has a name")
    wanted = {"definition": document}
    return _stored(await api.send("PUT", _Stored, _PIPELINES, called, json=wanted))


@over_api(stored_pipelines)
async def _stored_pipelines(api: Api) -> list[PipelineEntry]:
    found = await api.get(_Pipelines, _PIPELINES)
    return [PipelineEntry(**_with_hash(one.model_dump())) for one in found.items]


@over_api(find_pipeline)
async def _find_pipeline(api: Api, name: str, version: str | None = None) -> StoredVersion:
    path = () if version is None else ("versions", version)
    return _stored(await api.get(_Stored, _PIPELINES, name, *path))


@over_api(pipeline_versions)
async def _pipeline_versions(api: Api, name: str) -> list[StoredVersion]:
    found = await api.get(_Versions, _PIPELINES, name, "versions")
    return [
        StoredVersion(pipeline=name, document={}, **_with_hash(one.model_dump()))
        for one in found.items
    ]


@over_api(remove_pipeline)
async def _remove_pipeline(
    api: Api, name: str, *, force: bool = False, author: Author | None = None
) -> None:
    del author
    params = {"force": "true"} if force else None
    await api.send("DELETE", type(None), _PIPELINES, name, params=params)


def _stored(found: _Stored) -> StoredVersion:
    fields = _with_hash(found.model_dump(exclude={"definition"}))
    return StoredVersion(document=found.definition, **fields)


def _with_hash(found: dict[str, Any]) -> dict[str, Any]:
    """What the API calls the version is the hash of its content."""
    return {("sha256" if name == "version" else name): value for name, value in found.items()}
