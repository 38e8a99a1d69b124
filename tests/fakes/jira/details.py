"""Single issues, their changelogs, comments and worklogs, alone or in bulk."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import msgspec

from tests.fakes.exchange import Request, Response
from tests.fakes.jira.refusal import RefusedError, number_of, parameters, text_of, texts_of
from tests.fakes.jira.render import Rendered, Selection
from tests.fakes.jira.site import Row
from tests.fakes.jira.timestamps import parse

if TYPE_CHECKING:
    from tests.fakes.jira.service import JiraService

_NO_ISSUE = "Issue does not exist or you do not have permission to see it."


def find(service: "JiraService", id_or_key: str) -> Row:
    """Return an issue.

    Raises:
        RefusedError: there is none, or it is hidden.
    """
    row = service.site.find(id_or_key)
    if row is None:
        raise RefusedError(404, _NO_ISSUE)
    return row


def issue(service: "JiraService", request: Request, version: str, path: list[str]) -> Response:
    row = find(service, path[1])
    wanted = Selection.of(request.query.get("fields", []), request.query.get("expand", []), "*all")
    cap = service.site.limits.issue_histories
    return Response(200, service.renderers[version].issue(row, wanted, histories=cap))


def changelog(service: "JiraService", request: Request, version: str, path: list[str]) -> Response:
    row = find(service, path[1])
    made = service.renderers[version].get(row)
    entries = [made.history(number) for number in range(len(made.histories))]
    start, requested, page, total = _page(service, request, entries)
    link = service.renderers[version].link(f"issue/{row.id}/changelog")
    last = start + len(page) >= len(entries)
    body = b'{"self":"%s","maxResults":%d,"startAt":%d,"total":%d,"isLast":%s,"values":[%s]}' % (
        link.encode(),
        requested,
        start,
        total,
        b"true" if last else b"false",
        b",".join(page),
    )
    return Response(200, body)


def comments(service: "JiraService", request: Request, version: str, path: list[str]) -> Response:
    made = service.renderers[version].get(find(service, path[1]))
    entries = made.comments
    if request.first("orderBy").lstrip("+") == "-created":
        entries = entries[::-1]
    return _listing(service, request, b"comments", entries)


def worklogs(service: "JiraService", request: Request, version: str, path: list[str]) -> Response:
    row = find(service, path[1])
    made = service.renderers[version].get(row)
    entries = made.worklogs
    after = number_of(request.query, "startedAfter", 0)
    before = number_of(request.query, "startedBefore", 0)
    if after or before:
        with service.site.lock:
            started = [parse(each.get("started") or 0) for each in service.site.worklogs(row)]
        entries = [
            entry
            for entry, timestamp in zip(entries, started, strict=True)
            if timestamp >= after and (not before or timestamp < before)
        ]
    return _listing(service, request, b"worklogs", entries)


def _listing(
    service: "JiraService", request: Request, name: bytes, entries: list[bytes]
) -> Response:
    start, requested, page, total = _page(service, request, entries)
    body = b'{"startAt":%d,"maxResults":%d,"total":%d,"%s":[%s]}' % (
        start,
        requested,
        total,
        name,
        b",".join(page),
    )
    return Response(200, body)


def _page(
    service: "JiraService", request: Request, entries: list[bytes]
) -> tuple[int, int, list[bytes], int]:
    """Return the page's start, its reported size, its entries, and the reported total."""
    most = service.site.limits.detail_page
    start = max(0, number_of(request.query, "startAt", 0))
    requested = number_of(request.query, "maxResults", most)
    requested = most if requested < 0 else min(requested, most)
    size = requested
    faults = service.faults
    if start and faults.draw("empty-page", request):
        size = 0
    elif size > 1 and faults.draw("short-page", request):
        size //= 2
    total = len(entries)
    if faults.draw("total-too-large", request):
        total += 7
    return start, requested, entries[start : start + size], total


def bulk_issues(service: "JiraService", request: Request, version: str, _: list[str]) -> Response:
    given = parameters(request)
    names = texts_of(given, "issueIdsOrKeys")
    if not 0 < len(names) <= 100:
        raise RefusedError(400, "Between 1 and 100 issues can be fetched at once.")
    wanted = Selection.of(texts_of(given, "fields"), texts_of(given, "expand"), "*navigable")
    renderer = service.renderers[version]
    cap = service.site.limits.search_histories
    rows = {row.id: row for name in names if (row := service.site.find(name)) is not None}
    missing = [
        {"id": name, "errorMessage": _NO_ISSUE} for name in names if service.site.find(name) is None
    ]
    shown = b",".join(renderer.issue(row, wanted, histories=cap) for row in rows.values())
    body = b'{"issues":[%s],"issueErrors":%s}' % (shown, msgspec.json.encode(missing))
    return Response(200, body)


def bulk_changelog(
    service: "JiraService", request: Request, version: str, _: list[str]
) -> Response:
    """Return the histories of many issues, oldest first over all of them.

    An issue comes up once on each page that has histories of it.
    """
    given = parameters(request)
    names = texts_of(given, "issueIdsOrKeys")
    field_ids = set(texts_of(given, "fieldIds"))
    if not 0 < len(names) <= 1000:
        raise RefusedError(400, "Between 1 and 1000 issue ids or keys must be given.")
    if len(field_ids) > 10:
        raise RefusedError(400, "At most 10 field ids can be given.")
    limits = service.site.limits
    requested = number_of(given, "maxResults", limits.bulk_page)
    if requested < 1:
        raise RefusedError(400, "The value of 'maxResults' must be greater than 0.")
    size = min(requested, limits.bulk_page_most)
    sent = text_of(given, "nextPageToken")
    start = _bulk_offset(service, request, sent)
    if start and service.faults.draw("empty-page", request):
        size = 0
    elif size > 1 and service.faults.draw("short-page", request):
        size //= 2
    rows = {row.id: row for name in names if (row := service.site.find(name)) is not None}
    entries = _by_age(service, version, rows.values(), field_ids)
    page = entries[start : start + size]
    end = start + len(page)
    follow = b""
    if end < len(entries):
        token = f"bulk.{next(service.passes)}.{end}"
        if sent and service.faults.draw("repeated-page-token", request):
            token = sent
        follow = b',"nextPageToken":"' + token.encode() + b'"'
    logs = _grouped(page, start, limits.bulk_created)
    return Response(200, b'{"issueChangeLogs":[' + logs + b"]" + follow + b"}")


def _bulk_offset(service: "JiraService", request: Request, sent: str) -> int:
    if not sent:
        return 0
    if service.faults.draw("expired-page-token", request):
        service.expired_tokens.add(sent)
    kind, _, rest = sent.partition(".")
    offset = rest.rpartition(".")[2]
    if kind != "bulk" or not offset.isdecimal() or sent in service.expired_tokens:
        raise RefusedError(400, "The provided next page token is invalid or expired.")
    return int(offset)


type _Entry = tuple[int, int, Rendered, int]


def _grouped(page: list[_Entry], start: int, created: str) -> bytes:
    """Render a page's histories, those of one issue together."""
    groups: dict[int, list[bytes]] = {}
    for index, (_, issue_id, made, number) in enumerate(page, start):
        epoch = created == "epoch" or (created == "mixed" and index % 2 > 0)
        groups.setdefault(issue_id, []).append(made.history(number, epoch=epoch))
    return b",".join(
        b'{"issueId":"%d","changeHistories":[%s]}' % (issue_id, b",".join(histories))
        for issue_id, histories in groups.items()
    )


def _by_age(
    service: "JiraService", version: str, rows: Iterable[Row], field_ids: set[str]
) -> list[_Entry]:
    """Return (time, issue id, its rendering, number) of each history, oldest first."""
    renderer = service.renderers[version]
    entries: list[_Entry] = []
    for row in rows:
        made = renderer.get(row)
        numbers: Iterable[int] = range(len(made.histories))
        if field_ids:
            with service.site.lock:
                histories = service.site.issue(row).histories
            numbers = [number for number in numbers if _touches(histories[number], field_ids)]
        entries += [(made.histories[number][2], row.id, made, number) for number in numbers]
    entries.sort(key=lambda entry: (entry[0], entry[1], entry[3]))
    return entries


def _touches(history: dict[str, Any], field_ids: set[str]) -> bool:
    return any(
        (item.get("fieldId") or item.get("field")) in field_ids
        for item in history.get("items") or []
    )
