"""What sources' generators give, plain and async ones, in blocks."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable, Sequence
from time import monotonic

from temporaletl.strategies import Generated

_MOST_AT_ONCE = 500
#: A plain generator may wait for its source: what it has given by then goes on.
_LONGEST_SECONDS = 0.1


async def in_blocks[T](found: Generated[T]) -> AsyncGenerator[Sequence[T]]:
    """Iterate over a generator of either kind, in blocks of one or more.

    A plain one runs beside the event loop, as it may block, and some way ahead: a thread's turn
    costs more than most of what is generated. What it gave before it raised comes before that.
    """
    if isinstance(found, AsyncGenerator):
        async with contextlib.aclosing(found) as items:
            async for item in items:
                yield [item]
        return
    taken = _Taken(iter(found))
    while block := await asyncio.to_thread(taken.block):
        yield block


class _Taken[T]:
    """A plain generator, taken from in blocks; an empty one is its end."""

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._error: Exception | None = None

    def block(self) -> Sequence[T]:
        if self._error is not None:
            raise self._error
        block: list[T] = []
        until = monotonic() + _LONGEST_SECONDS
        try:
            for item in self._items:
                block.append(item)
                if len(block) == _MOST_AT_ONCE or monotonic() > until:
                    break
        except Exception as error:
            if not block:
                raise
            self._error = error
        return block
