"""Source `jira`: answers that are cut off, recoded, too large, or hold odd values."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import pytest

from tests.fakes.jira import generate
from tests.fakes.server import Response
from tests.integration.job_reading import read
from tests.integration.test_jira_source import BOTH, SMALL, jobs_of, matches, served
from tests.integration.test_jira_unreadable import ERROR, MODES, Serve, corrupt, jobs_in, lacks

__all__ = ["served"]


ONCE = {
    "html": Response(200, b"<!DOCTYPE html><html><body>Unavailable</body></html>", "text/html"),
    "empty": Response(200, b""),
    "cut": Response(200, b'{"issues": [{"id": "1"'),
    "no list": Response.of({}),
    "error": Response.of(ERROR),
}


@BOTH
@pytest.mark.parametrize("answer", ONCE.values(), ids=ONCE)
@pytest.mark.parametrize("path", [r"/search(/jql)?$", r"/(comment|worklog|changelog|bulkfetch)$"])
async def test_what_is_no_answer_once_is_asked_for_again(
    served: Serve,
    personality: str,
    path: str,
    answer: Response,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = generate(30, seed=2, personality=personality, limits=SMALL)
    served(site)
    jobs = await jobs_of()
    turns: Iterator[Response | None] = iter([None, answer])
    spoilt = corrupt(monkeypatch, path, lambda _: next(turns, None))
    found = await read(jobs, size=10)
    assert (matches(found, site), found.interruptions) == (True, [])
    assert personality == "server" or len(spoilt) > 2


def marked(given: Response) -> Response:
    return Response(given.status, b"\xef\xbb\xbf" + given.body)


def latin(given: Response) -> Response:
    body = given.body.decode().encode("latin-1", "replace")
    return Response(given.status, body, "application/json; charset=ISO-8859-1")


async def test_what_a_proxy_does_not_find_is_not_jiras_word(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = generate(30, seed=2, personality="cloud", limits=SMALL)
    served(site)
    page = Response(404, b"<html><title>Not found</title></html>", "text/html")
    turns = iter([page, page])
    corrupt(monkeypatch, r"/(comment|worklog|bulkfetch)$", lambda _: next(turns, None))
    assert matches(await read(await jobs_of()), site)


@BOTH
@pytest.mark.parametrize("recode", [marked, latin])
async def test_answers_are_read_by_their_charset(
    served: Serve,
    personality: str,
    recode: Callable[[Response], Response],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = generate(30, seed=2, personality=personality, limits=SMALL)
    with site.lock:
        site.pin(site.rows[3]).fields["summary"] = "Grüße"
        site.changed(site.rows[3])
    served(site)
    corrupt(monkeypatch, "/search|/comment|/worklog", recode)
    found = await read(await jobs_of())
    assert matches(found, site)
    created = found.events[f"{site.rows[3].id}:created"]
    assert created.event_properties["summary"] == "Grüße"


ODD: dict[str, tuple[bytes, bool]] = {
    "integer of 5000 digits": (b'"odd": ' + b"9" * 5_000, True),
    "number beyond double": (b'"odd": 1e999', True),
    "NaN": (b'"odd": NaN', False),
    "nesting of 100000": (b'"odd": ' + b"[" * 100_000 + b"]" * 100_000, False),
    "invalid UTF-8": (b'"odd": "b\xfcrger"', True),
}


@BOTH
@MODES
@pytest.mark.parametrize(("member", "loads"), ODD.values(), ids=ODD)
async def test_one_odd_value_costs_at_most_its_own_issue(
    served: Serve,
    personality: str,
    mode: str,
    member: bytes,
    loads: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = generate(30, seed=2, personality=personality, limits=SMALL)
    served(site)
    row = site.rows[12]
    name = f'"key":"{row.key}"'.encode()

    def add(given: Response) -> Response:
        return Response(given.status, given.body.replace(name, name + b"," + member, 1))

    corrupt(monkeypatch, r"/search(/jql)?$", add)
    found = await read(await jobs_in(mode), size=7)
    if not found.rejects:
        assert loads
        assert matches(found, site)
        return
    assert lacks(found, site, row.id)
    assert {each.key for each in found.rejects} == {row.key}
    assert all(member in bytes(each.payload) for each in found.rejects)


@BOTH
@pytest.mark.parametrize(("member", "loads"), ODD.values(), ids=ODD)
async def test_one_odd_value_in_a_list_costs_at_most_its_own_issue(
    served: Serve,
    personality: str,
    member: bytes,
    loads: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    site = generate(30, seed=2, personality=personality, limits=SMALL)
    served(site)
    row = site.rows[12]
    for number in range(30):
        site.edit.add_comment(row.id, f"text {number}.")
    if personality == "server":
        # There, a search gives all comments: have it count one that it does not show.
        count = f'"total":{len(site.issue(row).comments)}'.encode()
        more = count.replace(b":", b":9")

        def pretend(given: Response) -> Response:
            return Response(given.status, given.body.replace(count, more, 1))

        corrupt(monkeypatch, r"/search$", pretend)

    def add(given: Response) -> Response:
        return Response(given.status, given.body.replace(b'{"self"', b"{" + member + b',"self"', 1))

    corrupt(monkeypatch, f"/issue/{row.id}/comment$", add)
    found = await read(await jobs_of())
    if found.rejects:
        assert {each.key for each in found.rejects} == {row.key}
        assert set(found.records) >= {str(each.id) for each in site.rows} - {str(row.id)}
    else:
        assert loads


async def test_a_page_that_is_too_large_is_asked_for_in_parts(
    served: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ETL_ANSWER_LIMIT_MEGABYTES", "0.03")
    site = generate(60, seed=2, personality="cloud", limits=SMALL)
    served(site)
    found = await read(await jobs_of(), size=60)
    assert matches(found, site)


@BOTH
async def test_issues_from_before_1970_are_read(served: Serve, personality: str) -> None:
    site = generate(40, seed=2, personality=personality, limits=SMALL)
    old = int(datetime(1950, 1, 1, tzinfo=UTC).timestamp() * 1000)
    with site.lock:
        for number, row in enumerate(site.rows[:15]):
            row.created = old + number * 1000
            site.pin(row).fields["created"] = row.created
            site.changed(row)
    served(site)
    for size in (5, 100):
        found = await read(await jobs_of(issues_per_job=size), size=4)
        assert lacks(found, site)
