"""Chat with a language model: any endpoint that speaks as OpenAI's does, by its own client.

What comes back is judged here: an answer that is refused, cut, filtered or empty is an error of its
own name, never a result. Errors quote neither what was asked nor what was answered.
"""

import asyncio
import re
from codecs import BOM_UTF8
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache
from http import HTTPStatus
from types import ModuleType
from typing import Any, Literal, NamedTuple

import msgspec
from pydantic import JsonValue

from temporaletl.errors import (
    ConfigurationError,
    PermanentError,
    RetryableError,
    SourceUnavailableError,
)
from temporaletl.secrets import redacted
from temporaletl.worker.pipelines.egress.client import Answer, guarded_client
from temporaletl.worker.pipelines.egress.settings import EgressSettings
from temporaletl.worker.pipelines.model.settings import ModelSettings

#: A name in an answer that may be told: of a model, a code of an error.
_NAME = re.compile(r"[A-Za-z0-9_.:/@-]{1,100}")
_FILTERED = "content_filter"
#: More tokens than any model takes at once: an endpoint that counts so does not count.
_MOST_TOKENS = 10_000_000


class ModelRefusedError(PermanentError):
    """The model refused to answer."""


class FilteredAnswerError(PermanentError):
    """A filter of the endpoint withheld the question or the answer."""


class CutAnswerError(PermanentError):
    """The answer is longer than `max_tokens`, and was cut."""


class EmptyAnswerError(RetryableError):
    """The endpoint answered nothing."""


class MalformedAnswerError(RetryableError):
    """The endpoint answered something else than a chat's completion."""


class Message(NamedTuple):
    """A message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """A chat that a model shall go on with, by a text or by JSON of a schema."""

    model: str
    messages: Sequence[Message] = field(repr=False)
    max_tokens: int
    schema: dict[str, JsonValue] | None
    #: Whether the schema is one that endpoints can enforce to the letter.
    strict: bool
    key: str

    @property
    def prompt_bytes(self) -> int:
        return sum(len(one.content.encode()) for one in self.messages)


class _Said(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None


class _Choice(msgspec.Struct):
    message: _Said
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int


class _Completion(msgspec.Struct):
    choices: list[_Choice]
    model: str | None = None
    usage: msgspec.Raw = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back: the model that says it answered, the tokens it counted, and its choice."""

    model: str | None
    tokens: tuple[int, int] | None  # of the prompt, of the completion
    choice: _Choice | None = field(repr=False)


async def send(
    question: Question, settings: ModelSettings, egress: EgressSettings, *, within: timedelta
) -> Answer:
    """Send a question, once; returns the answer, whatever its status.

    Raises:
        ConfigurationError: no endpoint is set, or the library is not installed.
        RefusedRequestError, OversizedAnswerError, SourceUnavailableError: as `GuardedClient.send`.
    """
    if settings.url is None:
        raise ConfigurationError(
            "set PIPELINE_MODEL_URL, where a language model answers, for nodes of type ai_agent"
        )
    # It takes a second, which the loop's other tasks shall not wait for.
    openai = await asyncio.to_thread(model_library)
    key = settings.renewed().key
    messages: Any = [one._asdict() for one in question.messages]
    bound: Any = openai.omit
    if question.schema is not None:
        named = {"name": "answer", "schema": question.schema, "strict": question.strict}
        bound = {"type": "json_schema", "json_schema": named}
    async with guarded_client(egress, within=within) as http:
        client = openai.AsyncOpenAI(
            # It wants one; endpoints that need none ignore it.
            api_key="none" if key is None else key.get_secret_value(),
            base_url=settings.url,
            http_client=http,
            max_retries=0,
            timeout=within.total_seconds(),
        )
        try:
            raw = await client.chat.completions.with_raw_response.create(
                model=question.model,
                messages=messages,
                max_completion_tokens=question.max_tokens,
                response_format=bound,
                extra_headers={"Idempotency-Key": question.key},
            )
            response = raw.http_response
        except openai.APIStatusError as error:
            response = error.response
        except openai.OpenAIError as error:
            raise SourceUnavailableError(f"{settings.host}: {type(error).__name__}") from None
    return Answer(response.status_code, dict(response.headers), response.content)


@cache
def model_library() -> ModuleType:
    """The client of language models.

    Raises:
        ConfigurationError: it is not installed; says which extra brings it.
    """
    try:
        import openai
    except ModuleNotFoundError:
        raise ConfigurationError(
            "the library openai is not installed: `pip install 'temporaletl[ai]'`"
        ) from None
    return openai


def code_of(answer: Answer) -> str:
    """The code of an error that an endpoint answered with; empty where it has none."""
    try:
        error = msgspec.json.decode(answer.body)["error"]
        found = error.get("code") or error.get("type")
    except (msgspec.DecodeError, RecursionError, LookupError, TypeError, AttributeError):
        return ""
    return _told(found)


def check_filter(answer: Answer, host: str) -> None:
    """Check that an answer is not that of a filter.

    Raises:
        FilteredAnswerError: the endpoint's filter refused the question.
    """
    if answer.status >= HTTPStatus.BAD_REQUEST and code_of(answer) == _FILTERED:
        raise FilteredAnswerError(f"{host}: its filter refused what it was asked")


def read_reply(answer: Answer, host: str) -> Reply:
    """Read an answer that is no refusal of the endpoint.

    Raises:
        MalformedAnswerError: it is no chat's completion.
    """
    try:
        found = msgspec.json.decode(answer.body.removeprefix(BOM_UTF8), type=_Completion)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        kind = answer.headers.get("content-type", "").partition(";")[0]
        raise MalformedAnswerError(
            f"{host}: its answer ({_told(kind) or 'without a type'}, {len(answer.body):,} bytes) "
            "is no completion of a chat"
        ) from None
    choice = found.choices[0] if found.choices else None
    return Reply(_told(found.model) or None, _tokens(found.usage), choice)


def text_of(reply: Reply, question: Question) -> str:
    """The text of a reply, complete and without the secrets that it may repeat.

    Raises:
        ModelRefusedError, FilteredAnswerError, CutAnswerError: it holds no whole answer.
        EmptyAnswerError, MalformedAnswerError: another attempt may.
    """
    model, choice = reply.model or question.model, reply.choice
    if choice is None:
        raise EmptyAnswerError(f"{model}: its answer has no choices")
    if choice.message.refusal:
        raise ModelRefusedError(f"{model} refused to answer")
    match choice.finish_reason:
        case "stop":
            pass
        case "length":
            raise CutAnswerError(
                f"{model}: its answer was cut at {question.max_tokens:,} tokens: give more "
                "max_tokens, or ask for less"
            )
        case "content_filter":
            raise FilteredAnswerError(f"{model}: a filter withheld its answer")
        case other:
            raise MalformedAnswerError(f"{model} ended with {_told(other) or 'no reason'}")
    text = choice.message.content
    if text is None or not text.strip():
        raise EmptyAnswerError(f"{model} answered nothing")
    return redacted(text)


def _tokens(usage: msgspec.Raw) -> tuple[int, int] | None:
    try:
        found = msgspec.json.decode(usage, type=_Usage)
    except msgspec.DecodeError:
        return None
    counted = found.prompt_tokens, found.completion_tokens
    return counted if all(0 <= one <= _MOST_TOKENS for one in counted) else None


def _told(name: object) -> str:
    return redacted(name) if isinstance(name, str) and _NAME.fullmatch(name) else ""
