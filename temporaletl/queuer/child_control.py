"""Control of a run: what was requested of it, forwarded to its child workflows by signals."""

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
        #: How often what is wanted has changed.
        self.changes = 0
        self._forwarding: set[asyncio.Task[None]] = set()  # only held
        self._children: dict[str, Child] = {}
        self._last_signal: dict[str, str] = {}  # by child
        self._signalling: set[str] = set()  # children with a signal on its way; never iterated

    @property
    def wanted(self) -> str:
        """The name of the signal that holds now."""
        return names.CANCEL if self.cancelling else names.PAUSE if self.paused else names.RESUME

    async def pause(self) -> None:
        self._want(names.PAUSE)
        await self._signal_all()

    async def resume(self) -> None:
        self._want(names.RESUME)
        await self._signal_all()

    async def cancel(self) -> None:
        self._want(names.CANCEL)
        await self._signal_all()

    def accept(self, signal: str) -> None:
        """Have the signal hold from now on, and forward it without being waited for."""
        self._want(signal)
        forwarding = asyncio.create_task(self._signal_all())
        self._forwarding.add(forwarding)
        forwarding.add_done_callback(self._forwarding.discard)

    def _want(self, signal: str) -> None:
        before = self.wanted
        if signal == names.CANCEL:
            self.cancelling = True
        else:
            self.paused = signal == names.PAUSE
        self.changes += self.wanted != before

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

    async def _signal_all(self) -> None:
        await asyncio.gather(*(self._signal(child) for child in list(self._children.values())))

    async def _signal(self, child: Child) -> None:
        if child.id in self._signalling:
            return  # the call that signals it now goes on to the signal that holds then
        self._signalling.add(child.id)
        try:
            while self._last_signal.get(child.id, self.wanted) != self.wanted:
                signal = self._last_signal[child.id] = self.wanted
                await child.signal(signal)
        except FailureError:
            # It ended in the meantime: there is nothing left to signal.
            workflow.logger.debug("%s ended before a signal reached it", child.id)
        finally:
            self._signalling.discard(child.id)
