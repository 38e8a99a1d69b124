"""Nodes that branch, wait, and compute: condition, switch, delay, transform, map, pipeline."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from temporaletl.worker.pipelines.nodes.fields import (
    Expr,
    ExpressionField,
    Filled,
    ItemExpr,
    NodeData,
)

_NAME = r"^[A-Za-z_][\w-]{0,62}$"
#: What follows where no case of a switch holds.
DEFAULT_CASE = "default"


class ConditionData(NodeData):
    """`condition`: takes the edges `true` or `false`; its result is what it got."""

    outcomes: ClassVar[tuple[str | None, ...]] = ("true", "false")

    condition: Expr


class SwitchCase(BaseModel):
    """A case of a switch: its name is the handle of its edges."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    name: str = Field(pattern=_NAME)
    when: str


class SwitchData(NodeData):
    """`switch`: takes the edges of the first case that holds, else `default`."""

    cases: Annotated[tuple[SwitchCase, ...], ExpressionField()] = Field(min_length=1)

    def handles(self) -> tuple[str | None, ...]:
        return (*(case.name for case in self.cases), DEFAULT_CASE)

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [case.name for case in self.cases]
        twice = {name for name in names if names.count(name) > 1 or name == DEFAULT_CASE}
        if twice:
            raise ValueError(f"two cases are called {', '.join(sorted(twice))}")
        return self


class DelayData(NodeData):
    """`delay`: waits for some seconds, or until a time; its result is what it got."""

    seconds: float | None = Field(None, ge=1, le=365 * 86_400)
    until: Expr | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.seconds is None) == (self.until is None):
            raise ValueError("needs one of seconds and until")
        return self


class TransformData(NodeData):
    """`transform`: a value made of others.

    `mapping` makes an object of named expressions, with `over` one for each item of a list, where
    `where` holds; `filter` keeps the items where it holds; `aggregate` groups the items by the
    values of `by`, and makes an object of each group's `rows`.
    """

    transform_type: Literal["mapping", "filter", "aggregate"]
    over: Expr | None = None
    where: ItemExpr | None = None
    mapping: Annotated[dict[str, str], ExpressionField(("item", "index"))] | None = None
    by: Annotated[dict[str, str], ExpressionField(("item", "index"))] | None = None
    fields: Annotated[dict[str, str], ExpressionField(("rows",))] | None = None

    @model_validator(mode="after")
    def _of_type(self) -> Self:
        needed, others = {
            "mapping": (("mapping",), ("by", "fields")),
            "filter": (("where",), ("mapping", "by", "fields")),
            "aggregate": (("fields",), ("mapping",)),
        }[self.transform_type]
        missing = [name for name in needed if not getattr(self, name)]
        wrong = [name for name in others if getattr(self, name) is not None]
        if missing:
            raise ValueError(f"{self.transform_type} needs {', '.join(missing)}")
        if wrong:
            raise ValueError(f"{self.transform_type} has no {', '.join(wrong)}")
        if self.transform_type == "mapping" and self.where and not self.over:
            raise ValueError("where needs over: the list whose items it chooses")
        return self


class MapData(NodeData):
    """`map`: a node for each item of a list; its result is the list of theirs, in order."""

    over: Expr
    type: str
    data: dict[str, JsonValue] = Field(default_factory=dict)
    chunk_items: int = Field(100, ge=1, le=1_000)
    concurrency: int = Field(8, ge=1, le=50)
    per_minute: int | None = Field(None, ge=1)
    #: Whether items that fail are told in the result, or fail the node.
    item_errors: Literal["fail", "collect"] = "collect"

    @property
    def asks_model(self) -> bool:
        return self.type == "ai_agent"


class PipelineData(NodeData):
    """`pipeline`: a stored pipeline as a step; its result is the result of its last node."""

    pipeline: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,62}$")
    version: str | None = None
    input: Filled = None
