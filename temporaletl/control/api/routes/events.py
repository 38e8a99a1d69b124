"""`/events`: the runs that go on, or one run, as server-sent events."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Response

from temporaletl.control.api.access import Reader
from temporaletl.control.api.context import InContext
from temporaletl.control.api.problems import RESPONSES
from temporaletl.control.api.streams import EventStream

router = APIRouter(prefix="/events", tags=["events"], responses=RESPONSES)

_EXAMPLE = (
    "retry: 2000\n\n"
    "event: run\n"
    'data: {"as_of": "2026-11-27T18:00:02Z", "run": {"state": "running", "rows": null}}\n\n'
    ": nothing new\n\n"
)


@router.get(
    "",
    summary="Follow runs",
    operation_id="follow_runs",
    status_code=HTTPStatus.OK,
    response_class=EventStream,
    responses={
        200: {
            "description": "events without an end: `runs`, `run`, `problem`, and `end` as the last",
            "content": {
                "text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE},
            },
        }
    },
)
async def get_events(
    context: InContext,
    caller: Reader,
    run: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=500,
            description="a run's workflow id or batch id; none: all runs",
        ),
    ] = None,
) -> Response:
    """Follow all runs or one: each event is the whole present state, sent when it has changed.

    `data` is JSON: `as_of` and `runs` (those that go on, then those that ended last), or `run`, or,
    while the state is not known, `detail`. The last event, `end`, says why the stream ends: its
    token is valid no longer, or the server ends.
    """
    return EventStream(context.streams, caller.token_id, run)
