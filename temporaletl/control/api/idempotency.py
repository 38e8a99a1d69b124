"""Idempotency keys: a request that is sent again with its key is answered as the first time."""

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated

import msgspec
from fastapi import Header, Request, Response
from pydantic import BaseModel

from temporaletl.control.api.access import Caller
from temporaletl.control.api.context import Context
from temporaletl.control.operations.idempotency import claim, release, store_answer
from temporaletl.warehouse.idempotency import Answer, RequestKey

IdempotencyKey = Annotated[
    str | None,
    Header(
        max_length=200,
        description="any text of your own, new for each thing you want done: a request that is "
        "sent again with it is answered as the first time, for seven days",
    ),
]


async def once[T: BaseModel](
    context: Context,
    caller: Caller,
    request: Request,
    key: str | None,
    act: Callable[[], Awaitable[T]],
    *,
    status: HTTPStatus = HTTPStatus.OK,
) -> Response:
    """Do something once for a key of a caller; return its answer, or that of the first time.

    Raises:
        ReusedKeyError: the key was used for another request.
        RequestRunningError: the first request has no answer yet.
        ETLError: as `act` does; the key is then free again.
    """
    if key is None:
        return _answer(status, (await act()).model_dump_json(by_alias=True).encode())
    claimed = RequestKey(caller.token_id, f"{request.method} {request.url.path}", key)
    # What the query says is a part of what is wanted.
    wanted = f"{request.url.query}\n".encode() + await request.body()
    found = await claim(context.platform, claimed, wanted)
    if found is not None:
        body = msgspec.json.encode(found.body)
        return _answer(HTTPStatus(found.status), body, headers={"Idempotent-Replayed": "true"})
    try:
        made = await act()
    except BaseException:
        await release(context.platform, claimed)
        raise
    answer = Answer(status=status, body=made.model_dump(mode="json", by_alias=True))
    await store_answer(context.platform, claimed, answer)
    return _answer(status, msgspec.json.encode(answer.body))


def _answer(status: HTTPStatus, body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status_code=status, media_type="application/json", headers=headers)
