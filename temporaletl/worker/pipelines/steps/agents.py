"""Step that asks a language model: ai_agent."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import msgspec
from pydantic import JsonValue

from temporaletl.errors import ConfigurationError, ETLError, PermanentError
from temporaletl.secrets import cleaned
from temporaletl.warehouse.model_tokens import (
    Reservation,
    TokenBudgetError,
    reserve_tokens,
    settle_tokens,
)
from temporaletl.worker.pipelines.egress.client import (
    Answer,
    RefusedRequestError,
    UnreachedHostError,
)
from temporaletl.worker.pipelines.expressions.templates import as_text
from temporaletl.worker.pipelines.model.chat import (
    Message,
    Question,
    check_filter,
    code_of,
    read_reply,
    send,
    text_of,
)
from temporaletl.worker.pipelines.model.prompts import correction, prompt, schema_of
from temporaletl.worker.pipelines.nodes.agents import AiAgentData
from temporaletl.worker.pipelines.nodes.schemas import Misfit, misfit_of
from temporaletl.worker.pipelines.steps.answers import check_status
from temporaletl.worker.pipelines.steps.context import NodeContext, Produced

#: Bytes of a token, rather too few: what is reserved shall be enough.
_BYTES_OF_TOKEN = 3
#: Tokens around each message.
_AROUND = 16
_FENCE = "```"
_LONGEST_FAULT = 1_000


class UnfitAnswerError(PermanentError):
    """The model's answer did not fit its schema, and neither did the corrected one."""


async def run_ai_agent(context: NodeContext[AiAgentData]) -> Produced:
    """Ask a model about the input; of an answer that does not fit, ask once more, with the fault.

    Raises:
        TokenBudgetError: a budget has too few tokens left.
        UnfitAnswerError: the answer does not fit, corrected or not.
        ETLError: as `send` and `text_of`, and for refusals of the endpoint as `check_status`.
    """
    data = context.data
    instructions, given = await asked(context)
    schema = schema_of(data)
    messages = prompt(
        data,
        instructions=instructions,
        given=given,
        schema=schema,
        key=context.idempotency_key,
    )
    chat = _Chat(context, schema)
    text = await chat.ask(messages, "")
    if schema is None:
        return Produced(text.strip())
    value = await asyncio.to_thread(_fitting, text, schema)
    if isinstance(value, Misfit):
        told = f"the schema, {value.message}"[:_LONGEST_FAULT]
        text = await chat.ask([*messages, *correction(text, told)], "/correction")
        value = await asyncio.to_thread(_fitting, text, schema)
    if isinstance(value, Misfit):
        raise UnfitAnswerError(
            f"{chat.model}: its answer does not fit, and neither does the corrected one, which "
            f"{value.rule}"
        )
    if data.agent_type == "classify" and isinstance(value, dict):
        return Produced(value["label"])
    return Produced(value)


async def asked(context: NodeContext[AiAgentData]) -> tuple[str, JsonValue]:
    """The instructions of a node, and what they are about; raises as `NodeContext.fill`."""
    data = context.data
    filled = await context.fill({"instructions": data.instructions, "input": data.input})
    given = filled["input"] if data.input is not None else await _input(context)
    return as_text(filled["instructions"]), given


async def _input(context: NodeContext[AiAgentData]) -> JsonValue:
    return context.names["item"] if "item" in context.names else await context.inputs()


def _fitting(text: str, schema: dict[str, JsonValue]) -> JsonValue | Misfit:
    """The JSON of a text, without secrets; or what of it does not fit."""
    try:
        value: JsonValue = cleaned(msgspec.json.decode(_unfenced(text)))
    except (msgspec.DecodeError, RecursionError) as error:
        return Misfit(f"as it is no JSON: {error}", "is no JSON")
    return misfit_of(schema, value) or value


def _unfenced(text: str) -> str:
    """A text without the fence of Markdown that models like to put around JSON."""
    text = text.strip()
    if not (text.startswith(_FENCE) and text.endswith(_FENCE)):
        return text
    return text.removesuffix(_FENCE).partition("\n")[2]


@dataclass(frozen=True, slots=True)
class _Chat:
    """The calls of one attempt, each within the budgets."""

    context: NodeContext[AiAgentData]
    schema: dict[str, JsonValue] | None

    @property
    def model(self) -> str:
        model = self.context.data.model or self.context.services.model.model
        if model is None:
            raise ConfigurationError(
                "set PIPELINE_MODEL, the model that answers where a node names none"
            )
        return model

    async def ask(self, messages: Sequence[Message], suffix: str) -> str:
        """The text of a model's answer; what it took is recorded, whatever it is."""
        services = self.context.services
        host = services.model.host
        question = Question(
            model=self.model,
            messages=messages,
            max_tokens=self.context.data.max_tokens,
            schema=self.schema,
            strict=self.context.data.agent_type != "extract",
            key=self.context.idempotency_key + suffix,
        )
        reserved = await self._reserve(question)
        within = timedelta(seconds=self.context.data.timeout_seconds)
        try:
            answer = await send(question, services.model, services.egress, within=within)
        except (ConfigurationError, RefusedRequestError, UnreachedHostError):
            await self._settle(reserved)
            raise
        try:
            check_filter(answer, host)
            check_status(answer, host, quoted=code_of(answer))
        except ETLError:
            await self._settle(reserved)
            raise
        return await self._read(answer, question, reserved)

    async def _reserve(self, question: Question) -> Reservation:
        settings = self.context.services.model
        tokens = _estimate(question) + question.max_tokens
        if tokens > settings.call_tokens:
            raise TokenBudgetError(
                f"this call might take {tokens:,} tokens, more than "
                f"PIPELINE_MODEL_CALL_TOKENS = {settings.call_tokens:,}: give it less, or lower "
                "max_tokens"
            )
        return await asyncio.to_thread(
            reserve_tokens,
            self.context.services.warehouse,
            self.context.execution.execution_id,
            self.context.node,
            tokens,
            most_of_execution=settings.execution_tokens,
            most_of_day=settings.day_tokens,
        )

    async def _read(self, answer: Answer, question: Question, reserved: Reservation) -> str:
        # Of what cannot be read, nobody knows what it took: that stays reserved.
        reply = await asyncio.to_thread(read_reply, answer, self.context.services.model.host)
        taken = reply.tokens
        if taken is None:
            taken = reserved.tokens - question.max_tokens, question.max_tokens
        await self._settle(reserved, reply.model or question.model, *taken)
        return text_of(reply, question)

    async def _settle(
        self, reserved: Reservation, model: str | None = None, asked: int = 0, answered: int = 0
    ) -> None:
        await asyncio.to_thread(
            settle_tokens,
            self.context.services.warehouse,
            reserved,
            model=model,
            prompt_tokens=asked,
            completion_tokens=answered,
        )


def _estimate(question: Question) -> int:
    around = _AROUND * len(question.messages)
    return question.prompt_bytes // _BYTES_OF_TOKEN + around
