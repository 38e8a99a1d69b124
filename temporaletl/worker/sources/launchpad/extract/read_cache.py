"""Cache of the items that a job has read already.

The same bug is listed for everybody who has to do with it. A job reads it once; as its segments
end every few seconds, one has to know what those before it have read. That is cached in the
process, and counts from where the page with it is committed: what another process read, or what
was lost with a page, is read again.
"""

import threading
from collections import OrderedDict
from datetime import datetime
from weakref import WeakKeyDictionary

from pydantic import JsonValue

from temporaletl import PageRequest
from temporaletl.external.launchpad.site import LaunchpadSite
from temporaletl.worker.sources.launchpad.query import LaunchpadQuery

_MOST_JOBS = 32

#: The numbers that were read, and when each had last changed, where that is known.
Read = dict[int, datetime | None]


class ReadCache:
    """The numbers that are already read: by the job's earlier segments, and by this one."""

    def __init__(self, committed: Read) -> None:
        self._committed = committed
        self._pages: list[tuple[JsonValue, Read]] = []
        self._open: Read = {}
        self._all = dict(committed)

    def __contains__(self, number: int) -> bool:
        return number in self._all

    def changed(self, number: int) -> datetime | None:
        """When a number that was read had last changed."""
        return self._all[number]

    def add(self, number: int, changed: datetime | None = None) -> None:
        """Note that a number was read, for the next page."""
        self._open[number] = self._all[number] = changed

    def end_page(self, cursor: JsonValue) -> None:
        """Note that a page ends here, whose cursor is committed with all that was added."""
        self._pages.append((cursor, self._open))
        self._open = {}

    def committed_at(self, cursor: JsonValue) -> Read:
        """The numbers that are loaded where this is the cursor of the last committed page."""
        found = dict(self._committed)
        for behind, numbers in self._pages:
            found |= numbers
            if behind == cursor:
                return found
        return dict(self._committed)


def open_read_cache(site: LaunchpadSite, request: PageRequest[LaunchpadQuery]) -> ReadCache:
    """Return the read cache for an extraction that begins at the request's cursor."""
    job = (request.job.batch_id, request.job.seq)
    with _guard:
        jobs = _jobs.setdefault(site, OrderedDict())
        before = jobs.pop(job, None)
        known = before.committed_at(request.cursor) if before and request.cursor else {}
        read_cache = ReadCache(known)
        jobs[job] = read_cache
        if len(jobs) > _MOST_JOBS:
            jobs.popitem(last=False)
    return read_cache


_jobs: WeakKeyDictionary[LaunchpadSite, OrderedDict[tuple[str, int], ReadCache]] = (
    WeakKeyDictionary()
)
_guard = threading.Lock()
