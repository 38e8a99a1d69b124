"""Node that asks a language model: ai_agent."""

from typing import Annotated, Literal, Self

from pydantic import Field, JsonValue, field_validator, model_validator

from temporaletl.worker.pipelines.nodes.fields import Filled, NodeData, TemplateField
from temporaletl.worker.pipelines.nodes.schemas import check_schema

_FEWEST_LABELS, _MOST_LABELS = 2, 200


class AiAgentData(NodeData):
    """`ai_agent`: asks a language model about `input`, within a budget of tokens.

    Its result is a text (`generate`, `summarise`), one of `labels` (`classify`), an object that
    fits `output_schema` (`extract`), or `passes` and `reason` (`judge`).
    """

    agent_type: Literal["generate", "classify", "extract", "summarise", "judge"]
    model: str | None = Field(None, min_length=1, max_length=200)
    instructions: Annotated[str, TemplateField()] = ""
    input: Filled = Field(None, description="the node's input, or the item, unless given")
    labels: tuple[str, ...] = ()
    output_schema: dict[str, JsonValue] | None = None
    max_tokens: int = Field(1_000, ge=1, le=100_000)

    @property
    def asks_model(self) -> bool:
        return True

    @field_validator("labels")
    @classmethod
    def _are_distinct(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if labels and not _FEWEST_LABELS <= len(labels) <= _MOST_LABELS:
            raise ValueError(f"{len(labels)} labels: from {_FEWEST_LABELS} to {_MOST_LABELS}")
        seen: dict[str, str] = {}
        for label in labels:
            folded = " ".join(label.split()).casefold()
            if not folded:
                raise ValueError("a label is empty")
            if folded in seen:
                raise ValueError(f"{seen[folded]!r} and {label!r} are not told apart")
            seen[folded] = label
        return labels

    @field_validator("output_schema")
    @classmethod
    def _is_harmless(cls, schema: dict[str, JsonValue] | None) -> dict[str, JsonValue] | None:
        if schema is not None:
            check_schema(schema)
        return schema

    @model_validator(mode="after")
    def _of_type(self) -> Self:
        if (self.agent_type == "classify") != bool(self.labels):
            raise ValueError("labels are what classify needs, and no other")
        if (self.agent_type == "extract") != (self.output_schema is not None):
            raise ValueError("output_schema is what extract needs, and no other")
        if self.agent_type in ("generate", "judge") and not self.instructions.strip():
            raise ValueError(f"{self.agent_type} needs instructions: what it goes by")
        return self
