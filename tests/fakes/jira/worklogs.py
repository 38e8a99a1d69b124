"""Worklogs across issues: which were updated or deleted, and those with given ids."""

import threading
from typing import TYPE_CHECKING

from tests.fakes.exchange import Request, Response
from tests.fakes.jira.refusal import RefusedError, number_of, parameters, texts_of
from tests.fakes.jira.timestamps import parse

if TYPE_CHECKING:
    from tests.fakes.jira.service import JiraService

_guard = threading.Lock()


def updated(service: "JiraService", request: Request, version: str, _: list[str]) -> Response:
    """List ids by time of update; those of the last minute are withheld."""
    site = service.site
    until = site.clock() - site.limits.worklogs_withheld_ms
    entries = [entry for entry in _all(service) if entry[0] <= until]
    return _changes(service, request, version, "updated", entries)


def deleted(service: "JiraService", request: Request, version: str, _: list[str]) -> Response:
    with service.site.lock:
        entries = sorted(service.site.deleted_worklogs)
    return _changes(service, request, version, "deleted", entries)


def _all(service: "JiraService") -> list[tuple[int, int]]:
    """Return (updated, id) of every worklog, in that order."""
    site = service.site
    with _guard, site.lock:
        if service.worklogs_version != site.version:
            service.worklogs_by_time = sorted(
                (parse(each.get("updated") or each.get("created") or 0), int(each["id"]))
                for row in site.rows
                if row.project not in site.hidden_projects
                for each in site.worklogs(row)
            )
            service.worklogs_version = site.version
        return service.worklogs_by_time


def _changes(
    service: "JiraService",
    request: Request,
    version: str,
    name: str,
    entries: list[tuple[int, int]],
) -> Response:
    since = number_of(request.query, "since", 0)
    size = service.site.limits.worklog_ids_page
    later = [entry for entry in entries if entry[0] >= since]
    page = later[:size]
    # The next page starts at the last time of this one, so everything at that time belongs here.
    while len(page) < len(later) and later[len(page)][0] == page[-1][0]:
        page.append(later[len(page)])
    link = service.renderers[version].link(f"worklog/{name}?since=")
    last = len(page) == len(later)
    until = page[-1][0] if page else since
    body = {
        "values": [
            {"worklogId": id_, "updatedTime": timestamp, "properties": []}
            for timestamp, id_ in page
        ],
        "since": since,
        "until": until,
        "self": f"{link}{since}",
        "lastPage": last,
    }
    if not last:
        body["nextPage"] = f"{link}{until}"
    return Response.of(body)


def by_ids(service: "JiraService", request: Request, version: str, _: list[str]) -> Response:
    """Give the worklogs with these ids; ids that are unknown or hidden are passed over."""
    ids = texts_of(parameters(request), "ids")
    if len(ids) > 1000 or not all(id_.isdecimal() for id_ in ids):
        raise RefusedError(400, "At most 1000 worklog ids can be given.")
    site = service.site
    found: list[bytes] = []
    for id_ in dict.fromkeys(ids):
        with site.lock:
            row = site.worklog_row(int(id_))
            if row is None or row.project in site.hidden_projects:
                continue
            entries = [each for each in site.worklogs(row) if str(each["id"]) == id_]
        found += [service.renderers[version].worklog(row, each) for each in entries]
    return Response(200, b"[" + b",".join(found) + b"]")
