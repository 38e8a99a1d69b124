"""Searches: by token on Cloud, by offset on Server, and the approximate count."""

import base64
import binascii
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import xxhash

from tests.fakes.exchange import Request, Response
from tests.fakes.jira.refusal import RefusedError, number_of, parameters, text_of, texts_of
from tests.fakes.jira.render import Selection
from tests.fakes.jira.site import Row

if TYPE_CHECKING:
    from tests.fakes.jira.service import JiraService

_BAD_TOKEN = "The provided next page token is invalid or expired. Start the search again."


class _Token(msgspec.Struct):
    """A page token: an offset into what the search finds when the token is used."""

    pass_: int
    offset: int
    query: str

    def text(self) -> str:
        return base64.urlsafe_b64encode(msgspec.json.encode(self)).decode()


def _read_token(text: str, query: str) -> _Token:
    try:
        token = msgspec.json.decode(base64.urlsafe_b64decode(text), type=_Token)
    except (binascii.Error, ValueError):
        raise RefusedError(400, _BAD_TOKEN) from None
    if token.query != query or token.offset < 0:
        raise RefusedError(400, _BAD_TOKEN)
    return token


def by_token(service: "JiraService", request: Request, version: str, _: list[str]) -> Response:
    given = parameters(request)
    text = text_of(given, "jql")
    wanted = Selection.of(texts_of(given, "fields"), texts_of(given, "expand"), "id")
    limits = service.site.limits
    most = limits.search_page if wanted.beyond_ids else limits.id_page
    requested = number_of(given, "maxResults", 50)
    if requested < 1:
        raise RefusedError(400, "The value of 'maxResults' must be greater than 0.")
    if len(given.get("reconcileIssues", [])) > 50:
        raise RefusedError(400, "At most 50 issues can be reconciled.")
    query = f"{xxhash.xxh3_64_intdigest(text.encode()):x}"
    sent = text_of(given, "nextPageToken")
    token = _read_token(sent, query) if sent else _Token(next(service.passes), 0, query)
    if sent:
        _disturb(service, request, sent, text, token.offset)
    rows = service.searcher.find(text, bounded=True)
    size = _page_size(service, request, min(requested, most), middle=token.offset > 0)
    page = rows[token.offset : token.offset + size]
    end = token.offset + len(page)
    last = end >= len(rows)
    parts = [
        b'{"issues":[',
        b",".join(_issues(service, version, page, wanted)),
        b"]",
    ]
    if not last:
        # A pass without progress gets a new token all the same: it is no repetition.
        pass_ = token.pass_ if page else next(service.passes)
        follow = _Token(pass_, end, query).text()
        if sent and service.faults.draw("repeated-page-token", request):
            follow = sent
        parts.append(b',"nextPageToken":"' + follow.encode() + b'"')
    shown = {"always": True, "never": False}.get(limits.is_last, (token.pass_ + end) % 4 != 0)
    if shown:
        parts.append(b',"isLast":' + (b"true" if last else b"false"))
    parts.append(b"}")
    return Response(200, b"".join(parts))


def by_offset(service: "JiraService", request: Request, version: str, _: list[str]) -> Response:
    if service.site.cloud:
        raise RefusedError(
            410,
            "The requested API has been removed. Please migrate to the /rest/api/3/search/jql API.",
        )
    given = parameters(request)
    text = text_of(given, "jql")
    wanted = Selection.of(texts_of(given, "fields"), texts_of(given, "expand"), "*navigable")
    start = max(0, number_of(given, "startAt", 0))
    most = service.site.limits.search_page
    requested = number_of(given, "maxResults", 50)
    requested = most if requested < 0 else min(requested, most)
    if start:
        _change_row(service, request, text, start)
    validate = text_of(given, "validateQuery").lower() or "strict"
    strict = validate in {"strict", "true"}
    rows = service.searcher.find(text, known_keys=strict)
    size = _page_size(service, request, requested, middle=start > 0)
    page = rows[start : start + size]
    total = len(rows)
    if service.faults.draw("total-too-large", request):
        total += 7
    body = b'{"expand":"schema,names","startAt":%d,"maxResults":%d,"total":%d,"issues":[%s]}' % (
        start,
        requested,
        total,
        b",".join(_issues(service, version, page, wanted)),
    )
    return Response(200, body)


def approximate_count(
    service: "JiraService", request: Request, _version: str, _: list[str]
) -> Response:
    given = parameters(request)
    count = len(service.searcher.find(text_of(given, "jql"), bounded=True))
    if service.faults.draw("total-too-large", request):
        count += 7
    return Response.of({"count": count})


def _issues(
    service: "JiraService", version: str, rows: Sequence[Row], wanted: Selection
) -> list[bytes]:
    if wanted.names == ("id",) and not wanted.changelog:
        return [b'{"id":"%d"}' % row.id for row in rows]
    renderer = service.renderers[version]
    cap = service.site.limits.search_histories
    return [renderer.issue(row, wanted, histories=cap) for row in rows]


def _page_size(service: "JiraService", request: Request, size: int, *, middle: bool) -> int:
    if middle and service.faults.draw("empty-page", request):
        return 0
    if size > 1 and service.faults.draw("short-page", request):
        return max(1, size // 2)
    return size


def _disturb(service: "JiraService", request: Request, sent: str, text: str, offset: int) -> None:
    """Inject the faults that occur between two pages."""
    if service.faults.draw("expired-page-token", request):
        service.expired_tokens.add(sent)
    if sent in service.expired_tokens:
        raise RefusedError(400, _BAD_TOKEN)
    _change_row(service, request, text, offset)


def _change_row(service: "JiraService", request: Request, text: str, offset: int) -> None:
    if offset and service.faults.draw("changing-rows", request):
        listed: Any = service.searcher.find(text)[:offset]
        if listed:
            # One of the rows listed before moves, so those behind it slip forward.
            service.site.edit.touch(listed[offset // 2 % len(listed)].id)
