"""Complete lists, whatever one answer holds."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import requests

from temporaletl.worker.sources.jira.extract import changelogs, details
from temporaletl.worker.sources.jira.extract.deletions import is_gone
from tests.unit.jira.small_site import Json, SmallSite, answer_of


def comments_of(count: int) -> list[Json]:
    return [{"id": str(n), "body": f"c{n}"} for n in range(count)]


class Lists:
    """Serves one list from offsets, with at most `most` entries an answer."""

    def __init__(self, name: str, entries: list[Json], *, most: int = 100) -> None:
        self.name = name
        self.entries = entries
        self.most = most
        self.more = 0  # how many too many the total counts
        self.requests: list[int] = []
        self.before: Callable[[int], object] = lambda _number: None

    def __call__(self, method: str, path: str, given: Json) -> requests.Response:
        assert (method, path) == ("GET", f"issue/7/{self.name.removesuffix('s')}")
        start = int(given["startAt"])
        self.requests.append(start)
        self.before(len(self.requests))
        page = self.entries[start : start + min(self.most, int(given["maxResults"]))]
        return answer_of(200, {self.name: page, "total": len(self.entries) + self.more})


def comments_over(lists: Any) -> details.Listing[Any] | None:
    site = SmallSite([], cloud=True)
    site.lists = lists
    return details.read_comments(site.client, "7")


def read_comments(lists: Any) -> list[str] | None:
    found = comments_over(lists)
    if found is None:
        return None
    assert not found.failed
    return sorted((str(each.id) for each in found.entries), key=int)


def ids(count: int) -> list[str]:
    return [str(n) for n in range(count)]


@pytest.mark.parametrize(("count", "most"), [(0, 100), (1, 1), (250, 100), (67, 20), (40, 7)])
def test_a_list_is_read_by_what_came(count: int, most: int) -> None:
    assert read_comments(Lists("comments", comments_of(count), most=most)) == ids(count)


def test_pages_behind_two_that_show_their_length_are_requested_at_once() -> None:
    lists = Lists("comments", comments_of(600))
    together = threading.Barrier(4)
    lists.before = lambda number: together.wait(timeout=120) if number > 2 else None
    assert read_comments(lists) == ids(600)
    assert sorted(lists.requests) == [0, 100, 200, 300, 400, 500]


def test_an_issue_that_is_gone_has_no_list() -> None:
    assert read_comments(lambda *_: answer_of(404, {})) is None


@pytest.mark.parametrize("id_", ["A-1", "²", "\u0661"])
def test_what_is_no_id_of_jira_is_not_asked_for(id_: str) -> None:
    site = SmallSite([], cloud=True)
    assert not is_gone(site.client, id_)
    assert not site.queries


def test_a_total_that_counts_too_much_ends_all_the_same() -> None:
    lists = Lists("comments", comments_of(30), most=20)
    lists.more = 7
    assert read_comments(lists) == ids(30)
    assert len(lists.requests) < 20


def test_an_empty_page_in_the_middle_is_asked_again() -> None:
    lists = Lists("comments", comments_of(50), most=20)
    whole = lists.most

    def skip(number: int) -> None:
        lists.most = 0 if number == 2 else whole

    lists.before = skip
    assert read_comments(lists) == ids(50)


def test_an_entry_deleted_between_pages_hides_no_other() -> None:
    lists = Lists("comments", comments_of(50), most=20)

    def delete(number: int) -> None:
        if number == 2:
            del lists.entries[0]

    lists.before = delete
    assert read_comments(lists) == ids(50)


def test_a_server_that_ignores_the_offset_is_not_read_for_ever() -> None:
    def same(_method: str, _path: str, _given: Json) -> requests.Response:
        return answer_of(200, {"comments": comments_of(20), "total": 67})

    assert read_comments(same) == ids(20)


@pytest.mark.parametrize("total", [lambda _start: 10**9, lambda start: start + 1_000])
def test_a_server_that_ignores_the_offset_and_counts_without_end_is_told(
    total: Callable[[int], int],
) -> None:
    starts: list[int] = []

    def same(_method: str, _path: str, given: Json) -> requests.Response:
        starts.append(int(given["startAt"]))
        assert len(starts) < 50
        return answer_of(200, {"comments": comments_of(20), "total": total(starts[-1])})

    found = comments_over(same)
    assert found is not None
    assert sorted((str(each.id) for each in found.entries), key=int) == ids(20)
    assert found.failed == ["from place 101 on, only entries that came before"]
    assert starts == [0, 20, 40, 60, 80, 100]


def test_entries_that_come_before_others_go_on_hide_none() -> None:
    lists = Lists("comments", comments_of(100), most=20)

    def insert(number: int) -> None:
        if number in {2, 3, 4}:
            lists.entries[:0] = [{"id": str(1_000 * number + n), "body": ""} for n in range(20)]

    lists.before = insert
    assert len(read_comments(lists) or ()) == 160


def test_a_list_without_a_total_ends_where_nothing_new_comes() -> None:
    lists = Lists("comments", comments_of(45), most=20)

    def without_total(*given: Any) -> requests.Response:
        return answer_of(200, {"comments": lists(*given).json()["comments"]})

    assert read_comments(without_total) == ids(45)


def test_an_entry_that_is_none_is_told() -> None:
    with pytest.raises(details.DetailError):
        read_comments(Lists("comments", [{"id": "1"}, {"id": None}]))


class Bulk:
    """Serves changelogs of issues in bulk, two histories an answer."""

    def __init__(self, histories: dict[str, int]) -> None:
        self.entries = [
            (issue_id, {"id": f"{issue_id}0{n}", "created": 1_700_000_000_000 + n})
            for issue_id, count in histories.items()
            for n in range(count)
        ]
        self.requests = 0
        self.token: Callable[[int, str], str] = lambda _number, token: token
        self.status: Callable[[int], int] = lambda _number: 200
        self.single: list[str] = []
        self.silent = False

    def __call__(self, method: str, path: str, given: Json) -> requests.Response:
        if path != "changelog/bulkfetch":
            issue_id = path.split("/")[1]
            self.single.append(issue_id)
            values = [history for each, history in self.entries if each == issue_id]
            return answer_of(200, {"values": values, "total": len(values), "isLast": True})
        assert method == "POST"
        self.requests += 1
        status = self.status(self.requests)
        if status != 200:
            return answer_of(status, {"errorMessages": ["no"]})
        if self.silent:
            return answer_of(200, {"issueChangeLogs": []})
        known = [e for e in self.entries if e[0] in given["issueIdsOrKeys"]]
        start = int(given.get("nextPageToken", 0))
        logs = [
            {"issueId": issue_id, "changeHistories": [history]}
            for issue_id, history in known[start : start + 2]
        ]
        body: Json = {"issueChangeLogs": logs}
        if start + 2 < len(known) or start >= 10**6:
            body["nextPageToken"] = self.token(self.requests, str(start + 2))
        return answer_of(200, body)


def histories_of(found: details.Listing[Any] | Exception | None) -> int:
    assert isinstance(found, details.Listing)
    assert not found.failed
    return len(found.entries)


def changelogs_of(bulk: Bulk) -> dict[str, details.Listing[Any] | Exception | None]:
    site = SmallSite([], cloud=True)
    site.lists = bulk
    return {**changelogs.read_changelogs(site.client, ["1", "2", "3"])}


def read_bulk(bulk: Bulk) -> dict[str, int]:
    found = changelogs_of(bulk)
    assert all(isinstance(each, details.Listing) for each in found.values())
    return {id_: histories_of(each) for id_, each in found.items()}


def test_changelogs_come_in_bulk() -> None:
    bulk = Bulk({"1": 5, "3": 2})
    assert read_bulk(bulk) == {"1": 5, "3": 2}
    assert (bulk.requests, bulk.single) == (4, [])


@pytest.mark.parametrize("status", [400, 404, 405])
def test_without_bulk_each_issue_is_asked(status: int) -> None:
    bulk = Bulk({"1": 5, "2": 1, "3": 2})
    bulk.status = lambda _: status
    assert read_bulk(bulk) == {"1": 5, "2": 1, "3": 2}
    assert bulk.single == ["1", "2", "3"]


def test_a_token_refused_in_the_middle_loses_nothing() -> None:
    bulk = Bulk({"1": 5, "2": 1, "3": 2})
    bulk.status = lambda number: 400 if number == 3 else 200
    assert read_bulk(bulk) == {"1": 5, "2": 1, "3": 2}
    assert bulk.single == []


def test_a_token_that_keeps_repeating_is_got_around() -> None:
    bulk = Bulk({"1": 5, "2": 1, "3": 2})
    bulk.token = lambda _number, _token: "2"
    assert read_bulk(bulk) == {"1": 5, "2": 1, "3": 2}
    assert bulk.requests < 20


def test_a_bulk_answer_that_tells_of_no_issue_is_not_taken_for_their_having_none() -> None:
    bulk = Bulk({"1": 5, "2": 1, "3": 2})
    bulk.silent = True
    assert read_bulk(bulk) == {"1": 5, "2": 1, "3": 2}


@pytest.mark.parametrize(("silent", "none"), [(True, 0), (False, 1)])
def test_a_history_that_is_none_costs_its_issue_alone(silent: bool, none: int) -> None:
    """Also where the bulk answer is silent."""
    bulk = Bulk({"1": 1, "2": 1, "3": 1})
    bulk.silent = silent
    id_ = "123"[none]
    bulk.entries[none] = (id_, {"id": "7", "items": "many"})
    found = changelogs_of(bulk)
    assert isinstance(found.pop(id_), details.DetailError)
    assert [histories_of(each) for each in found.values()] == [1, 1]


def test_issues_that_never_changed_are_asked_for_no_more_than_a_few_by_themselves() -> None:
    bulk = Bulk({})
    assert read_bulk(bulk) == {}
    assert bulk.single == ["1", "2", "3"]


def test_bulk_pages_that_go_on_without_an_entry_are_got_around() -> None:
    bulk = Bulk({"1": 5, "2": 1, "3": 2})
    bulk.token = lambda number, _token: str(10**6 + number)
    assert read_bulk(bulk) == {"1": 5, "2": 1, "3": 2}
    assert bulk.single == ["1", "2", "3"]


def test_a_data_centers_changelog_comes_with_the_issue() -> None:
    histories = [{"id": n, "created": "2023-11-14T22:13:20.000+0000"} for n in range(3)]
    site = SmallSite([], cloud=False)

    def whole(method: str, path: str, given: Json) -> requests.Response:
        assert (method, path, given["expand"]) == ("GET", "issue/7", "changelog")
        return answer_of(200, {"changelog": {"histories": histories, "total": 3}})

    site.lists = whole
    assert histories_of(details.read_changelog(site.client, "7")) == 3
