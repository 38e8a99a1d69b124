"""The time of a segment: for its first page, for pages, and for what is under way at its end."""

import asyncio
from datetime import timedelta

from temporaletl.extraction import SegmentEnding

#: The share of a segment's time in which its first page must come: the rest is for the error.
_FOR_FIRST_PAGE = 0.95
#: How long what is under way at a segment's end is waited for; never longer than the segment was.
_FOR_UNDER_WAY = timedelta(seconds=15)


class SegmentTime:
    """The time of one segment, from now on: of pages for `duration`, within its activity's."""

    def __init__(self, duration: timedelta, of_activity: timedelta, ending: SegmentEnding) -> None:
        self.for_first = of_activity * _FOR_FIRST_PAGE
        #: Whether extraction is called off: what was under way took too long.
        self.called_off = False
        self._duration = duration
        self._ending = ending
        self._began = asyncio.get_running_loop().time()

    @property
    def _passed(self) -> timedelta:
        return timedelta(seconds=asyncio.get_running_loop().time() - self._began)

    @property
    def is_over_for_first(self) -> bool:
        return self._passed >= self.for_first

    def patience(self, extracting: "asyncio.Task[None]", *, begun: bool) -> float | None:
        """For how many seconds to wait for a page, in a segment that has `begun` to load some.

        When its time is over, it makes the ending due; after some more, it cancels extraction:
        what is extracted already is loaded still, and waited for without a limit.
        """
        if not begun:
            ends = self.for_first
        elif self._passed < self._duration or extracting.done():
            ends = self._duration
        elif self.called_off:
            return None
        else:
            self._ending.is_due = True
            ends = self._duration + min(self._duration, _FOR_UNDER_WAY)
            if self._passed >= ends:
                self.called_off = extracting.cancel()
                return None
        return max(0.0, (ends - self._passed).total_seconds())
