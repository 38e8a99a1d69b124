"""Live events: whole states as they change, ended with their token and with the server."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest

from temporaletl.control.api import streams
from temporaletl.control.operations import live
from temporaletl.control.operations.status import open_runs
from temporaletl.control.operations.tokens import revoke_token
from tests.integration.api.in_process import Served, platform_of, serving
from tests.waiting import until

EVENTS = "/api/v1/events"


class Stream:
    """The events of one stream, as they come."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.comments = 0

    async def next(self) -> tuple[str, Any]:
        """The next event and its data; raises EOFError at the end."""
        async with asyncio.timeout(120):
            while True:
                block = await self._block()
                if "event" in block:
                    text = block["data"]
                    return block["event"], json.loads(text) if text[:1] == "{" else text
                self.comments += "" in block

    async def _block(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while line := (await self._line()).rstrip("\n"):
            name, _, value = line.partition(": ")
            found[name.removesuffix(":")] = value
        return found

    async def _line(self) -> str:
        line = await self._reader.readline()
        if not line:
            raise EOFError
        text = line.decode()
        # Chunks of HTTP: each event is one.
        return await self._line() if text.endswith("\r\n") else text


@asynccontextmanager
async def following(served: Served, query: str = "") -> AsyncGenerator[Stream]:
    host, port = served.address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    headers = {"Host": "localhost", **served.headers}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    try:
        writer.write(f"GET {EVENTS}?{query} HTTP/1.1\r\n{lines}\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), head + await reader.read(2_000)
        assert b"text/event-stream" in head
        assert b"x-request-id" in head
        yield Stream(reader)
    finally:
        writer.close()


async def started(served: Served, **params: Any) -> str:
    body = {"source": "numbers", "params": params, "force": True}
    answer = await served("POST", "/api/v1/sync/full", json=body)
    assert answer.status_code == 202, answer.text
    return str(answer.json()["workflowId"])


async def states(stream: Stream, *, last: str) -> AsyncIterator[dict[str, Any]]:
    while True:
        kind, data = await stream.next()
        assert (kind, bool(data["as_of"])) == ("run", True)
        yield data["run"]
        if data["run"]["state"] == last:
            return


async def test_a_run_is_followed_from_its_start_to_its_end_in_whole_states(served: Served) -> None:
    run = await started(served, pages=8, size=5, page_seconds=0.3)
    async with following(served, f"run={run}") as one, following(served) as every:
        seen = [state async for state in states(one, last="completed")]
        assert {state["workflow_id"] for state in seen} == {run}
        assert sum(seen[-1]["rows"].values()) == 40
        counts = [state["rows"]["inserted"] for state in seen if state["rows"]]
        assert counts == sorted(counts)
        assert len(seen) > 2
        # All runs show it as well, at the latest as one that has ended.
        while True:
            kind, data = await every.next()
            assert kind == "runs"
            found = [one["state"] for one in data["runs"] if one["workflow_id"] == run]
            if found == ["completed"]:
                break
    async with following(served, f"run={seen[-1]['batch_id']}") as late:
        assert (await late.next())[1]["run"]["state"] == "completed"


async def test_nothing_new_is_said_by_a_heartbeat(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT", timedelta(seconds=0.1))
    run = await started(served, size=1)
    async with following(served, f"run={run}") as stream:
        _ = [state async for state in states(stream, last="completed")]
        reading = asyncio.create_task(stream.next())
        await until(lambda: stream.comments > 3)
        reading.cancel()


async def test_what_cannot_be_followed_is_a_problem(served: Served) -> None:
    unknown = await served("GET", f"{EVENTS}?run=nothing")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not-found")
    refused = await replace(served, headers={})("GET", EVENTS)
    assert refused.status_code == 401


async def test_many_streams_cost_one_look_an_interval(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    async def counted(*arguments: Any, **more: Any) -> Any:
        nonlocal looks
        looks += 1
        return await open_runs(*arguments, **more)

    monkeypatch.setattr(live, "open_runs", counted)
    run = await started(served, size=1)
    began = monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(40):
            query = f"run={run}" if number % 2 else ""
            group.create_task(_until_completed(served, query, run))
    assert looks <= 3 + (monotonic() - began) / live.INTERVAL.total_seconds()
    await until(lambda: not served.app.state.context.streams._open)
    assert served.app.state.context.live._observer is None
    assert not served.app.state.context.live._topics


async def _until_completed(served: Served, query: str, run: str) -> None:
    async with following(served, query) as stream:
        while True:
            _, data = await stream.next()
            runs = [data["run"]] if "run" in data else data["runs"]
            if {one["state"] for one in runs if one["workflow_id"] == run} == {"completed"}:
                return


async def test_streams_end_with_their_token(served: Served) -> None:
    reader = await served.token_of("read", "to-be-revoked")
    async with following(reader) as ends, following(served) as goes_on:
        await ends.next()
        await goes_on.next()
        await revoke_token(served.platform, "to-be-revoked")
        while (event := await ends.next())[0] != "end":
            pass
        assert "token" in event[1]
        with pytest.raises(EOFError):
            await ends.next()
        run = await started(served, size=1)
        while run not in str(await goes_on.next()):
            pass


async def test_a_stream_that_is_opened_while_tokens_are_checked_goes_on(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    checking, go_on = asyncio.Event(), asyncio.Event()
    valid, rounds = streams.Streams._valid, 0

    async def slow(self: streams.Streams, token_ids: set[str]) -> Any:
        nonlocal rounds
        found = await valid(self, token_ids)
        checking.set()
        await go_on.wait()
        rounds += 1
        return found

    monkeypatch.setattr(streams.Streams, "_valid", slow)
    monkeypatch.setattr(streams, "_CHECKED_EVERY", timedelta(seconds=0.05))
    other = await served.token_of("read")
    async with following(served) as first:
        await first.next()
        await asyncio.wait_for(checking.wait(), 30)
        async with following(other) as late:
            await late.next()
            go_on.set()
            await until(lambda: rounds > 1)
            opened = served.app.state.context.streams._open
            assert [follower.ended for follower in opened] == [None, None]


async def test_streams_are_bounded_by_token_and_process_and_end_with_the_server(
    served: Served, postgres_url: str
) -> None:
    assert served.services is not None
    platform = platform_of(served.services, postgres_url)
    async with serving(platform, streams=3, streams_per_token=2) as small:
        one, other = [await small.token_of("read") for _ in range(2)]
        async with following(one) as first, following(one), following(other) as last:
            await first.next()
            of_token = await one("GET", EVENTS)
            assert (of_token.status_code, of_token.json()["code"]) == (429, "too-many-streams")
            of_process = await other("GET", EVENTS)
            assert (of_process.status_code, of_process.json()["code"]) == (503, "too-many-streams")
            assert of_token.headers["retry-after"] == of_process.headers["retry-after"] == "10"
            await last.next()
            began = monotonic()
            small.server.should_exit = True
            for stream in (first, last):
                while (event := await stream.next())[0] != "end":
                    pass
                assert event[1] == "the server ends"
            await until(small.task.done)
            assert monotonic() - began < 30  # and not once somebody goes away


async def test_who_goes_away_is_forgotten(served: Served) -> None:
    for _ in range(20):
        async with following(served) as stream:
            await stream.next()
    context = served.app.state.context
    await until(lambda: not context.streams._open and not context.streams._counts)
    await until(lambda: context.live._observer is None)
