"""Chats with fake models: JSON that fits the schema of the request, or a text about its length."""

import json
from collections.abc import Sequence
from typing import Any

from tests.fakes.exchange import Request, Response
from tests.fakes.faults import Faults
from tests.fakes.server import serving

OWN_FAULTS: dict[str, str] = {
    "500": "an internal error, in the words of the API, which quote the question",
    "unfit": "JSON that does not fit the schema",
    "no-json": "a text where JSON of a schema is asked for",
    "fenced": "JSON within a fence of Markdown",
    "refusal": "the model refuses, politely",
    "length": "an answer that is cut at the limit of its tokens",
    "filter": "an answer that a filter withheld",
    "filtered-question": "400: a filter refused the question",
    "no-choices": "an answer without choices",
    "empty": "a choice that says nothing",
    "tool-call": "a choice that wants to call a tool",
    "malformed": "JSON that breaks off, with its length",
    "wrong-type": "a text of the type text/plain that is no JSON",
    "huge": "an answer of 20 MB",
    "echo": "an answer that repeats the key of the request, and what was asked",
    "no-usage": "an answer that counts no tokens",
    "negative-usage": "an answer that counts tokens below zero",
}
_BYTES_OF_TOKEN = 4
_ENDS = {"length": "length", "filter": "content_filter", "tool-call": "tool_calls"}


class OpenAIService:
    """The service of some models; see `tests.fakes.server.Service`."""

    own_faults = OWN_FAULTS

    def __init__(self, models: Sequence[str], *, key: str | None = None) -> None:
        self.models = models
        self.key = key
        self.faults = Faults(known=OWN_FAULTS)

    def bind(self, base_url: str, faults: Faults) -> None:  # noqa: ARG002
        self.faults = faults

    def refuse(self, status: int) -> Response:
        code = {401: "invalid_api_key", 429: "rate_limit_exceeded"}[status]
        return self.complain(status, "You may not, now.", code)

    def complain(self, status: int, message: str, code: str = "server_error") -> Response:
        error = {"message": message, "type": "error", "param": None, "code": code}
        return Response.of({"error": error}, status)

    def answer(self, request: Request) -> Response:
        if self.key is not None and request.headers.get("authorization") != f"Bearer {self.key}":
            return self.refuse(401)
        if request.path.endswith("/models"):
            listed = [{"id": one, "object": "model"} for one in self.models]
            return Response.of({"object": "list", "data": listed})
        if not request.path.endswith("/chat/completions") or request.method != "POST":
            return self.complain(404, "There is nothing here.", "not_found")
        asked = request.json()
        if asked.get("model") not in self.models:
            return self.complain(404, f"no model {asked.get('model')}", "model_not_found")
        return self._complete(request, asked)

    def _complete(self, request: Request, asked: dict[str, Any]) -> Response:
        question = "\n".join(message["content"] for message in asked["messages"])
        fault = self.faults.first_of(OWN_FAULTS, request)
        match fault:
            case "500":
                return self.complain(500, f"cannot answer {question}")
            case "filtered-question":
                return self.complain(400, f"not allowed: {question}", "content_filter")
            case "wrong-type":
                return Response(200, f"I say: {question}".encode(), "text/plain")
        said = self._said(fault, request, asked, question)
        choices = [{"index": 0, "message": said, "finish_reason": _ENDS.get(fault or "", "stop")}]
        usage: Any = self._usage(question, said["content"] or "")
        if fault in {"no-usage", "negative-usage"}:
            usage = None if fault == "no-usage" else {**usage, "prompt_tokens": -1_000_000}
        answer = Response.of(
            {
                "id": "chatcmpl-1",
                "object": "chat.completion",
                "model": f"{asked['model']}-2026-11",
                "choices": [] if fault == "no-choices" else choices,
                "usage": usage,
            }
        )
        if fault == "malformed":
            answer.body = answer.body[:-20]
        return answer

    def _said(
        self, fault: str | None, request: Request, asked: dict[str, Any], question: str
    ) -> dict[str, Any]:
        bound = (asked.get("response_format") or {}).get("json_schema")
        text = f"{len(question)} characters"
        if bound is not None and fault != "no-json":
            text = json.dumps(_value(bound["schema"], bound["schema"], question))
        match fault:
            case "unfit":
                text = json.dumps({"secretly": question})
            case "fenced":
                text = f"```json\n{text}\n```"
            case "echo":
                text = f"{request.headers.get('authorization')} {question}"
            case "huge":
                text = "x" * 20_000_000
            case "length":
                text = text[: len(text) // 2]
            case "refusal":
                return {"role": "assistant", "content": None, "refusal": f"Not {question}"}
            case "empty" | "tool-call" | "filter":
                return {"role": "assistant", "content": None}
        return {"role": "assistant", "content": text}

    @staticmethod
    def _usage(question: str, text: str) -> dict[str, int]:
        asked, answered = (len(one) // _BYTES_OF_TOKEN + 1 for one in (question, text))
        return {
            "prompt_tokens": asked,
            "completion_tokens": answered,
            "total_tokens": asked + answered,
        }


serve = serving(OpenAIService)


def _value(schema: dict[str, Any], whole: dict[str, Any], question: str) -> Any:
    """A value that fits a schema of the simple kind; of a choice, what the data names."""
    data = question.rpartition("\nDATA-")[0].rpartition("\nDATA-")[2]
    value: Any = f"{len(question)} characters"
    match schema:
        case {"$ref": reference}:
            value = _value(whole["$defs"][reference.rpartition("/")[2]], whole, question)
        case {"enum": [first, *_] as choices}:
            value = next((one for one in choices if str(one) in data), first)
        case {"type": "object"}:
            parts = schema.get("properties", {})
            value = {name: _value(one, whole, question) for name, one in parts.items()}
        case {"type": "array"}:
            value = [_value(schema.get("items", {}), whole, question)]
        case {"type": "boolean"}:
            value = True
        case {"type": "integer" | "number"}:
            value = 42
    return value
