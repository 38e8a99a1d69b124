"""Keyset pagination over a list, and the feed, against scripted responses."""

import random
import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest
import requests

from temporaletl import (
    ConfigurationError,
    SourceProtocolError,
    SourceUnavailableError,
    Window,
)
from temporaletl.external.answers import decode
from temporaletl.external.servicetitan.resources import RESOURCES
from temporaletl.worker.sources.servicetitan.extract.client import ServiceTitanClient, Span, as_text
from temporaletl.worker.sources.servicetitan.extract.feed import Feed
from temporaletl.worker.sources.servicetitan.extract.keyset import KeysetPagination

NOON = datetime(2025, 5, 1, 12, tzinfo=UTC)
EVER = Span(None, None, NOON)


class Script:
    """A site that answers from a script, and records its requests."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.requested: list[dict[str, Any]] = []
        self.settings = SimpleNamespace(site="s", include_recent_changes=False)

    def read(
        self,
        _resource: Any,
        _path: str,
        params: Any,
        kind: Any,
        *,
        accept: Any,
        stop: Any,
        attempts: Any,
    ) -> Any:
        del attempts
        assert not stop.is_set()
        self.requested.append(dict(params))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if callable(answer):
            answer = answer(params)
        response = requests.Response()
        response.status_code = answer if isinstance(answer, int) else 200
        assert response.status_code == 200 or response.status_code in accept
        response.url = "http://st.test/x"
        response._content = msgspec.json.encode(answer)
        if response.status_code != 200:
            return None
        return decode(kind, response, source="servicetitan")

    @property
    def client(self) -> ServiceTitanClient:
        return ServiceTitanClient(cast("Any", self), RESOURCES["jobs"])


def job(number: int, second: int = 0) -> dict[str, Any]:
    return {"id": number, "modifiedOn": f"2025-05-01T12:00:{second:02d}Z"}


def listed(*jobs: Any, more: bool = False, count: int | None = None) -> dict[str, Any]:
    return {"page": 1, "pageSize": 2, "hasMore": more, "totalCount": count, "data": list(jobs)}


def fed(token: str | None, *jobs: Any, more: bool = False) -> dict[str, Any]:
    return {"hasMore": more, "continueFrom": token, "data": list(jobs)}


def ids_of(reading: KeysetPagination | Feed) -> list[int]:
    ids: list[int] = []
    while (found := reading.next()) is not None:
        ids += [record.body.id for record in found.records]
        assert len(ids) < 1_000
    return ids


#: Newest first, oldest first: the list keeps its order.
ORDERED = (listed(job(9, 9), count=3), listed(job(1, 1), count=3))


def test_each_request_begins_at_the_last_record() -> None:
    script = Script(
        *ORDERED,
        listed(job(1, 1), job(2, 2), more=True),
        listed(job(2, 2), job(3, 3)),
    )
    assert ids_of(KeysetPagination(script.client, EVER, 2, None)) == [1, 2, 3]
    assert [params.get("modifiedOnOrAfter") for params in script.requested] == [
        None,
        None,
        None,
        "2025-05-01T12:00:02Z",
    ]
    assert {params["active"] for params in script.requested} == {"Any"}


def test_more_of_one_time_than_a_page_holds_are_read_by_id() -> None:
    script = Script(
        *ORDERED,
        listed(job(1, 1), job(2, 1), more=True),
        listed(job(2, 1), job(4, 1), more=True),
        listed(job(1, 1), job(2, 1), more=True, count=3),
        listed(job(4, 1), count=3),
        listed(job(5, 5)),
    )
    assert ids_of(KeysetPagination(script.client, EVER, 2, None)) == [1, 2, 4, 5]
    ties = script.requested[4]
    assert (ties["sort"], ties["page"]) == ("+Id", 1)
    assert ties["modifiedOnOrAfter"] == "2025-05-01T12:00:01Z"
    assert ties["modifiedBefore"] == "2025-05-01T12:00:01.000001Z"
    assert script.requested[6]["modifiedOnOrAfter"] == "2025-05-01T12:00:01.000001Z"


def test_ties_that_the_list_then_denies_are_read_without_an_end() -> None:
    script = Script(
        *ORDERED,
        listed(job(1, 1), job(2, 1), more=True),
        listed(job(1, 1), job(2, 1), more=True),
        listed(count=0),
        listed(job(1, 1), job(2, 1), more=True, count=3),
        listed(job(3, 1), count=3),
    )
    assert ids_of(KeysetPagination(script.client, EVER, 2, None)) == [1, 2, 3]
    assert "modifiedBefore" not in script.requested[-1]


def test_a_pass_that_misses_what_the_list_counts_is_read_again() -> None:
    script = Script(
        listed(),
        listed(),
        listed(job(1), job(2), more=True, count=3),
        listed(count=3),
        listed(job(1), job(2), more=True, count=3),
        listed(job(3), count=3),
    )
    assert ids_of(KeysetPagination(script.client, EVER, 2, None)) == [1, 2, 3]
    assert len(script.requested) == 6


def test_a_pass_in_which_the_count_changed_proves_nothing() -> None:
    script = Script(
        listed(),
        listed(),
        listed(job(1), job(2), more=True, count=3),
        listed(job(4), count=2),
        listed(job(2), job(3), more=True, count=3),
        listed(job(4), count=3),
    )
    assert ids_of(KeysetPagination(script.client, EVER, 2, None)) == [1, 2, 4, 3]


def test_a_count_of_what_never_comes_is_believed_for_some_passes() -> None:
    script = Script(listed(), listed(), listed(job(1), count=2))
    assert ids_of(KeysetPagination(script.client, EVER, 2, None)) == [1]
    assert len(script.requested) == 2 + 6


def test_without_counts_a_pass_must_find_nothing_new() -> None:
    script = Script(listed(), listed(), listed(job(1)))
    assert ids_of(KeysetPagination(script.client, EVER, 2, None)) == [1]
    assert len(script.requested) == 2 + 2


def test_a_changed_record_is_delivered_again() -> None:
    script = Script(
        listed(),
        listed(),
        listed(job(1), job(2), more=True),
        listed({**job(1), "summary": "changed"}),
        listed(job(1), job(2), more=True),
        listed(),
    )
    assert ids_of(KeysetPagination(script.client, EVER, 2, None)) == [1, 2, 1, 1]


def test_a_page_out_of_order_means_that_there_is_none() -> None:
    script = Script(
        *ORDERED,
        listed(job(1, 5), job(2, 2), more=True),
        listed(job(1, 5), job(2, 2), more=True, count=3),
        listed(job(3, 3), count=3),
    )
    assert ids_of(KeysetPagination(script.client, EVER, 2, None)) == [1, 2, 3]
    assert "sort" not in script.requested[-1]


def test_an_order_that_is_refused_is_done_without() -> None:
    script = Script(400, 400, listed(job(1), count=1))
    assert ids_of(KeysetPagination(script.client, EVER, 2, None)) == [1]


def test_one_page_again_and_again_is_no_headway() -> None:
    script = Script(listed(), listed(), listed(job(1), job(2), more=True, count=9))
    with pytest.raises(SourceUnavailableError, match="11 pages in a row held only what came"):
        ids_of(KeysetPagination(script.client, EVER, 2, None))


def unfiltered(params: dict[str, Any]) -> dict[str, Any]:
    """Answer in the requested order, whatever the requested times."""
    jobs = [job(number, number) for number in range(1, 26)]
    if params.get("sort", "").startswith("-"):
        jobs.reverse()
    size = int(params["pageSize"])
    first = (int(params["page"]) - 1) * size
    return listed(*jobs[first : first + size], more=first + size < 25, count=25)


def drained(reading: KeysetPagination) -> tuple[list[int], Any]:
    """Read to the error that ends it; return what came, and the last cursor."""
    ids: list[int] = []
    cursor = None
    try:
        while (found := reading.next()) is not None:
            ids += [record.body.id for record in found.records]
            cursor = found.cursor
            assert len(ids) < 1_000
    except SourceUnavailableError as error:
        assert re.search("came before|modifiedOnOrAfter", str(error))  # noqa: PT017
    else:
        pytest.fail("it came to an end")
    return ids, cursor


def test_a_list_that_ignores_times_is_told_and_delivered_once() -> None:
    script = Script(unfiltered)
    ids, cursor = drained(KeysetPagination(script.client, EVER, 7, None))
    assert sorted(ids) == list(range(1, 26))
    assert len(script.requested) < 100
    again, _ = drained(KeysetPagination(script.client, EVER, 7, cursor))
    assert min(again) > 6  # what is behind the cursor is known to be delivered


def test_a_list_that_has_ever_more_in_whatever_order_is_told() -> None:
    chosen = random.Random(7)  # noqa: S311 - repeatable, not secret

    def shuffled(_params: dict[str, Any]) -> dict[str, Any]:
        jobs = [job(number, number) for number in range(1, 26)]
        return listed(*chosen.sample(jobs, 7), more=True, count=25)

    script = Script(listed(), listed(), shuffled)
    ids, _ = drained(KeysetPagination(script.client, EVER, 7, None))
    assert sorted(ids) == list(range(1, 26))
    assert len(script.requested) < 100


@pytest.mark.parametrize(
    "answer", [unfiltered, lambda _: listed(job(1, 1), job(2, 1), more=True, count=2)]
)
def test_a_pagination_that_never_gets_on_is_not_taken_up_for_ever(answer: Any) -> None:
    script = Script(answer)
    cursor = None
    for _ in range(3):
        _, cursor = drained(KeysetPagination(script.client, EVER, 2, cursor))
    with pytest.raises(SourceProtocolError, match="it was taken up 3 times"):
        ids_of(KeysetPagination(script.client, EVER, 2, cursor))


def test_a_record_without_a_time_does_not_stop_the_pagination() -> None:
    script = Script(
        *ORDERED,
        listed({"id": 1}, job(2, 2), more=True),
        listed(job(2, 2), job(3, 3)),
    )
    assert ids_of(KeysetPagination(script.client, EVER, 2, None)) == [1, 2, 3]


def test_a_backfill_asks_for_what_was_there_in_its_window() -> None:
    window = Window(start=NOON, end=NOON.replace(hour=13))
    script = Script(listed())
    ids_of(KeysetPagination(script.client, Span.of(window, "backfill"), 2, None))
    assert script.requested[-1]["modifiedOnOrAfter"] == as_text(NOON)
    assert script.requested[-1]["createdBefore"] == "2025-05-01T13:00:00Z"
    script = Script(listed())
    ids_of(KeysetPagination(script.client, Span.of(window, "incremental"), 2, None))
    assert "createdBefore" not in script.requested[-1]
    assert "modifiedBefore" not in script.requested[-1]


def test_a_feed_is_followed_over_empty_answers_to_its_end() -> None:
    script = Script(fed("a", job(1), more=True), fed("b", more=True), fed("c", job(2)))
    feed = Feed(script.client, EVER, 2, None, None)
    cursors = []
    while (found := feed.next()) is not None:
        cursors.append(found.cursor)
    assert [params.get("from") for params in script.requested] == [None, "a", "b"]
    assert cursors[-1] == {
        "paging": "export",
        "site": "s",
        "token": "c",
        "ended": True,
        "reached": "2025-05-01T12:00:00Z",
    }


def test_the_last_token_is_kept_though_nothing_came_with_it() -> None:
    script = Script(fed("b"))
    feed = Feed(script.client, EVER, 2, "a", None)
    found = feed.next()
    assert found is not None
    assert (found.records, cast("Any", found.cursor)["token"]) == ([], "b")
    assert feed.next() is None


@pytest.mark.parametrize("token", [None, ""])
def test_an_end_without_a_token_keeps_the_one_before(token: str | None) -> None:
    found = Feed(Script(fed(token)).client, EVER, 2, "a", None).next()
    assert found is not None
    assert cast("Any", found.cursor)["token"] == "a"


def test_a_repeated_token_is_not_followed() -> None:
    script = Script(
        fed("a", job(1), more=True),
        fed("a", job(2), more=True),
        fed("b", job(2), more=True),
        fed("c", job(3)),
    )
    assert ids_of(Feed(script.client, EVER, 2, None, None)) == [1, 2, 3]
    assert [params.get("from") for params in script.requested] == [None, "a", "a", "b"]


def test_more_without_a_token_breaks_the_promise() -> None:
    with pytest.raises(SourceProtocolError, match="no token"):
        Feed(Script(fed(None, job(1), more=True)).client, EVER, 2, None, None).next()


def test_a_refused_token_gives_way_to_the_date_of_the_job() -> None:
    span = Span.of(Window(start=NOON, end=NOON.replace(hour=13)), "incremental")
    script = Script(400, fed("b", job(1)))
    found = Feed(script.client, span, 2, "old", None).next()
    assert found is not None
    assert [params["from"] for params in script.requested] == ["old", "2025-05-01T12:00:00Z"]
    assert cast("Any", found.cursor)["restarts"] == 1


def test_a_feed_of_nothing_but_tokens_is_given_up() -> None:
    numbers = iter(range(10_000))
    script = Script(lambda _: fed(str(next(numbers)), more=True))
    with pytest.raises(SourceUnavailableError, match="does not end"):
        ids_of(Feed(script.client, EVER, 2, None, None))


def test_a_feed_has_no_end_of_its_own_so_a_backfill_leaves_out_what_is_newer() -> None:
    span = Span.of(Window(start=NOON, end=NOON.replace(hour=13)), "backfill")
    script = Script(
        fed(
            "a",
            {"id": 1, "createdOn": "2025-05-01T12:59:59.9999999Z"},
            {"id": 2, "createdOn": "2025-05-01T13:00:00Z"},
            {"id": 3},
            {"id": 4, "createdOn": "unknown"},
        )
    )
    assert ids_of(Feed(script.client, span, 2, None, None)) == [1, 3, 4]


@pytest.mark.parametrize("cursor", [{"paging": "list"}, {"paging": "export"}, 5])
def test_a_cursor_of_something_else_is_refused(cursor: Any) -> None:
    with pytest.raises(ConfigurationError, match="no cursor"):
        Feed(Script(fed("a")).client, EVER, 2, None, cursor)
