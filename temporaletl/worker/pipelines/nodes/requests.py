"""Nodes that send and await requests: api_call, webhook, wait_for_webhook and approval."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from temporaletl.worker.pipelines.nodes.fields import (
    ExpressionField,
    Filled,
    FilledText,
    NodeData,
    SecretTexts,
)

_DAY_SECONDS = 86_400
#: Headers that say where a request ends, whom it is for, and what is of the connection or its
#: proxy: the client's own.
_OF_THE_CLIENT = frozenset(
    {"accept-encoding", "connection", "content-length", "expect", "host", "keep-alive"}
    | {"proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)


def _without_the_clients(headers: dict[str, str]) -> dict[str, str]:
    for name in headers:
        if name.lower() in _OF_THE_CLIENT:
            raise ValueError(f"{name} is set by the client itself")
    return headers


Headers = Annotated[SecretTexts, AfterValidator(_without_the_clients)]


class Paging(BaseModel):
    """How the pages of an answer follow: `next_url` or `next_query` of the page before, until null.

    The items of all pages are those of `items`, one list. Each expression reads `page`: `status`,
    `headers` and `data` of the page before. A page beyond `max_pages` fails the node.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    items: str
    next_url: str | None = None
    next_query: dict[str, str] | None = None
    max_pages: int = Field(100, ge=1, le=10_000)

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.next_url is None) == (self.next_query is None):
            raise ValueError("needs one of next_url and next_query")
        return self


class ApiCallData(NodeData):
    """`api_call`: a request; its result has `status`, `headers` and `data`.

    With `paging`, it is the list of the items of all pages.
    """

    url: FilledText
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"] = "GET"
    headers: Headers = Field(default_factory=dict)
    query: SecretTexts = Field(default_factory=dict)
    body: Filled = None
    response: Literal["json", "text"] = "json"
    paging: Annotated[Paging | None, ExpressionField(("page",))] = None

    @property
    def writes(self) -> bool:
        return self.method not in ("GET", "HEAD")


class WebhookData(NodeData):
    """`webhook`: tells another service, signed with a secret; its result has `status`."""

    url: FilledText
    payload: Filled
    headers: Headers = Field(default_factory=dict)
    signing_secret: str | None = Field(None, description="name of the secret that signs it")

    @property
    def writes(self) -> bool:
        return True


class WaitForWebhookData(NodeData):
    """`wait_for_webhook`: waits for a request to the execution's address, whose body is its result.

    Takes the edges `received` or `timeout`.
    """

    outcomes: ClassVar[tuple[str | None, ...]] = ("received", "timeout")

    timeout_seconds: float = Field(_DAY_SECONDS, gt=0, le=365 * _DAY_SECONDS)


class ApprovalData(NodeData):
    """`approval`: waits until a person decides; takes `approved`, `rejected` or `timeout`."""

    outcomes: ClassVar[tuple[str | None, ...]] = ("approved", "rejected", "timeout")

    title: FilledText
    details: Filled = None
    timeout_seconds: float = Field(_DAY_SECONDS, gt=0, le=365 * _DAY_SECONDS)
