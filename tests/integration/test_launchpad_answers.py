"""Answers of Launchpad that are not what it promises: of one item, and of all."""

import json
import re
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

from temporaletl import SourceProtocolError, SourceUnavailableError
from tests.fakes.exchange import Request, Response
from tests.fakes.launchpad import Archive, generate
from tests.fakes.server import FakeServer
from tests.integration.job_reading import Change, Read, Serve, corrupt, in_place_of, pages_of, read
from tests.integration.launchpad_reading import STREAMS, jobs_of, served

__all__ = ["served"]

EACH = pytest.mark.parametrize("stream", STREAMS)
#: What no decoder takes, and what decoders take for something else.
POISON = {
    "integer": b"9" * 5_000,
    "beyond-double": b"1e999",
    "not-a-number": b"NaN",
    "nesting": b"[" * 100_000 + b"]" * 100_000,
    "invalid-utf-8": b'"\xff\xfe"',
}
EVERY_POISON = pytest.mark.parametrize("poison", POISON)
PARTS = {"bugs": "messages", "merge_proposals": "all_comments", "questions": "messages"}


def small() -> Archive:
    return generate(12, proposals=9, questions=9, seed=3, people=3)


def with_member(ending: str, value: bytes) -> Change:
    """Add a member that nobody reads to what is at a path."""

    def change(request: Request, answer: Response) -> Response:
        if request.path.endswith(ending) and answer.status == 200:
            return replace(answer, body=answer.body[:-1] + b',"poison":' + value + b"}")
        return answer

    return change


def broken(_: Response) -> Response:
    return Response(500, b"Oops!", "text/plain")


async def whole(served: Serve, stream: str) -> tuple[Read, FakeServer]:
    """What is there, and a server of the same that a test can corrupt."""
    served(small())
    return await read(await jobs_of(stream)), served(small())


@EACH
@pytest.mark.parametrize("body", [b"{}", b'{"error": "no"}', b'{"entries": null}', b"[]"])
async def test_a_collection_without_its_entries_is_an_error_and_touches_nothing(
    served: Serve, stream: str, body: bytes
) -> None:
    before, server = await whole(served, stream)
    corrupt(server, in_place_of(f"/{PARTS[stream]}", body))
    events = dict(before.events)
    with pytest.raises(SourceProtocolError, match=PARTS[stream]):
        await read(await jobs_of(stream), into=before)
    assert before.events == events


@EVERY_POISON
async def test_a_bug_that_cannot_be_decoded_is_one_reject_with_its_text(
    served: Serve, poison: str
) -> None:
    before, server = await whole(served, "bugs")
    corrupt(server, with_member("/bugs/3", POISON[poison]))
    found = await read(await jobs_of("bugs"))
    assert _others(before, "bug:3:").items() <= found.events.items()
    if found.rejects:
        ((key, payload),) = [(reject.key, reject.payload) for reject in found.rejects]
        assert key == "3"
        assert POISON[poison] in bytes(payload["bug"])
    else:
        # Nobody reads the member, and the decoder passes over it.
        assert found.events == before.events


@EVERY_POISON
@EACH
async def test_one_entry_that_cannot_be_decoded_costs_no_other(
    served: Serve, stream: str, poison: str
) -> None:
    before, server = await whole(served, stream)
    where = PARTS[stream]

    def change(request: Request, answer: Response) -> Response:
        if request.path.endswith(f"/3/{where}") and b'"entries":[{' in answer.body:
            member = b'"entries":[{"poison":' + POISON[poison] + b","
            return replace(answer, body=answer.body.replace(b'"entries":[{', member, 1))
        return answer

    corrupt(server, change)
    found = await read(await jobs_of(stream))
    missing = before.events.keys() - found.events.keys()
    # A bug's first message is its description, and no event.
    assert len(missing) <= len(found.rejects) <= 1
    for reject in found.rejects:
        assert POISON[poison] in bytes(reject.payload)


@pytest.mark.parametrize("answer", ["500", "garbage"])
async def test_a_bug_that_launchpad_cannot_give_is_a_reject_and_the_others_are_loaded(
    served: Serve, answer: str
) -> None:
    before, server = await whole(served, "bugs")
    status, body = (500, b"Oops!") if answer == "500" else (200, b'{"self_link": "http')
    corrupt(server, in_place_of("/bugs/3", body, status))
    found = await read(await jobs_of("bugs"))
    assert found.events == _others(before, "bug:3:")
    (reject,) = found.rejects
    assert reject.key == "3"
    assert "bug 3" in reject.reason


@EACH
async def test_a_list_that_launchpad_cannot_give_of_one_item_is_a_reject(
    served: Serve, stream: str
) -> None:
    before, server = await whole(served, stream)
    corrupt(server, in_place_of(f"/3/{PARTS[stream]}", b"Oops!", 500))
    found = await read(await jobs_of(stream))
    missing = before.events.keys() - found.events.keys()
    assert {before.events[id_].parent_item_id for id_ in missing} <= {"3"}
    (reject,) = found.rejects
    assert reject.key == "3"
    # What was loaded before stays.
    again = await read(await jobs_of(stream), into=before)
    assert missing <= again.events.keys()


@EACH
@pytest.mark.parametrize("links", ["new", "known"])
async def test_empty_pages_without_end_cost_one_item_and_end(
    served: Serve, stream: str, links: str
) -> None:
    before, server = await whole(served, stream)
    memos = count()

    def change(request: Request, answer: Response) -> Response:
        if answer.status != 200 or not request.path.endswith(f"/3/{PARTS[stream]}"):
            return answer
        size = request.query.get("ws.size", ["50"])[0]
        memo = next(memos) if links == "new" else 0
        link = f"http://{request.headers['host']}{request.path}?ws.size={size}&memo={memo}"
        page = {"start": 0, "entries": [], "next_collection_link": f"{link}&ws.start=0"}
        return replace(answer, body=json.dumps(page).encode())

    corrupt(server, change)
    found = await read(await jobs_of(stream))
    missing = before.events.keys() - found.events.keys()
    assert {before.events[id_].parent_item_id for id_ in missing} <= {"3"}
    assert {reject.key for reject in found.rejects} == {"3"}


@EACH
async def test_a_search_gives_all_but_the_one_entry_that_launchpad_cannot_give(
    served: Serve, stream: str
) -> None:
    before, server = await whole(served, stream)
    marker = re.compile(rb'"(?:bug|self)_link":"[^"]*/(?:bugs|\+merge|\+question)/3"')

    def change(request: Request, answer: Response) -> Response:
        search = "ws.op" in request.query
        return broken(answer) if search and marker.search(answer.body) else answer

    corrupt(server, change)
    found = await read(await jobs_of(stream))
    missing = before.events.keys() - found.events.keys()
    assert missing
    assert {before.events[id_].parent_item_id for id_ in missing} == {"3"}
    assert found.events.items() <= before.events.items()
    assert found.rejects
    assert all("cannot give entry" in reject.reason for reject in found.rejects)


@EACH
async def test_an_outage_of_all_lists_makes_no_rejects(served: Serve, stream: str) -> None:
    server = served(small())
    corrupt(server, in_place_of(f"/{PARTS[stream]}", b"Oops!", 500))
    (job, *_) = await jobs_of(stream)
    async with pages_of(job) as pages:
        with pytest.raises(SourceUnavailableError):
            await anext(pages)


@EACH
async def test_a_link_that_is_none_costs_no_page(served: Serve, stream: str) -> None:
    server = served(small())

    def change(request: Request, answer: Response) -> Response:
        if not request.path.endswith(f"/{PARTS[stream]}"):
            return answer
        page = json.loads(answer.body)
        for entry in page["entries"][:1]:
            entry["self_link"] = f"http://[/x/{'9' * 5_000}"
            entry["owner_link"] = "http://[/~nobody"
        return replace(answer, body=json.dumps(page).encode())

    corrupt(server, change)
    (job, *_) = await jobs_of(stream)
    async with pages_of(job) as pages:
        assert [page async for page in pages]


def _others(before: Read, prefix: str) -> dict[str, Any]:
    return {id_: event for id_, event in before.events.items() if not id_.startswith(prefix)}
