"""The client with which one extraction reads Launchpad's entries and complete collections."""

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qs, parse_qsl, urlencode, urlsplit, urlunsplit

import msgspec

from temporaletl import RecordError, SourceProtocolError, SourceUnavailableError
from temporaletl.errors import ETLError
from temporaletl.external.answers import MisfitAnswerError, decode_record
from temporaletl.external.exchange import AnswerTooLargeError
from temporaletl.external.headway import Headway
from temporaletl.external.launchpad.site import LaunchpadSite
from temporaletl.telemetry.logs import get_logger

log = get_logger("temporaletl.worker.sources.launchpad")

#: What Launchpad gives at most.
LARGEST_PAGE = 300
_MOST_READINGS = 8
#: By how much smaller pages get, until one entry is all that cannot be read.
_SMALLER = 8
#: So many entries in a row that cannot be read are a search that does not work.
_MOST_GAPS_IN_A_ROW = 3
#: What one item may be the cause of: the server fails at it, or garbles it, or it is too large.
ITEM_FAULTS = (SourceUnavailableError, MisfitAnswerError, AnswerTooLargeError)


class CollectionPage(msgspec.Struct):
    """A page of a collection. Some versions give a link in place of the total.

    A page without a link to a next one is the last.
    """

    entries: list[msgspec.Raw]
    total_size: int | None = None
    start: int | None = None
    next_collection_link: str | None = None


class Gap(NamedTuple):
    """An entry of a collection that the server cannot give: its position, and the error."""

    start: int
    reason: str


class Collected(NamedTuple):
    """The entries of a collection, and whether they are as many as it counts."""

    entries: list[msgspec.Raw]
    complete: bool
    gaps: Sequence[Gap] = ()


class Narrowing:
    """Bisection around single entries that the server cannot give, by ever smaller pages."""

    def __init__(self, client: "LaunchpadClient") -> None:
        self._client = client
        self._in_a_row = 0
        self._narrowed = False
        self._doubted: int | None = None  # the entry that failed by itself, and is requested again
        self.gaps: list[Gap] = []

    def following(self, page: CollectionPage) -> str | None:
        """Return the link to the next page, in a size that may be larger again."""
        url = page.next_collection_link
        if not page.entries:
            # An empty page with more behind it may be what is wrong.
            return url
        self._in_a_row = 0
        if url is None or not self._narrowed:
            return url
        return with_query(url, {"ws.size": min(span_of(url)[1] * _SMALLER, LARGEST_PAGE)})

    def around(self, url: str, error: ETLError) -> str:
        """Return the link to request instead of a page that failed with `error`. Blocks.

        Raises:
            The error itself, where it is not a single entry's.
        """
        start, size = span_of(url)
        self._narrowed = True
        client = self._client
        if client.stop.is_set() or not (
            isinstance(error, AnswerTooLargeError) or client.is_answered()
        ):
            raise error
        if size > 1:
            return with_query(url, {"ws.start": start, "ws.size": max(1, size // _SMALLER)})
        if self._doubted != start:
            self._doubted = start
            return url
        self._in_a_row += 1
        if self._in_a_row > _MOST_GAPS_IN_A_ROW:
            raise error
        log.warning("entry_not_given", path=urlsplit(url).path, start=start, error=str(error))
        self.gaps.append(Gap(start, str(error)))
        return with_query(url, {"ws.start": start + 1})


class LaunchpadClient:
    """A Launchpad site's client for one extraction, which can stop its requests."""

    def __init__(self, site: LaunchpadSite) -> None:
        self.site = site
        #: Set when nobody waits for responses any more.
        self.stop = threading.Event()

    def read[T](self, kind: type[T], url: str) -> T:
        """Get and decode. Blocks.

        Raises: as `LaunchpadSite.read`.
        """
        return self.site.read(kind, url, stop=self.stop)

    def read_entry(self, url: str) -> msgspec.Raw:
        """Get one entry undecoded; retried where it fails while Launchpad responds. Blocks.

        Raises: as `LaunchpadSite.read_entry`.
        """
        try:
            return self.site.read_entry(url, stop=self.stop)
        except ITEM_FAULTS:
            if self.stop.is_set() or not self.is_answered():
                raise
        return self.site.read_entry(url, stop=self.stop)

    def is_answered(self) -> bool:
        """Whether Launchpad answers at all, just now. Blocks."""
        try:
            self.site.check_access(stop=self.stop)
        except ETLError:
            return False
        return True

    def page(self, url: str, headway: Headway) -> CollectionPage:
        """Get a page that is the last, or leads on. Blocks.

        Raises:
            SourceUnavailableError: as `Headway.leads_on`.
            Others as `LaunchpadSite.read`.
        """
        while True:
            page = self.read(CollectionPage, url)
            link = page.next_collection_link
            if link is None or headway.leads_on(_in_order(link), rows=len(page.entries)):
                return page

    def read_whole(
        self,
        link: str,
        key: Callable[[msgspec.Raw], Any] = bytes,
        *,
        patience: int = 1,
        around: bool = False,
    ) -> Collected:
        """Return every entry of a collection, each `key` once. Blocks.

        Reads it again where entries moved between its pages, or where it counts more than came,
        until `patience` readings bring nothing new: some totals count what nobody may see. With
        `around`, entries that the server cannot give are left out, and it is not complete.

        Raises: as `page`.
        """
        found: dict[Any, msgspec.Raw] = {}
        fruitless = 0
        complete = False
        gaps: list[Gap] = []
        for reading in range(_MOST_READINGS):
            known = len(found)
            totals, gaps = self._read_pages(link, key, found, around=around)
            total = min(totals, default=None)
            complete = len(totals) <= 1 and (total is None or len(found) >= total) and not gaps
            if complete or gaps:
                break
            fruitless = fruitless + 1 if reading and len(found) == known else 0
            if fruitless == patience:
                if total is not None and len(found) < total:
                    path = urlsplit(link).path
                    log.warning("list_shorter_than_its_total", path=path, found=known, total=total)
                break
        return Collected(list(found.values()), complete, gaps)

    def _read_pages(
        self,
        link: str,
        key: Callable[[msgspec.Raw], Any],
        found: dict[Any, msgspec.Raw],
        *,
        around: bool,
    ) -> tuple[set[int], list[Gap]]:
        """Add each entry; return the totals that the pages reported, and the gaps."""
        totals: set[int] = set()
        narrowing = Narrowing(self)
        begin = with_query(link, {"ws.size": LARGEST_PAGE})
        headway = Headway(f"launchpad: {urlsplit(begin).path}", begin=_in_order(begin))
        url: str | None = begin
        while url is not None:
            try:
                page = self.page(url, headway)
            except ITEM_FAULTS as error:
                if not around:
                    raise
                url = narrowing.around(url, error)
                continue
            for entry in page.entries:
                found[key(entry)] = entry
            if page.total_size is not None:
                totals.add(page.total_size)
            url = narrowing.following(page)
        return totals, narrowing.gaps


def decoded[T](kind: type[T], entry: msgspec.Raw) -> T | None:
    """Return what an entry holds, None where it cannot be decoded."""
    try:
        return decode_record(kind, entry)
    except RecordError:
        return None


def with_query(link: str, query: Mapping[str, object]) -> str:
    """Return a link with some parameters set, in place of those it had.

    Raises:
        SourceProtocolError: it is no address.
    """
    parts = _split(link)
    kept = [pair for pair in parse_qsl(parts.query) if pair[0] not in query]
    return urlunsplit(parts._replace(query=urlencode([*kept, *query.items()])))


def _split(link: str) -> SplitResult:
    try:
        return urlsplit(link)
    except ValueError as error:
        raise SourceProtocolError(f"launchpad: {link!r} is no link: {error}") from None


def _in_order(link: str) -> str:
    """A link with its parameters sorted, so that equal links compare equal."""
    parts = _split(link)
    return urlunsplit(parts._replace(query=urlencode(sorted(parse_qsl(parts.query)))))


def start_in(link: str) -> int | None:
    """Return the number of the first entry of a linked page (`ws.start`); None for none."""
    try:
        start = parse_qs(urlsplit(link).query).get("ws.start", [""])[0]
    except ValueError:
        return None
    if not (start.isascii() and start.isdecimal() and len(start) < _MOST_DIGITS):
        return None
    return int(start)


_MOST_DIGITS = 12


def span_of(url: str) -> tuple[int, int]:
    """Return the number of a linked page's first entry, and the page's size."""
    size = parse_qs(urlsplit(url).query).get("ws.size", [""])[0]
    wanted = int(size) if size.isdecimal() and len(size) < _MOST_DIGITS else LARGEST_PAGE
    return start_in(url) or 0, wanted
