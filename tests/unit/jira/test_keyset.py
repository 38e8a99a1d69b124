"""Keyset pagination over a range of issues, on sites that misbehave."""

import json
import time
from copy import deepcopy
from typing import Any

import pytest

from temporaletl import ConfigurationError, SourceUnavailableError
from tests.unit.jira.small_site import BASE_MS, Json, SmallSite, ids_of, issue, read_all

BOTH = pytest.mark.parametrize("cloud", [True, False], ids=["cloud", "server"])


def delivered(pages: list[Any]) -> list[int]:
    return [id_ for page in pages for id_ in ids_of(page)]


@BOTH
@pytest.mark.parametrize("size", [1, 2, 3, 10, 50])
def test_every_issue_comes_once(size: int, *, cloud: bool) -> None:
    site = SmallSite([issue(n, created=n * 1000) for n in range(20)], cloud=cloud)
    assert delivered(read_all(site.paginate(size=size))) == list(range(20))


@BOTH
def test_an_empty_range_ends_at_once(*, cloud: bool) -> None:
    site = SmallSite([], cloud=cloud)
    assert site.paginate().next() is None
    assert len(site.queries) == 1


@BOTH
@pytest.mark.parametrize("ties", [1, 2, 3, 7, 20])
def test_issues_of_the_same_time_all_come(ties: int, *, cloud: bool) -> None:
    rows = [issue(n, created=0 if n < 4 else 1000 if n < 4 + ties else n * 1000) for n in range(30)]
    site = SmallSite(rows, cloud=cloud)
    assert sorted(delivered(read_all(site.paginate(size=3)))) == list(range(30))


@BOTH
def test_reading_goes_on_from_any_cursor(*, cloud: bool) -> None:
    rows = [issue(n, created=n // 8 * 1000) for n in range(40)]
    pages = read_all(SmallSite(rows, cloud=cloud).paginate(size=3))
    before: set[int] = set()
    for page in pages:
        before |= set(ids_of(page))
        cursor = json.loads(json.dumps(page.cursor))
        after = delivered(read_all(SmallSite(rows, cloud=cloud).paginate(size=3, cursor=cursor)))
        assert before | set(after) == set(range(40))


@BOTH
def test_little_is_read_again_after_an_interruption(*, cloud: bool) -> None:
    rows = [issue(n, created=n * 1000) for n in range(20)]
    pages = read_all(SmallSite(rows, cloud=cloud).paginate(size=4))
    for number, page in enumerate(pages):
        again = read_all(SmallSite(rows, cloud=cloud).paginate(size=4, cursor=page.cursor))
        assert delivered(again) == delivered(pages[number + 1 :])


@BOTH
def test_a_bad_cursor_is_told(*, cloud: bool) -> None:
    with pytest.raises(ConfigurationError, match="cursor"):
        SmallSite([], cloud=cloud).paginate(cursor={"at": "noon"})


@BOTH
@pytest.mark.parametrize("ties", [0, 12])
def test_rows_that_move_to_the_end_hide_no_other(ties: int, *, cloud: bool) -> None:
    rows = [issue(n, updated=5000 if n < ties else n * 1000) for n in range(24)]

    def move(number: int, body: Json) -> None:
        # After each answer one of the issues already listed is changed.
        body["issues"] = deepcopy(body["issues"])
        if number <= 8:
            rows[number - 1]["fields"]["updated"] = BASE_MS + 100_000 + number

    site = SmallSite(rows, cloud=cloud, tamper=move)
    got = delivered(read_all(site.paginate("updated", size=4)))
    assert set(got) == set(range(24))
    assert all(got.count(id_) <= 2 for id_ in got)


@BOTH
def test_a_deleted_row_hides_no_other(*, cloud: bool) -> None:
    rows = [issue(n, created=1000) for n in range(12)] + [issue(20, created=2000)]

    def delete(number: int, _body: Json) -> None:
        if number == 2:
            del rows[0]

    site = SmallSite(rows, cloud=cloud, tamper=delete)
    assert set(delivered(read_all(site.paginate(size=4)))) == {*range(12), 20}


def test_a_row_whose_index_is_behind_does_not_move_the_high_water_mark_ahead() -> None:
    now_ms = int(time.time() * 1000)
    rows = [issue(n, updated=n * 1000) for n in range(12)]

    def show_newer(number: int, body: Json) -> None:
        if number == 1:
            # Found where it was, shown as it is now.
            fields = body["issues"][-1]["fields"]
            body["issues"][-1] = body["issues"][-1] | {"fields": fields | {"updated": now_ms}}

    site = SmallSite(rows, cloud=True, tamper=show_newer)
    assert set(delivered(read_all(site.paginate("updated", size=4)))) == set(range(12))


def test_short_and_empty_answers_with_a_token_are_not_the_end() -> None:
    rows = [issue(n, created=1000 if n < 9 else n * 1000) for n in range(20)]

    def cut(number: int, body: Json) -> None:
        if number % 3 and "nextPageToken" in body:
            first = int(body["nextPageToken"]) - len(body["issues"])
            keep = number % 2
            body["issues"] = body["issues"][:keep]
            # An empty answer's token differs from the one it was asked with, but leads there.
            body["nextPageToken"] = str(first + keep) + " " * number * (1 - keep)

    site = SmallSite(rows, cloud=True, tamper=cut)
    assert set(delivered(read_all(site.paginate(size=4)))) == set(range(20))


def test_a_last_answer_need_not_say_so() -> None:
    site = SmallSite([issue(1)], cloud=True, tamper=lambda _n, body: body.update(isLast=False))
    assert delivered(read_all(site.paginate())) == [1]


def test_a_refused_token_is_a_new_beginning() -> None:
    rows = [issue(n, created=1000) for n in range(10)]
    refused: list[int] = []

    def refuse(number: int, _body: Json) -> int | None:
        if number in {3, 5}:
            refused.append(number)
            return 400
        return None

    site = SmallSite(rows, cloud=True, tamper=refuse)
    assert sorted(delivered(read_all(site.paginate(size=2)))) == list(range(10))
    assert refused == [3, 5]


def test_a_token_that_is_always_refused_is_given_up() -> None:
    site = SmallSite([issue(n, created=1000) for n in range(10)], cloud=True)
    site.tamper = lambda _n, _body: 400 if "nextPageToken" in site.queries[-1] else None
    with pytest.raises(SourceUnavailableError, match="refusing its own page tokens"):
        read_all(site.paginate(size=2))
    assert len(site.queries) < 50


def test_a_repeated_token_is_given_up_in_the_end() -> None:
    site = SmallSite([issue(n, created=1000) for n in range(10)], cloud=True)
    site.tamper = lambda _n, body: body.update(nextPageToken="2")
    with pytest.raises(SourceUnavailableError, match="the search leads in circles"):
        read_all(site.paginate(size=2))
    assert len(site.queries) < 50


def test_fresh_tokens_without_rows_do_not_go_on_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("temporaletl.worker.sources.jira.extract.keyset._MOST_FRUITLESS", 20)
    site = SmallSite([], cloud=True)
    site.tamper = lambda number, body: body.update(nextPageToken=f"{number}".zfill(9))
    with pytest.raises(SourceUnavailableError, match="shows no new issue"):
        read_all(site.paginate())


@pytest.mark.parametrize("ties", [1, 10])
def test_a_total_that_counts_too_much_ends_all_the_same(ties: int) -> None:
    rows = [issue(n, created=1000 if n < ties else n * 1000) for n in range(12)]
    site = SmallSite(rows, cloud=False, tamper=lambda _n, body: body.update(total=999))
    assert sorted(delivered(read_all(site.paginate(size=4)))) == list(range(12))
    assert len(site.queries) < 40


def test_a_server_that_gives_less_than_asked_for_is_read_to_its_end() -> None:
    rows = [issue(n, created=n // 6 * 1000) for n in range(20)]
    site = SmallSite(rows, cloud=False, most=2)
    assert sorted(delivered(read_all(site.paginate(size=100)))) == list(range(20))


def test_empty_middle_pages_of_a_server_are_asked_again() -> None:
    rows = [issue(n, created=1000) for n in range(12)]

    def empty(number: int, body: Json) -> None:
        if number in {2, 3, 5}:
            body["issues"] = []

    site = SmallSite(rows, cloud=False, tamper=empty)
    assert sorted(delivered(read_all(site.paginate(size=4)))) == list(range(12))


@BOTH
def test_an_issue_that_cannot_be_read_is_rejected_alone(*, cloud: bool) -> None:
    rows = [issue(n, created=n * 1000) for n in range(9)]
    rows[2]["fields"]["comment"] = "none"
    rows[5] = {"id": "5", "key": "A-5", "fields": rows[5]["fields"] | {"summary": ["?"]}}
    pages = read_all(SmallSite(rows, cloud=cloud).paginate(size=3))
    assert delivered(pages) == [0, 1, 3, 4, 6, 7, 8]
    rejects = [reject for page in pages for reject in page.rejects]
    assert [(each.stage, each.key) for each in rejects] == [("extract", "A-2"), ("extract", "A-5")]
    assert json.loads(bytes(rejects[0].payload))["fields"]["comment"] == "none"


@BOTH
def test_whole_pages_that_cannot_be_read_do_not_stop_the_pagination(*, cloud: bool) -> None:
    rows = [issue(n, created=n * 1000, summary=7) for n in range(7)] + [issue(9, created=9000)]
    pages = read_all(SmallSite(rows, cloud=cloud).paginate(size=3))
    assert delivered(pages) == [9]
    assert sum(len(page.rejects) for page in pages) == 7


def test_every_search_asks_from_the_last_time_seen() -> None:
    site = SmallSite([issue(n, created=n * 1000) for n in range(5)], cloud=True)
    read_all(site.paginate(size=3))
    assert [query["jql"] for query in site.queries] == [
        "created is not EMPTY ORDER BY created ASC, key ASC",
        f"created >= {BASE_MS + 2000} ORDER BY created ASC, key ASC",
    ]
