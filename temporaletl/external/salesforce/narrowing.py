"""Bisection around a row that Salesforce cannot render: every page that holds it fails.

The page is requested in smaller and smaller parts until one row is left; that row is reported, and
reading goes on behind it. Where its neighbours fail as well, it is no row's fault.
"""

import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from temporaletl.errors import ETLError
from temporaletl.external.answers import GarbledAnswerError, MisfitAnswerError
from temporaletl.external.exchange import AnswerTooLargeError
from temporaletl.external.salesforce.org import SalesforceOrg
from temporaletl.external.salesforce.query import (
    Keyset,
    Order,
    QueryPage,
    Selection,
    Unreadable,
    keyset_of,
    read_page,
)
from temporaletl.external.salesforce.refusals import UnrenderableError
from temporaletl.telemetry.logs import get_logger

log = get_logger("salesforce")

#: What a page may fail with for the sake of a row in it.
OF_A_ROW = (UnrenderableError, GarbledAnswerError, MisfitAnswerError, AnswerTooLargeError)
#: Rows side by side that cannot be rendered; of more, it is not the rows' fault.
_MOST_NEIGHBOURS = 5
#: So many in one page, and it ends: what becomes of the job is not for reading to say.
_MOST_UNREADABLE = 10


def read_around(
    org: SalesforceOrg,
    selection: Selection,
    after: Keyset | None,
    size: int,
    stop: threading.Event | None = None,
) -> QueryPage:
    """Return the next rows as `read_page` does, and with them those that cannot be read.

    Raises:
        ETLError: as `read_page`.
    """
    try:
        return read_page(org, selection, after, size, stop)
    except OF_A_ROW as error:
        if stop is not None and stop.is_set():
            raise
        log.info("salesforce_page_narrowed", object=selection.object, reason=str(error))
        return _Narrowing(org, selection, after, size, stop).page()


def read_rows(org: SalesforceOrg, selection: Selection) -> Iterator[msgspec.Raw]:
    """Yield every row as JSON, in order, less those that cannot be read. Blocks.

    Raises:
        ETLError: as `read_around`.
    """
    after: Keyset | None = None
    while True:
        page = read_around(org, selection, after, org.settings.page_size)
        yield from page.rows
        for row in page.unreadable:
            log.warning("salesforce_row_unreadable", object=row.object, **row.known)
        if page.last:
            return
        after = page.after


@dataclass(slots=True)
class _Narrowing:
    org: SalesforceOrg
    selection: Selection
    after: Keyset | None
    size: int
    stop: threading.Event | None
    rows: list[msgspec.Raw] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    last: bool = False

    def page(self) -> QueryPage:
        step = max(1, self.size // 2)
        while not self.last and len(self.unreadable) < _MOST_UNREADABLE:
            room = self.size - len(self.rows)
            if room <= 0:
                break
            wanted = min(step, room)
            try:
                # A single row gets all attempts before it counts as unreadable.
                part = self._ask(wanted, briefly=wanted > 1)
            except OF_A_ROW as error:
                if wanted == 1:
                    self._skip(error)
                step = max(1, wanted // 2)
                continue
            self._take(part)
            step *= 2
        return QueryPage(self.rows, self.after, self.last, self.unreadable)

    def _ask(self, size: int, *, offset: int = 0, briefly: bool = True) -> QueryPage:
        return read_page(
            self.org,
            self.selection,
            self.after,
            size,
            self.stop,
            offset=offset,
            briefly=briefly,
        )

    def _take(self, part: QueryPage) -> None:
        self.rows += part.rows
        self.after, self.last = part.after, part.last

    def _skip(self, error: ETLError) -> None:
        """Skip the next row, or the next rows, as unreadable.

        Raises: the error, where nothing shows that it is theirs.
        """
        keyset = self._keyset_of_next()
        behind, count = self._next_rendered()
        if behind is None and (keyset is None or not self.rows):
            raise error
        if not (self.rows or (behind and behind.rows) or self._answers_at_all()):
            raise error
        if keyset is not None:
            # Others side by side with it are met in their turn.
            self._note(error, {"Id": keyset.id, self.selection.stamp: keyset.at})
            self.after = keyset
        elif behind is not None:
            before = self.after
            known = {
                "behind_Id": before.id if before else None,
                f"behind_{self.selection.stamp}": before.at if before else None,
            }
            self._note(error, known, count)
            self._take(behind)

    def _next_rendered(self) -> tuple[QueryPage | None, int]:
        """The first row behind the next that is rendered, and how many lie before it."""
        for offset in range(1, _MOST_NEIGHBOURS + 1):
            try:
                return self._ask(1, offset=offset), offset
            except OF_A_ROW:
                continue
        return None, 0

    def _keyset_of_next(self) -> Keyset | None:
        """The next row's keyset, where Salesforce can render as much of it."""
        bare = replace(self.selection, fields=(), optional=())
        try:
            page = read_page(self.org, bare, self.after, 1, self.stop, briefly=True)
        except OF_A_ROW:
            return None
        return keyset_of(page.rows[0], self.selection.stamp) if page.rows else None

    def _answers_at_all(self) -> bool:
        """Whether there is a row of the object that can be rendered: the very first, or last."""
        whole = replace(self.selection, start=None, end=None, deleted=False)
        orders: tuple[Order, ...] = ("ASC", "DESC")
        for order in orders:
            try:
                ordered = replace(whole, order=order)
                if read_page(self.org, ordered, None, 1, self.stop, briefly=True).rows:
                    return True
            except OF_A_ROW:
                continue
        return False

    def _note(self, error: ETLError, known: Mapping[str, str | None], count: int = 1) -> None:
        rows = "the row" if count == 1 else f"{count} rows"
        reason = f"Salesforce cannot render {rows}, though it does those beside: {error}"
        self.unreadable.append(Unreadable(self.selection.object, known, reason))
