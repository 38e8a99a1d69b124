"""A site of a few rows in memory, whose every answer a test can tamper with."""

import re
import threading
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import msgspec
import requests

from temporaletl.external.jira.site import IssueRange
from temporaletl.external.threads import Begun
from temporaletl.worker.sources.jira.extract.client import JiraClient
from temporaletl.worker.sources.jira.extract.keyset import FetchedPage, KeysetPagination

Json = dict[str, Any]

#: Times count from here, in 2023: old enough to be stable.
BASE_MS = 1_700_000_000_000
_THREADS = ThreadPoolExecutor(4)


def issue(number: int, *, created: int = 0, updated: int | None = None, **fields: Any) -> Json:
    """An issue created and updated so many milliseconds after BASE_MS."""
    times: Json = {
        "created": BASE_MS + created,
        "updated": BASE_MS + (created if updated is None else updated),
        "comment": {"comments": [], "total": 0},
        "worklog": {"worklogs": [], "total": 0},
    }
    return {"id": str(number), "key": f"A-{number}", "fields": times | fields}


def answer_of(status: int, body: Any) -> requests.Response:
    answer = requests.Response()
    answer.status_code = status
    answer.url = "http://jira.test/x"
    answer._content = msgspec.json.encode(body)
    return answer


class SmallSite:
    """Searches `issues` as Jira does: Cloud by tokens that are offsets, Server by offset.

    `tamper` may change the body of each search answer before it is sent, given the number of
    the search, or replace it by a status.
    """

    def __init__(
        self,
        issues: list[Json],
        *,
        cloud: bool,
        most: int = 100,
        tamper: Callable[[int, Json], int | None] = lambda _n, _body: None,
    ) -> None:
        self.issues = issues
        self.cloud = cloud
        self.most = most
        self.tamper = tamper
        self.queries: list[Json] = []
        self.lists: Callable[[str, str, Json], requests.Response] = lambda *_: answer_of(404, {})

    def begin(self, function: Callable[..., Any], *args: Any) -> Begun[Any]:
        return Begun(_THREADS, function, *args)

    def search(
        self,
        query: Mapping[str, Any],
        *,
        read: Callable[[requests.Response], Any],
        accept: Collection[int] = (),
        stop: threading.Event | None = None,
        attempts: int | None = None,  # noqa: ARG002 - it fails for good or not at all
    ) -> Any:
        assert stop is not None
        self.queries.append(dict(query))
        order = "updated" if "ORDER BY updated" in query["jql"] else "created"
        found = [each for each in self.issues if _matches(query["jql"], each)]
        found.sort(key=lambda each: (each["fields"][order], int(each["id"])))
        token = query.get("nextPageToken")
        start = int(token or query.get("startAt") or 0)
        page = found[start : start + min(self.most, query["maxResults"])]
        body: Json = {"issues": page}
        if not self.cloud:
            body |= {"startAt": start, "total": len(found)}
        elif start + len(page) < len(found):
            body["nextPageToken"] = str(start + len(page))
        status = self.tamper(len(self.queries), body) or 200
        assert status == 200 or status in accept
        return read(answer_of(status, body))

    def request(
        self,
        method: str,
        path: str,
        *,
        read: Callable[[requests.Response], Any] | None = None,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        accept: Collection[int] = (),
        stop: threading.Event | None = None,
        attempts: int | None = None,  # noqa: ARG002 - as above
    ) -> Any:
        assert stop is not None
        self.queries.append({"path": path, **(params or json)})
        answer = self.lists(method, path, dict(params or json))
        assert answer.ok or answer.status_code in accept
        return answer if read is None else read(answer)

    @property
    def client(self) -> JiraClient:
        return JiraClient(cast("Any", self))

    def paginate(
        self, order: Any = "created", *, size: int = 3, cursor: Any = None
    ) -> KeysetPagination:
        return KeysetPagination(self.client, IssueRange(order), size, cursor)


def _matches(jql: str, each: Json) -> bool:
    for name, operator, bound in re.findall(r"(created|updated) (>=|<) (-?\d+)", jql):
        time = each["fields"][name]
        if not (time >= int(bound) if operator == ">=" else time < int(bound)):
            return False
    return True


def ids_of(found: FetchedPage | None) -> list[int]:
    return [] if found is None else [int(record.id) for record in found.records]


def read_all(pagination: KeysetPagination) -> list[FetchedPage]:
    pages: list[FetchedPage] = []
    while (found := pagination.next()) is not None:
        pages.append(found)
        assert len(pages) < 1000
    return pages
