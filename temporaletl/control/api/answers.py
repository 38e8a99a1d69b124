"""Answers to reads, each observed and rendered once for all who ask within a second."""

from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from pydantic import BaseModel

from temporaletl.control.api.context import Context


async def shared(
    context: Context,
    request: Request,
    response: Response,
    observe: Callable[[], Awaitable[BaseModel]],
) -> Response:
    """Answer a read as it was answered within the last second, or else anew.

    `observe` may set headers of `response`, which go with the answer. What is answered must not
    depend on who asks.
    """

    async def render() -> tuple[bytes, dict[str, str]]:
        content = (await observe()).model_dump_json().encode()
        return content, {name: value for name, value in response.headers.items() if value}

    key = f"{request.url.path}?{request.url.query}"
    content, headers = (await context.answers.latest(key, render)).value
    return Response(content, media_type="application/json", headers=headers)
