"""Steering: passing an operator's `pause`, `resume` and `cancel` on to child workflows."""

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from temporaletl import names

type Child = workflow.ChildWorkflowHandle[Any, Any]


class Steering:
    """What a workflow was told, and its children with it.

    A child gets one signal at a time: of two on their way at once, the server may deliver the
    later one first, and a child would stay paused that was to go on. Whatever happens in the
    meantime, the last that each child hears is what holds now.
    """

    def __init__(self, *, paused: bool = False) -> None:
        self.paused = paused
        self.cancelling = False
        self._children: dict[str, Child] = {}
        self._heard: dict[str, str] = {}  # by child, the last signal
        self._telling: set[str] = set()  # children with a signal on its way; never iterated

    async def pause(self) -> None:
        self.paused = True
        await self._tell_all()

    async def resume(self) -> None:
        self.paused = False
        await self._tell_all()

    async def cancel(self) -> None:
        self.cancelling = True
        await self._tell_all()

    async def run(self, child: Child) -> None:
        """Steer a child that was started just now, and runs, until it ends; raises as it does."""
        self._children[child.id] = child
        self._heard[child.id] = names.RESUME
        # Beside the wait: cancelled in the middle of telling, we would not wait for the child.
        telling = asyncio.create_task(self._tell(child))
        try:
            await child
            await telling
        finally:
            del self._children[child.id], self._heard[child.id]

    @property
    def _word(self) -> str:
        return names.CANCEL if self.cancelling else names.PAUSE if self.paused else names.RESUME

    async def _tell_all(self) -> None:
        await asyncio.gather(*(self._tell(child) for child in list(self._children.values())))

    async def _tell(self, child: Child) -> None:
        if child.id in self._telling:
            return  # whoever tells it something now goes on to what holds then
        self._telling.add(child.id)
        try:
            while self._heard.get(child.id, self._word) != self._word:
                word = self._heard[child.id] = self._word
                await child.signal(word)
        except FailureError:
            # It ended in the meantime: there is nothing left to tell.
            workflow.logger.debug("%s ended before a signal reached it", child.id)
        finally:
            self._telling.discard(child.id)
