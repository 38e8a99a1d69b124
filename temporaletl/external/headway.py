"""Pagination that never ends: pages that lead in circles, or on and on without a record."""

import xxhash

from temporaletl.errors import SourceUnavailableError

#: The same question may get another answer.
_MOST_REPEATS = 4
#: Pages in a row that bring nothing but the next page's token: far beyond any honest server.
_MOST_EMPTY = 1_000


class Headway:
    """Whether the pages of one list lead on to its end, by their tokens or links.

    `what` names the list in errors, `begin` is the token that it is read from. Tokens are
    remembered as hashes: a long list costs little.
    """

    def __init__(self, what: str, *, begin: str | None = None) -> None:
        self._what = what
        self._repeats = self._empty = 0
        self._known = set() if begin is None else {_mark(begin)}

    def begin_anew(self) -> None:
        """Forget the pages that were followed: the list is read from its beginning."""
        self._known.clear()
        self._repeats = self._empty = 0

    def leads_on(self, token: str, *, rows: int) -> bool:
        """Whether to follow a page's token; else its page is to be asked for again.

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
                f"{self._what} goes on and on: {self._empty:,} pages in a row held nothing"
            )
        return True


def _mark(token: str) -> int:
    return xxhash.xxh3_64_intdigest(token.encode("utf-8", "surrogatepass"))
