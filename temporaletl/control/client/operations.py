"""Operations over the API: for an operation of the platform, the one that takes an `Api` instead.

@over_api(list_tokens)
async def _list_tokens(api: Api) -> list[Token]:
    return ...

await remote(list_tokens)(api)
"""

from collections.abc import Awaitable, Callable
from typing import Any, Concatenate

from temporaletl.control.client.api import Api
from temporaletl.control.client.settings import NotOverApiError
from temporaletl.control.operations.platform import Platform

_remote: dict[Callable[..., Any], Callable[..., Any]] = {}


def over_api[**P, T](
    operation: Callable[Concatenate[Platform, P], Awaitable[T]],
) -> Callable[
    [Callable[Concatenate[Api, P], Awaitable[T]]], Callable[Concatenate[Api, P], Awaitable[T]]
]:
    """Register what stands for an operation over the API: with its arguments, result and errors."""

    def register(
        function: Callable[Concatenate[Api, P], Awaitable[T]],
    ) -> Callable[Concatenate[Api, P], Awaitable[T]]:
        _remote[operation] = function
        return function

    return register


def remote[**P, T](
    operation: Callable[Concatenate[Platform, P], Awaitable[T]],
) -> Callable[Concatenate[Api, P], Awaitable[T]]:
    """Return what stands for an operation over the API.

    Raises:
        NotOverApiError: nothing does.
    """
    found: Callable[Concatenate[Api, P], Awaitable[T]] | None = _remote.get(operation)
    if found is None:
        raise NotOverApiError
    return found
