"""Detection of endless pagination: pages that lead in circles, or on without a new record."""

from collections import deque
from collections.abc import Sequence

import xxhash

from temporaletl.errors import SourceUnavailableError

#: The same request may get another answer.
_MOST_REPEATS = 4
#: Pages in a row that bring nothing but the next page's token: far beyond any honest server.
_MOST_EMPTY = 1_000
#: Pages in a row that bring only records of pages before them: lists overlap, but not like that.
_MOST_STALE = 100
#: So many records are remembered one by one; older pages only as a whole.
_MOST_RECORDS = 10_000


class Headway:
    """Whether the pages of one list lead on to its end: by their tokens or links, and records.

    `what` names the list in errors, `begin` is the token that it is read from. Tokens and pages
    are remembered as hashes: a long list costs little.
    """

    def __init__(self, what: str, *, begin: str | None = None) -> None:
        self._what = what
        self._repeats = self._empty = 0
        self._known = set() if begin is None else {_mark(begin)}
        self._pages: set[int] = set()
        self._records: set[int] = set()
        self._in_order: deque[int] = deque()
        #: Of the page last met, what it is known by; to be kept in a cursor, with `stale`.
        self.page: int | None = None
        #: How many pages in a row brought only records of pages before them.
        self.stale = 0

    def begin_anew(self) -> None:
        """Forget the pages that were followed: the list is read from its beginning."""
        for seen in (self._known, self._pages, self._records, self._in_order):
            seen.clear()
        self._repeats = self._empty = self.stale = 0
        self.page = None

    def resume(self, page: int | None, stale: int) -> None:
        """Go on where another reading of the list stopped, behind that page."""
        self.page, self.stale = page, stale
        if page is not None:
            self._pages.add(page)

    def leads_on(self, token: str, *, rows: int) -> bool:
        """Whether to follow a page's token; else its page is to be requested again.

        `rows` is how many records came with it.

        Raises:
            SourceUnavailableError: it leads in circles, or a thousand pages held nothing.
        """
        mark = _mark(token)
        if mark in self._known:
            self._repeats += 1
            if self._repeats > _MOST_REPEATS:
                raise SourceUnavailableError(
                    f"{self._what} leads in circles: a page's token leads back to a page before it"
                )
            return False
        self._known.add(mark)
        self._repeats = 0
        self._empty = 0 if rows else self._empty + 1
        if self._empty > _MOST_EMPTY:
            raise SourceUnavailableError(
                f"{self._what} does not end: {self._empty:,} pages in a row held nothing"
            )
        return True

    def brings_news(self, marks: Sequence[str]) -> bool:
        """Whether a page holds a record that no page before it held; `marks` tell them apart.

        An empty page brings none, and is not counted here.

        Raises:
            SourceUnavailableError: a hundred pages in a row held only known records.
        """
        if not marks:
            return False
        hashes = [_mark(mark) for mark in marks]
        # The order within a page is no news.
        page = _mark(" ".join(map(str, sorted(hashes))))
        news = page not in self._pages and not self._records.issuperset(hashes)
        self._pages.add(page)
        self.page = page
        for record in hashes:
            if record not in self._records:
                self._records.add(record)
                self._in_order.append(record)
        while len(self._in_order) > _MOST_RECORDS:
            self._records.discard(self._in_order.popleft())
        self.stale = 0 if news else self.stale + 1
        if self.stale > _MOST_STALE:
            raise SourceUnavailableError(
                f"{self._what} does not end: {self.stale:,} pages in a row held only records "
                "of the pages before them"
            )
        return news


def _mark(token: str) -> int:
    return xxhash.xxh3_64_intdigest(token.encode("utf-8", "surrogatepass"))
