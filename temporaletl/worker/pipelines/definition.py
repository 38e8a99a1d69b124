"""Definition of a pipeline: nodes and edges, as a canvas exports them or as YAML in git has them.

The shape is React Flow's `toObject()`; keys that lay out the picture are kept and mean nothing.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, model_validator

MOST_NODES = 500
MOST_EDGES = 2_000
MOST_BYTES = 512 * 1024

#: The handle of edges that are taken when their node fails.
ERROR_HANDLE = "error"


def _as_handle(value: object) -> object:
    """A handle as a text: YAML's `true` is the outcome of that name."""
    return str(value).lower() if isinstance(value, bool) else value


class _Part(BaseModel):
    """A part of the picture: what means something by name, and keys of its layout."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True, populate_by_name=True)

    layout: ClassVar[frozenset[str]] = frozenset()

    @model_validator(mode="before")
    @classmethod
    def _without_layout(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {key: one for key, one in value.items() if key not in cls.layout}


class Node(_Part):
    """A step of a pipeline: its type says what it does, `data` with what."""

    layout = frozenset(
        {"position", "positionAbsolute", "width", "height", "measured", "initialWidth"}
        | {"initialHeight", "selected", "selectable", "dragging", "draggable", "dragHandle"}
        | {"deletable", "connectable", "focusable", "hidden", "resizing", "style", "className"}
        | {"zIndex", "parentId", "extent", "expandParent", "origin", "sourcePosition", "handles"}
        | {"targetPosition", "ariaLabel", "ariaRole", "ariaRoleDescription", "domAttributes"}
    )

    id: str = Field(min_length=1, max_length=100, pattern=r"^[\w.:-]+$")
    type: str
    data: dict[str, JsonValue] = Field(default_factory=dict)


class Edge(_Part):
    """A way from one node to the next; `source_handle` names the outcome that takes it."""

    layout = frozenset(
        {"type", "animated", "hidden", "deletable", "selectable", "selected", "focusable"}
        | {"reconnectable", "updatable", "zIndex", "style", "className", "label", "labelStyle"}
        | {"labelShowBg", "labelBgStyle", "labelBgPadding", "labelBgBorderRadius", "markerStart"}
        | {"markerEnd", "interactionWidth", "pathOptions", "ariaLabel", "ariaRole", "data"}
        | {"ariaRoleDescription", "domAttributes", "sourceX", "sourceY", "targetX", "targetY"}
    )

    id: str = ""
    source: str
    target: str
    source_handle: Annotated[str | None, BeforeValidator(_as_handle)] = Field(
        None, alias="sourceHandle"
    )
    target_handle: str | None = Field(None, alias="targetHandle")


class WebhookTrigger(BaseModel):
    """What starts a stored pipeline over HTTP: requests that one of these secrets has signed.

    Several, so that a secret can be replaced: the sender's new one beside the old one.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    signing_secrets: tuple[Annotated[str, Field(pattern=r"^[\w.-]{1,100}$")], ...] = Field(
        min_length=1,
        max_length=5,
        description="names of the secrets, as PIPELINE_SECRET_… has them",
    )


class Definition(_Part):
    """A pipeline's nodes and edges.

    Definition.model_validate({"nodes": [{"id": "wait", "type": "delay",
                                          "data": {"seconds": 1}}], "edges": []})
    """

    layout = frozenset({"viewport"})

    name: str | None = Field(None, pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    description: str = ""
    #: How long an execution may take, pauses not counted.
    timeout_seconds: float | None = Field(None, gt=0, le=366 * 86_400)
    webhook: WebhookTrigger | None = None
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()

    def content_hash(self) -> str:
        """What two definitions share that do the same, however they are drawn: hex SHA-256."""
        content = self.model_dump(mode="json", by_alias=True)
        if self.webhook is None:
            del content["webhook"]  # as hashes were before there were any
        text = json.dumps(content, sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()
