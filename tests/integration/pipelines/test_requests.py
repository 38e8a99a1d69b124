"""api_call and webhook: what is sent, what their results hold, and what they refuse."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from temporaletl.secrets import REDACTED
from temporaletl.webhook_signatures import signature
from tests.fakes.server import Request, Response
from tests.integration.pipelines.conftest import Pipelines, definition, mapping
from tests.integration.pipelines.site import Site

pytestmark = pytest.mark.usefixtures("site")
_SECRET = "canary-4711-of-the-shop"


def call(url: str, kind: str = "api_call", **data: Any) -> dict[str, Any]:
    """A definition of one node, whose error is the result of the next."""
    quick = {"retry": {"initial_seconds": 0.05, "max_attempts": 3}, "url": url}
    return definition(
        {"call": (kind, {**quick, **data}), "told": mapping(why="inputs.message")},
        "call -error-> told",
    )


def by_number(*answers: Response) -> Callable[[Request], Response]:
    """A route that gives its answers one after the other, the last again and again."""
    left = itertools.chain(answers, itertools.repeat(answers[-1]))
    return lambda _: next(left)


async def why(pipelines: Pipelines, document: dict[str, Any], value: Any = None) -> str:
    """Why the node failed."""
    summary = await pipelines.run(document, value)
    assert pipelines.states(summary)["call"] == "failed"
    told: str = pipelines.result(summary, "told")["why"]
    return told


async def test_a_request_is_filled_and_its_answer_is_the_result(
    pipelines: Pipelines, site: Site
) -> None:
    answer = Response.of({"id": 7, "big": 2**60})
    answer.headers = {"X-Rate": "9", "Set-Cookie": "session=1"}
    site.routes["/orders/a/b?c"] = lambda _: answer
    document = call(
        site.url + "/orders/{{ trigger.id }}",
        method="POST",
        query={"tags": "{{ trigger.tags }}", "q": "{{ trigger.id }} &x=1", "none": "{{ None }}"},
        body={"n": "{{ trigger.n }}", "text": "it's {{ trigger.n }}", "fixed": [True, None]},
    )

    summary = await pipelines.run(document, {"id": "a/b?c", "n": 2.5, "tags": ["x", "y"]})

    [sent] = site.requests()
    assert sent.target.startswith("/orders/a%2Fb%3Fc?")
    assert sent.query == {"tags": ["x", "y"], "q": ["a/b?c &x=1"]}
    assert sent.json() == {"n": 2.5, "text": "it's 2.5", "fixed": [True, None]}
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["idempotency-key"] == f"{summary.execution_id}/call"
    result = pipelines.result(summary, "call")
    assert (result["status"], result["data"]) == (200, {"id": 7, "big": 2**60})
    assert result["headers"]["x-rate"] == "9"
    assert "set-cookie" not in result["headers"]


@pytest.mark.parametrize("value", ["..", "."])
async def test_what_fills_a_hole_does_not_leave_the_path(
    pipelines: Pipelines, site: Site, value: str
) -> None:
    document = call(site.url + "/orders/{{ trigger }}/x")

    assert "a step of the path is ." in await why(pipelines, document, value)
    assert not site.requests()


@pytest.mark.parametrize("status", [408, 425, 429, 500, 503])
async def test_what_may_pass_is_sent_again_with_the_same_key(
    pipelines: Pipelines, site: Site, status: int
) -> None:
    refused = Response.of({"error": "busy"}, status)
    refused.headers = {"Retry-After": "0"}
    site.routes["/orders"] = by_number(refused, Response.of({"ok": True}))

    summary = await pipelines.run(call(f"{site.url}/orders", method="POST", body={}))

    assert summary.state == "completed"
    keys = [one.headers["idempotency-key"] for one in site.requests()]
    assert len(keys) == 2
    assert len(set(keys)) == 1


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (Response.of({"error": "no such order"}, 404), 'HTTP 404: {"error":"no such order"}'),
        (Response(302, b"", headers={"Location": "http://10.0.0.1/"}), "redirects are not"),
        (Response(200, b"<html>log in", "text/html"), "(text/html, HTTP 200) is no JSON"),
        (Response(200, b'{"a": NaN}'), "is no JSON"),
        (Response(200, b"[" * 100_000), "is no JSON"),
        (Response(400, b"x" * 9_000), "HTTP 400: " + "x" * 500),
        (Response(429, b"", headers={"Retry-After": "999999999"}), "longer than an hour"),
        (Response(200, b'"' + b"x" * 10_000_001 + b'"'), "PIPELINE_RESPONSE_MB"),
    ],
)
async def test_what_will_not_pass_is_refused_at_once_with_its_reason(
    pipelines: Pipelines, site: Site, answer: Response, told: str
) -> None:
    site.routes["/orders"] = lambda _: answer

    found = await why(pipelines, call(f"{site.url}/orders"))

    assert told in found
    assert len(found) < 800
    assert len(site.requests()) == 1


async def test_no_secret_leaves_its_request(
    pipelines: Pipelines, site: Site, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setenv("PIPELINE_SECRET_SHOP", _SECRET)
    # What a careless server repeats.
    site.routes["/ok"] = lambda one: Response(
        200, f'{{"got": "{one.headers["x-key"]}"}}'.encode(), headers={"X-Got": _SECRET}
    )
    site.routes["/bad"] = lambda one: Response.of({"got": one.headers["x-key"]}, 400)
    data = {
        "headers": {"X-Key": '{{ secret("shop") }}'},
        "query": {"key": '{{ secret("shop") }}'},
    }
    document = definition(
        {
            "ok": ("api_call", {"url": f"{site.url}/ok", **data}),
            "bad": ("api_call", {"url": f"{site.url}/bad", **data}),
            "told": mapping(why="inputs.message"),
        },
        "ok -> bad",
        "bad -error-> told",
    )

    handle = await pipelines.start(document)
    summary = await handle.result()

    assert [one.headers["x-key"] for one in site.requests()] == [_SECRET] * 2
    assert pipelines.result(summary, "ok")["data"] == {"got": REDACTED}
    history = (await handle.fetch_history()).to_json()
    stored = str(pipelines.nodes(summary)) + str([pipelines.result(summary, n) for n in "ok bad"])
    stored += str(pipelines.result(summary, "told"))
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = current_schema"
    for (table,) in pipelines.services.rows(tables):
        stored += str(pipelines.services.rows(f"SELECT t::text FROM {table} AS t"))
    assert summary.execution_id in stored
    for text in (history, stored, caplog.text):
        assert _SECRET not in text


def pages(request: Request) -> Response:
    number = int(request.first("page", "1"))
    items = [{"id": number * 10 + i} for i in range(3)]
    follows = {"next": f"/pages?page={number + 1}", "page": number + 1} if number < 4 else {}
    return Response.of({"items": items, "next": None, "page": None, **follows})


@pytest.mark.parametrize(
    "following", [{"next_url": "page.data.next"}, {"next_query": {"page": "page.data.page"}}]
)
async def test_pages_are_followed_to_their_end(
    pipelines: Pipelines, site: Site, following: dict[str, Any]
) -> None:
    site.routes["/pages"] = pages

    summary = await pipelines.run(
        call(f"{site.url}/pages", method="POST", paging={"items": "page.data.items", **following})
    )

    ids = [one["id"] for one in pipelines.result(summary, "call")]
    assert ids == [number * 10 + i for number in range(1, 5) for i in range(3)]
    assert pipelines.nodes(summary)["call"].details == {"status": 200, "pages": 4}
    assert len({one.headers["idempotency-key"] for one in site.requests()}) == 4


@pytest.mark.parametrize(
    ("paging", "told"),
    [
        ({"next_url": "'http://169.254.169.254/x'"}, "the next page is at http://169.254"),
        ({"next_url": "'/pages'"}, "repeats one before"),
        ({"next_query": {"n": "1 + page.data.page * 0"}}, "repeats one before"),
        ({"next_url": "page.data.next", "max_pages": 2}, "more pages than max_pages = 2"),
        ({"next_url": "page.data.next", "items": "page.data.page"}, "paging.items is no list"),
    ],
)
async def test_pages_that_lead_astray_are_refused(
    pipelines: Pipelines, site: Site, paging: dict[str, Any], told: str
) -> None:
    site.routes["/pages"] = pages

    found = await why(
        pipelines, call(f"{site.url}/pages", paging={"items": "page.data.items", **paging})
    )

    assert told in found
    assert len(site.requests()) <= 2


async def test_a_webhook_is_signed_and_known_again(
    pipelines: Pipelines, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIPELINE_SECRET_SIGN", _SECRET)
    site.routes["/hook"] = by_number(Response.of({}, 503), Response(204))
    document = call(
        f"{site.url}/hook", "webhook", payload={"n": "{{ trigger.n }}"}, signing_secret="sign"
    )

    summary = await pipelines.run(document, {"n": 1})

    assert pipelines.result(summary, "call") == {"status": 204}
    first, second = site.requests()
    key = f"{summary.execution_id}/call"
    assert second.body == first.body == b'{"n": 1}'
    assert {one.headers["idempotency-key"] for one in (first, second)} == {key}
    for sent in (first, second):
        stamp = int(sent.headers["webhook-timestamp"])
        expected = signature(_SECRET.encode(), key, stamp, sent.body)
        assert (sent.headers["webhook-id"], sent.headers["webhook-signature"]) == (key, expected)
