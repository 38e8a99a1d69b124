"""Bisection of a part of a list with a record in it that ServiceTitan cannot render.

Each answer that would hold such a record fails. So the part is requested in smaller and smaller
pages, until one record is left: page q of n records holds those from (q - 1) n on, so that a
page of n records is two pages of n / 2. The record that is left is passed over by its position,
and what is around it is read.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from temporaletl import Reject
from temporaletl.errors import ETLError
from temporaletl.telemetry.logs import get_logger
from temporaletl.worker.sources.servicetitan.extract.client import (
    FAILURES,
    FEW_ATTEMPTS,
    ListAnswer,
    ServiceTitanClient,
    as_text,
)
from temporaletl.worker.sources.servicetitan.extract.passes import Read, Row, row_of

log = get_logger("temporaletl.worker.sources.servicetitan")

#: Records side by side that cannot be read; of more, it is not the records' fault.
MOST_NEIGHBOURS = 5
#: So many in one part, and it is not the records' fault either.
_MOST_UNREADABLE = 50
#: The largest power of two that the API takes for the size of a page.
_LARGEST = 4_096

#: Requests a page of a size, with so many attempts; None for as many as usual.
RequestPage = Callable[[int, int, int | None], ListAnswer]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record that the server cannot give: its position in the list, from 0, and why."""

    position: int
    error: ETLError


class Narrowing:
    """The bisection, by position, of a page that failed with an error for good."""

    def __init__(self, client: ServiceTitanClient, request: RequestPage, error: ETLError) -> None:
        """Raises: the error, where it is the site's and not a record's."""
        self._client = client
        self._request = request
        self._error = error
        self._in_a_row = self._unreadable = 0
        if not client.may_narrow(error) or not client.lists_others():
            raise error
        log.info("page_narrowed", stream=client.resource.stream, reason=str(error))

    def read(self, first: int, behind: int) -> Iterator[ListAnswer | Unreadable]:
        """Yield what is at the positions from the first on, in their order, to the list's end.

        Blocks. Of n positions it requests about 2 log n pages for each unreadable record.

        Raises:
            ETLError: the error of the page, where its records cannot be what fails.
        """
        waiting = _pages(first, behind)[::-1]
        if len(waiting) == 1:
            # It is the very page that failed.
            waiting = _halves(*waiting[0]) or waiting
        while waiting:
            start, size = waiting.pop()
            found = self._one(start) if size == 1 else self._some(start, size)
            if found is None:
                waiting += _halves(start, size)
                continue
            yield found
            if isinstance(found, ListAnswer) and not found.has_more:
                return

    def page(self, first: int, size: int, since: datetime | None, before: datetime | None) -> Read:
        """Return the rows of a page, one for each record that cannot be read as well.

        The list is of what was modified since a time, and before another. Blocks.

        Raises: as `read`.
        """
        entries: list[Row | Unreadable] = []
        counts: set[int | None] = set()
        has_more = True
        for part in self.read(first, first + size):
            if isinstance(part, Unreadable):
                entries.append(part)
                has_more = True  # as far as is known; the next page shows it
            else:
                entries += [row_of(self._client, raw) for raw in part.data]
                counts.add(part.total_count)
                has_more = part.has_more
        ids = [entry.id if isinstance(entry, Row) else None for entry in entries]
        rows: list[Row] = []
        for number, entry in enumerate(entries):
            if isinstance(entry, Row):
                rows.append(entry)
                continue
            behind = next((i for i in ids[number::-1] if i is not None), None)
            followed = next((i for i in ids[number:] if i is not None), None)
            known = {
                "stream": self._client.resource.stream,
                "modified_on_or_after": None if since is None else as_text(since),
                "modified_before": None if before is None else as_text(before),
                "position": entry.position + 1,
                "behind_id": self._id_at(first - 1) if behind is None else behind,
                "followed_by_id": self._id_at(first + size) if followed is None else followed,
            }
            rows.append(_unreadable(known, entry.error))
        return Read(rows, counts, has_more)

    def _id_at(self, position: int) -> int | str | None:
        """The id of the record at a position, None where there is none to be had."""
        if position < 0:
            return None
        try:
            answer = self._request(position + 1, 1, FEW_ATTEMPTS)
        except FAILURES as error:
            if not self._client.may_narrow(error):
                raise
            return None
        return row_of(self._client, answer.data[0]).id if answer.data else None

    def _some(self, start: int, size: int) -> ListAnswer | None:
        try:
            found = self._request(start // size + 1, size, FEW_ATTEMPTS)
        except FAILURES as error:
            if not self._client.may_narrow(error):
                raise
            return None
        self._in_a_row = 0
        return found

    def _one(self, position: int) -> ListAnswer | Unreadable:
        """Read one record; it is unreadable where it fails while others do not.

        A site that is down for a while fails at it as well, however long that is waited for. So
        another record must be had, and this one still not be, after it has failed.
        """
        for attempts in (None, FEW_ATTEMPTS):
            try:
                found = self._request(position + 1, 1, attempts)
            except FAILURES as error:
                if not self._client.may_narrow(error):
                    raise
                failure = error
            else:
                self._in_a_row = 0
                return found
            if attempts is None and not self._client.lists_others():
                raise self._error
        self._in_a_row += 1
        self._unreadable += 1
        if self._in_a_row > MOST_NEIGHBOURS or self._unreadable > _MOST_UNREADABLE:
            raise self._error
        stream = self._client.resource.stream
        log.warning("record_unreadable", stream=stream, position=position, error=str(failure))
        return Unreadable(position, failure)


def _pages(first: int, behind: int) -> list[tuple[int, int]]:
    """Return the fewest pages that hold just these positions, as their beginnings and sizes."""
    pages = []
    while first < behind:
        size = min(first & -first or _LARGEST, _LARGEST)
        while first + size > behind:
            size //= 2
        pages.append((first, size))
        first += size
    return pages


def _halves(start: int, size: int) -> list[tuple[int, int]]:
    """Return a page as two, the second one first; none where it is of one record."""
    half = size // 2
    return [(start + half, half), (start, half)] if half else []


def _unreadable(known: Mapping[str, Any], error: ETLError) -> Row:
    """Return a row with a reject for an unreadable record, from what is known of it."""
    words = {
        "modified_on_or_after": "modified since",
        "modified_before": "modified before",
        "behind_id": "behind id",
        "followed_by_id": "before id",
    }
    parts = [f"{text} {known[name]}" for name, text in words.items() if known[name] is not None]
    location = ", ".join([f"number {known['position']} of its list", *parts])
    reason = (
        f"ServiceTitan cannot give one of the {known['stream']}, though it gives others "
        f"({location}): {error}"
    )
    name = (
        f"number {known['position']} of {known['modified_on_or_after']}, {known['modified_before']}"
    )
    reject = Reject(stage="extract", reason=reason, payload=known)
    return Row(name, None, 0, reject, unreadable=True)
