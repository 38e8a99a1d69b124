"""Fields of a node's data that hold expressions or templates, and what all nodes have."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, ClassVar, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator
from pydantic.fields import FieldInfo

from temporaletl.worker.pipelines.graph import Join


@dataclass(frozen=True, slots=True)
class ExpressionField:
    """Mark of a field whose texts are expressions; `names` are those it may read besides."""

    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TemplateField:
    """Mark of a field whose texts are templates; `secrets` tells whether it may hold secrets."""

    secrets: bool = False
    names: tuple[str, ...] = ()


#: A text that is an expression; one over the rows of a list, each of them `item`.
Expr = Annotated[str, ExpressionField()]
ItemExpr = Annotated[str, ExpressionField(("item", "index"))]
#: Texts, in any structure, with `{{ }}` holes.
Filled = Annotated[JsonValue, TemplateField()]
FilledText = Annotated[str, TemplateField()]
SecretTexts = Annotated[dict[str, str], TemplateField(secrets=True)]


class Retry(BaseModel):
    """How often a node is tried, and how long apart."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    max_attempts: int = Field(3, ge=1, le=100)
    initial_seconds: float = Field(1, gt=0, le=3_600)
    backoff: float = Field(2, ge=1, le=10)
    max_seconds: float = Field(10, gt=0, le=86_400)

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.max_seconds < self.initial_seconds:
            raise ValueError(
                f"max_seconds = {self.max_seconds:g} is less than "
                f"initial_seconds = {self.initial_seconds:g}: give both"
            )
        return self


class NodeData(BaseModel):
    """What the data of every node may hold besides what its type needs."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    #: The outcomes that edges of this type may name by their handle; None: the one outcome.
    outcomes: ClassVar[tuple[str | None, ...]] = (None,)

    label: str = ""
    join: Join = "any"
    #: What becomes of the execution when the node fails and no edge `error` leaves it.
    on_error: Literal["fail", "continue", "default"] = "fail"
    default: JsonValue = None
    timeout_seconds: float = Field(300, gt=0, le=7 * 86_400)
    retry: Retry = Retry()

    def handles(self) -> tuple[str | None, ...]:
        """The handles that edges out of this node may have, besides `error`."""
        return self.outcomes

    @property
    def writes(self) -> bool:
        """Whether it changes something outside of the pipeline."""
        return False

    @property
    def asks_model(self) -> bool:
        """Whether it asks a language model."""
        return False

    def marked(self) -> Iterator[tuple[str, JsonValue, ExpressionField | TemplateField]]:
        """Its fields that hold expressions or templates: name, value and mark."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            mark = _mark_of(field)
            if mark is not None and value is not None:
                yield name, _plain(value), mark


def _mark_of(field: FieldInfo) -> ExpressionField | TemplateField | None:
    """The mark of a field, which may stand within a union with None."""
    of_members = (getattr(one, "__metadata__", ()) for one in get_args(field.annotation))
    for one in (*field.metadata, *chain.from_iterable(of_members)):
        if isinstance(one, ExpressionField | TemplateField):
            return one
    return None


def texts_of(value: JsonValue, path: str) -> Iterator[tuple[str, str]]:
    """Every text in a value, with its place: `data.fields.total`, `data.rows[3]`."""
    match value:
        case str():
            yield path, value
        case list():
            for index, one in enumerate(value):
                yield from texts_of(one, f"{path}[{index}]")
        case dict():
            for key, one in value.items():
                yield from texts_of(one, f"{path}.{key}")


def _plain(value: object) -> JsonValue:
    match value:
        case BaseModel():
            return _plain(value.model_dump(mode="json", exclude_none=True))
        case Mapping():
            return {str(key): _plain(one) for key, one in value.items()}
        case list() | tuple():
            return [_plain(one) for one in value]
        case str() | int() | float() | bool() | None:
            return value
    raise TypeError(type(value).__name__)
