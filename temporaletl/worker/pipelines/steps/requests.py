"""Steps that send requests: api_call and webhook."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from pydantic import JsonValue

from temporaletl.errors import PermanentError
from temporaletl.warehouse.pipeline_results import encode, split
from temporaletl.webhook_signatures import signed_headers, signing_key
from temporaletl.worker.pipelines.egress.client import Answer, OutgoingRequest, next_address
from temporaletl.worker.pipelines.expressions.templates import as_text
from temporaletl.worker.pipelines.nodes.requests import ApiCallData, Paging, WebhookData
from temporaletl.worker.pipelines.steps.answers import check_status, data_of, headers_of
from temporaletl.worker.pipelines.steps.context import (
    PART_BYTES,
    PART_ITEMS,
    NodeContext,
    Produced,
    as_object,
)

_MEGABYTE = 1_000_000
_KEY = "Idempotency-Key"
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"


async def run_api_call(context: NodeContext[ApiCallData]) -> Produced:
    """Send a request; give its answer, or the items of all its pages."""
    request = await api_request(context)
    if context.data.paging is not None:
        return await _pages(context, request, context.data.paging)
    answer = await send(context, request)
    value = await _value(context, answer, host_of(request.url))
    return Produced(value, details={"status": answer.status})


async def run_webhook(context: NodeContext[WebhookData]) -> Produced:
    """Post the payload, signed where a secret is named, and with a key that is always the same."""
    request = await webhook_request(context)
    signed = signed_headers(_signing_key(context), request.headers[_KEY], request.body or b"")
    answer = await send(context, replace(request, headers={**request.headers, **signed}))
    return Produced({"status": answer.status})


async def webhook_request(context: NodeContext[WebhookData]) -> OutgoingRequest:
    """The request of a `webhook`, as yet unsigned; raises as `NodeContext.fill` and `address`."""
    data = context.data
    url = await address(context, data.url)
    filled = await context.fill({"payload": data.payload, "headers": data.headers})
    body = json.dumps(filled["payload"], ensure_ascii=False).encode()
    headers = {"Content-Type": _JSON, _KEY: context.idempotency_key} | _texts(filled["headers"])
    return OutgoingRequest("POST", url, headers, body=body)


def _signing_key(context: NodeContext[WebhookData]) -> bytes | None:
    name = context.data.signing_secret
    if name is None:
        return None
    try:
        return signing_key(context.services.secrets.read(name))
    except ValueError as error:
        raise PermanentError(f"the secret {name!r} {error}") from None


async def address(context: NodeContext[Any], template: str) -> str:
    """An address with its holes filled: what fills one is a part of the path or the query.

    Raises:
        PermanentError: it would leave its path.
    """
    url = str(await context.fill(template, write=_escaped))
    path = url.partition("?")[0].partition("#")[0].split("/")[3:]
    if any(step in (".", "..") for step in path):
        raise PermanentError(f"{host_of(url)}: a step of the path is . or ..")
    return url


async def send(context: NodeContext[Any], request: OutgoingRequest) -> Answer:
    """Send a request of a node; returns its answer, which is no refusal.

    Raises:
        RetryableError, PermanentError: as `GuardedClient.send` and `check_status`.
    """
    within = timedelta(seconds=context.data.timeout_seconds)
    answer = await context.services.client.send(request, within=within)
    check_status(answer, host_of(request.url))
    return answer


def host_of(url: str) -> str:
    """The host of an address, for messages."""
    return urlsplit(url).hostname or url


async def api_request(context: NodeContext[ApiCallData]) -> OutgoingRequest:
    """The request of an `api_call`; raises as `NodeContext.fill` and `address`."""
    data = context.data
    url = await address(context, data.url)
    filled = await context.fill({"headers": data.headers, "query": data.query, "body": data.body})
    headers = _texts(filled["headers"])
    if data.method not in ("GET", "HEAD"):
        headers.setdefault(_KEY, context.idempotency_key)
    body, kind = _body(filled["body"], headers)
    if kind is not None:
        headers.setdefault("Content-Type", kind)
    return OutgoingRequest(data.method, url, headers, _parameters(filled["query"]), body)


def _body(value: JsonValue, headers: Mapping[str, str]) -> tuple[bytes | None, str | None]:
    """A body as its Content-Type demands, JSON unless the headers say otherwise."""
    if value is None:
        return None, None
    kind = next((one for name, one in headers.items() if name.lower() == "content-type"), None)
    if kind is not None and kind.lower().startswith(_FORM) and isinstance(value, dict):
        return urlencode(_parameters(value), doseq=True).encode(), None
    if kind is not None and "json" not in kind.lower() and isinstance(value, str):
        return value.encode(), None
    return json.dumps(value, ensure_ascii=False).encode(), None if kind else _JSON


def _texts(values: Mapping[str, JsonValue]) -> dict[str, str]:
    return {name: as_text(value) for name, value in values.items() if value is not None}


def _parameters(values: Mapping[str, JsonValue]) -> dict[str, str | list[str]]:
    """Parameters by name: a list is sent as several of one name, null not at all."""
    return {
        name: [as_text(one) for one in value] if isinstance(value, list) else as_text(value)
        for name, value in values.items()
        if value is not None
    }


def _escaped(value: JsonValue) -> str:
    return quote(as_text(value), safe="")


async def _value(
    context: NodeContext[ApiCallData], answer: Answer, host: str
) -> dict[str, JsonValue]:
    as_json = context.data.response == "json"
    data = await data_of(answer, host, as_json=as_json)
    return {"status": answer.status, "headers": headers_of(answer), "data": data}


# Pages


async def _pages(
    context: NodeContext[ApiCallData], request: OutgoingRequest, paging: Paging
) -> Produced:
    """The items of all pages, one after the other.

    Raises:
        PermanentError: a page repeats one before, is on another host, or too much is listed.
    """
    items: list[JsonValue] = []
    size, number = 0, 0
    seen = {_print_of(request)}
    before = b""
    following: OutgoingRequest | None = request
    while following is not None:
        request, number = following, number + 1
        host = host_of(request.url)
        if number > paging.max_pages:
            raise PermanentError(f"{host}: more pages than max_pages = {paging.max_pages} follow")
        answer = await send(context, _numbered(request, number))
        page = await _value(context, answer, host)
        found, following = await _read(context, request, paging, page)
        digest = hashlib.sha256(answer.body).digest()
        if following is not None and (_print_of(following) in seen or (found and digest == before)):
            raise PermanentError(f"{host}: page {number} repeats one before: its pages do not end")
        if following is not None:
            seen.add(_print_of(following))
        before = digest
        size += encode(found).size
        if size > context.services.settings.list_megabytes * _MEGABYTE:
            raise PermanentError(f"{host}: its pages hold more than PIPELINE_LIST_MB allows")
        items += found
    return Produced(
        parts=[*split(items, most_items=PART_ITEMS, most_bytes=PART_BYTES)],
        details={"status": answer.status, "pages": number},
    )


async def _read(
    context: NodeContext[ApiCallData],
    request: OutgoingRequest,
    paging: Paging,
    page: dict[str, JsonValue],
) -> tuple[list[JsonValue], OutgoingRequest | None]:
    """The items of a page, and the request for the next one."""
    items = context.parse(paging.items, "page")
    texts = paging.next_query or {"next_url": paging.next_url or ""}
    following = {name: context.parse(text, "page") for name, text in texts.items()}
    found = await context.run(
        f"[{items.code}, {as_object(following)}]", [items, *following.values()], page=page
    )
    assert isinstance(found, list)  # noqa: S101 - of the code above
    listed, parameters = found
    if not isinstance(listed, list):
        raise PermanentError(f"paging.items is no list but {as_text(listed)[:60] or 'null'}")
    assert isinstance(parameters, dict)  # noqa: S101 - of the code above
    if any(one is None for one in parameters.values()):
        return listed, None
    if paging.next_query is not None:
        query = {**request.query, **_parameters(parameters)}
        return listed, replace(request, query=query)
    link = parameters["next_url"]
    if not link:
        return listed, None
    # The link has all that it needs.
    return listed, replace(request, url=next_address(request.url, as_text(link)), query={})


def _numbered(request: OutgoingRequest, number: int) -> OutgoingRequest:
    """The request for a page, with a key of its own."""
    if number == 1 or _KEY not in request.headers:
        return request
    key = f"{request.headers[_KEY]}/page/{number}"
    return replace(request, headers={**request.headers, _KEY: key})


def _print_of(request: OutgoingRequest) -> tuple[str, str]:
    return request.url, json.dumps(request.query, sort_keys=True)
