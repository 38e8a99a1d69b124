"""Everything that pages and API say of one run, observed anew."""

import asyncio
import re
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from tests.integration.api.in_process import Served
from tests.integration.api.test_events import following

_STATE = re.compile(r'<span class="state \w+">([^<]*)</span>')
#: Where a run's state is said.
PLACES = ("run", "runs", "event", "events", "page", "list", "overview")


def forget(served: Served) -> None:
    """Let the next answers be new ones."""
    served.app.state.context.observations.forget()
    served.app.state.context.answers.forget()


async def said(served: Served, run: str) -> dict[str, str]:
    """The run's state by place: `run`, `runs` of the API, its streams, and three pages.

    What is not there, or cannot be known, is said as "status 404", "absent" or "problem".
    """
    forget(served)
    found = await asyncio.gather(
        _answered(served, run, f"/api/v1/runs/{run}"),
        _answered(served, run, "/api/v1/runs?limit=200"),
        _streamed(served, run, f"run={run}"),
        _streamed(served, run, ""),
        *(_shown(served, run, path) for path in (f"/runs/{quote(run)}", "/runs", "/")),
    )
    return dict(zip(PLACES, found, strict=True))


async def _answered(served: Served, run: str, path: str) -> str:
    answer = await served("GET", path)
    return _of_answer(run, answer.status_code, answer.json())


async def _shown(served: Served, run: str, path: str) -> str:
    answer = await served("GET", path, headers={"Accept": "text/html"})
    if answer.status_code != HTTPStatus.OK:
        return f"status {answer.status_code}"
    # Findings link to it as well, before it is listed.
    is_own = path.startswith("/runs/")
    text = answer.text if is_own else answer.text.rpartition(f'href="/runs/{run}"')[2]
    state = _STATE.search(text)
    return state[1] if state else "absent"


def _of_answer(run: str, status: int, body: dict[str, Any]) -> str:
    if status != HTTPStatus.OK:
        return f"status {status}"
    assert body["as_of"]
    runs = [body["run"]] if "run" in body else body.get("items", body.get("runs", []))
    return next((str(one["state"]) for one in runs if one["workflow_id"] == run), "absent")


async def _streamed(served: Served, run: str, query: str) -> str:
    try:
        async with following(served, query) as stream:
            kind, data = await stream.next()
    except AssertionError as error:
        return f"status {str(error)[11:14]}"
    return "problem" if kind == "problem" else _of_answer(run, HTTPStatus.OK, data)


async def text_of(served: Served, path: str) -> str:
    """A page's text, or the API's answer, observed anew."""
    forget(served)
    answer = await served("GET", path, headers={"Accept": "text/html"})
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", answer.text))


def everywhere(state: str) -> dict[str, str]:
    """The same state in every place."""
    return dict.fromkeys(PLACES, state)
