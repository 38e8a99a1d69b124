"""Control of child workflows: forwards the signals `pause`, `resume` and `cancel` to them."""

import asyncio
from typing import Any

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from temporaletl import names

type Child = workflow.ChildWorkflowHandle[Any, Any]


class ChildControl:
    """Paused and cancelling state of a workflow, and its propagation to running children.

    A child gets one signal at a time: of two on their way at once, the server may deliver the
    later one first, and a child would stay paused that was to go on. Whatever happens in the
    meantime, the last signal that each child gets is the one that holds now.
    """

    def __init__(self, *, paused: bool = False) -> None:
        self.paused = paused
        self.cancelling = False
        self._children: dict[str, Child] = {}
        self._last_signal: dict[str, str] = {}  # by child
        self._signalling: set[str] = set()  # children with a signal on its way; never iterated

    async def pause(self) -> None:
        self.paused = True
        await self._signal_all()

    async def resume(self) -> None:
        self.paused = False
        await self._signal_all()

    async def cancel(self) -> None:
        self.cancelling = True
        await self._signal_all()

    async def run(self, child: Child) -> None:
        """Signal a child that was just started until it ends; raises as it does."""
        self._children[child.id] = child
        self._last_signal[child.id] = names.RESUME
        # Beside the wait: cancelled in the middle of a signal, we would not wait for the child.
        signalling = asyncio.create_task(self._signal(child))
        try:
            await child
            await signalling
        finally:
            del self._children[child.id], self._last_signal[child.id]

    @property
    def _current_signal(self) -> str:
        return names.CANCEL if self.cancelling else names.PAUSE if self.paused else names.RESUME

    async def _signal_all(self) -> None:
        await asyncio.gather(*(self._signal(child) for child in list(self._children.values())))

    async def _signal(self, child: Child) -> None:
        if child.id in self._signalling:
            return  # the call that signals it now goes on to the signal that holds then
        self._signalling.add(child.id)
        try:
            while self._last_signal.get(child.id, self._current_signal) != self._current_signal:
                signal = self._last_signal[child.id] = self._current_signal
                await child.signal(signal)
        except FailureError:
            # It ended in the meantime: there is nothing left to signal.
            workflow.logger.debug("%s ended before a signal reached it", child.id)
        finally:
            self._signalling.discard(child.id)
