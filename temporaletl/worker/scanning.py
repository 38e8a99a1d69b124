"""Execution of deletion scans: from the list of items that a source shows to the deleted ones.

The findings of a scan are in the warehouse, committed with its job's cursor.
"""

from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Literal, Protocol

import msgspec
from pydantic import JsonValue

from temporaletl.deletions import DeletionScan, Items, ScanMethod, accepts_deletions, scans
from temporaletl.errors import ConfigurationError, SourceProtocolError, SourceUnavailableError
from temporaletl.extraction import Page, PageRequest
from temporaletl.messages import ETLInput
from temporaletl.rows import Finding, ScanItems
from temporaletl.strategies import Strategies, check_query
from temporaletl.telemetry.logs import get_logger

log = get_logger("temporaletl.worker.scanning")

_DELETED_PER_PAGE = 500
_CHECKS_PER_PAGE = 50
#: The share of the stored items that may be deleted before it looks like a mistake...
_MOST_DELETED = 0.1
#: ...unless they are so few.
_FEW_DELETED = 10


class ScanStore(Protocol):
    """Store of one scan's findings, in the warehouse. Blocks; each method is safe to repeat.

    The findings of a scan's items are written with the pages that bring them, as `ScanItems`.
    """

    def resume(self, *, list_alone: bool) -> JsonValue:
        """Forget this job's findings; take over those of an earlier one, and return its cursor.

        With `list_alone` only where that was still being listed; else it is forgotten, too.
        """

    def is_intact(self) -> bool:
        """Whether the findings so far are still there: a crash of the warehouse may lose them."""

    def is_over(self) -> bool:
        """Whether the time is over that a scan has in one run."""

    def now(self) -> datetime:
        """The time by the warehouse's clock."""

    def lacking_view(self) -> str | None:
        """Permissions and containers that the account lost since rows were loaded; None where none.

        Raises: as the source's account view does.
        """

    def has_stored(self, items: Items) -> bool: ...

    def narrowed_scope(self, scope: Collection[str]) -> list[str]:
        """The parts of the last finished scan's scope that this one lacks."""

    def compare(self, items: Items, since: datetime, *, with_kept: bool) -> int:
        """Note the stored items that are missing from the list; return how many are stored.

        Those count that were loaded before `since`; those that a scope left behind only
        `with_kept`.
        """

    def count(self, finding: Finding) -> int: ...

    def found(self, finding: Finding, most: int) -> list[str]:
        """Some items of that finding, in an order that differs from scan to scan."""

    def keep_missing(self) -> int:
        """Let what is missing stay for good; return how many items."""

    def finish(self, scope: Collection[str]) -> None:
        """Note what was compared."""


class _Cursor(msgspec.Struct, omit_defaults=True):
    """Cursor of a scan: its phase, and the position within that."""

    phase: Literal["list", "compare", "check", "delete", "ended"] = "list"
    since: str = ""
    position: Any = None


def scanning(strategies: Strategies, job: ETLInput, store: ScanStore) -> Strategies:
    """Strategies of a job whose pages are the findings of its stream's deletion scan.

    Raises:
        UnknownSourceError: the stream has none; names those that there are.
        ConfigurationError: it takes queries of another class than the source registered.
    """
    method = scans.get_for_stream(job.source, job.stream)
    check_query(method, job.source, strategies.query)
    return replace(strategies, extract=partial(scanned_pages, method, store))


async def scanned_pages(
    method: ScanMethod[Any], store: ScanStore, request: PageRequest[Any]
) -> AsyncGenerator[Page]:
    """Yield a scan's findings, and then a tombstone for each deleted item.

    Raises:
        SourceProtocolError: the account sees less than when the rows were loaded, or so many
            items are deleted that this may be the reason; not where the job's parameters have
            `accept_deletions`. Nothing is deleted.
        ConfigurationError: the job's cursor is none of a scan's.
        ETLError: as the scan's `list_ids` and `is_deleted`, and the source's account view, raise.
    """
    with contextmanager(method)(request) as scan:
        found = _Run(scan, request, store).pages()
        while (page := await scan.start(next, found, None)) is not None:
            yield page
            # The next step looks at what this one found.
            await request.stored.committed()


class _Run:
    """Run of a scan within one job."""

    def __init__(self, scan: DeletionScan, request: PageRequest[Any], store: ScanStore) -> None:
        self._scan = scan
        self._store = store
        self._source = request.job.source
        self._accepted = accepts_deletions(request.job.params)
        try:
            self._cursor = msgspec.convert(request.cursor or {}, _Cursor)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"no cursor of a deletion scan: {error}") from None

    def pages(self) -> Iterator[Page]:
        lost = self._cursor.phase != "ended" and not self._store.is_intact()
        if not self._cursor.since or lost:
            self._begin()
            if not self._store.has_stored(self._scan.items):
                yield self._end()
        if self._cursor.phase == "list":
            yield from self._list()
        if self._cursor.phase == "compare":
            yield from self._compare()
        if self._cursor.phase == "check":
            yield from self._check()
        if self._cursor.phase == "delete":
            yield from self._delete()

    def _begin(self) -> None:
        self._verify()
        # Where the list alone decides, what it lacked days ago may be there again.
        earlier = self._store.resume(list_alone=self._scan.is_deleted is None)
        self._cursor = msgspec.convert(earlier or {}, _Cursor)
        if not self._cursor.since:
            self._cursor.since = self._store.now().isoformat()

    def _page(self, *records: Any, note: str | None = None) -> Page:
        return Page(
            records=records,
            cursor=msgspec.to_builtins(self._cursor),
            extracted_at=datetime.fromisoformat(self._cursor.since),
            note=note,
        )

    def _unfinished(self) -> Page:
        note = (
            f"the scan for deleted {self._scan.noun} goes on in the next run: "
            f"{self._store.count('listed'):,} are listed so far"
        )
        log.info("deletion_scan_unfinished", source=self._source, note=note)
        return self._page(note=note)

    def _list(self) -> Iterator[Page]:
        # What cannot be taken up is one page: behind a part of it, it would begin anew for ever.
        together: set[str] = set()
        for ids, position in self._scan.list_ids(self._cursor.position):
            if position is None:
                together.update(ids)
                continue
            self._cursor.position = position
            yield self._page(ScanItems(tuple(ids), "listed"))
            if self._store.is_over():
                yield self._unfinished()
                return
        self._cursor.phase, self._cursor.position = "compare", None
        yield self._page(ScanItems(tuple(together), "listed"))

    def _compare(self) -> Iterator[Page]:
        since = datetime.fromisoformat(self._cursor.since)
        stored = self._store.compare(self._scan.items, since, with_kept=self._accepted)
        narrowed = self._store.narrowed_scope(self._scan.scope)
        if narrowed and not self._accepted:
            yield self._end(note=self._kept(narrowed))
            return
        self._cursor.phase, self._cursor.position = "check", stored
        yield self._page()

    def _kept(self, narrowed: list[str]) -> str | None:
        kept = self._store.keep_missing()
        if not kept:
            return None
        note = (
            f"{kept:,} {self._scan.noun} are stored that what is read covers no more (without "
            f"{', '.join(narrowed)[:200]}): they stay, and are only looked for again in a run with "
            "--param accept_deletions=true"
        )
        log.warning("items_left_behind", source=self._source, kept=kept, without=narrowed)
        return note

    def _check(self) -> Iterator[Page]:
        """Check the missing items one by one."""
        stored = int(self._cursor.position or 0)
        is_deleted = self._scan.is_deleted
        if is_deleted is None:
            self._guard(self._store.count("missing"), stored)
            while ids := self._store.found("missing", _DELETED_PER_PAGE):
                yield self._page(ScanItems(tuple(ids), "gone"))
        else:
            checked = self._store.count("present") + self._store.count("gone")
            most = self._scan.max_checks
            while ids := self._store.found("missing", _CHECKS_PER_PAGE):
                if most is not None:
                    ids = ids[: most - checked]
                if not ids:
                    log.warning("deletion_scan_asks_for_some", source=self._source, asked=checked)
                    break
                deleted = tuple(id_ for id_ in ids if self._is_deleted(is_deleted, id_))
                present = tuple(id_ for id_ in ids if id_ not in deleted)
                # What was not shown to somebody who may see nothing is not deleted.
                self._verify()
                checked += len(ids)
                yield self._page(ScanItems(deleted, "gone"), ScanItems(present, "present"))
                self._guard(self._store.count("gone"), stored)
                if self._store.is_over() and self._store.count("missing"):
                    yield self._unfinished()
                    return
        self._cursor.phase, self._cursor.position = "delete", None
        yield self._page()

    def _is_deleted(self, is_deleted: Callable[[str], bool], id_: str) -> bool:
        try:
            return is_deleted(id_)
        except SourceUnavailableError as error:
            if error.delay is not None:
                raise
            # A source that answers who we are, and fails at this item alone, has it still.
            self._verify()
            log.warning("item_not_answered", source=self._source, item=id_, error=str(error))
            return False

    def _guard(self, deleted: int, stored: int) -> None:
        if deleted <= max(_FEW_DELETED, _MOST_DELETED * stored) or self._accepted:
            return
        raise SourceProtocolError(
            f"{self._source}: {deleted:,} of the {stored:,} {self._scan.noun} that are loaded are "
            "not shown any more: was a permission taken away from the account? Nothing is deleted. "
            "If they are deleted indeed, run once with --param accept_deletions=true"
        )

    def _delete(self) -> Iterator[Page]:
        is_deleted = self._scan.is_deleted
        most = _DELETED_PER_PAGE if is_deleted is None else _CHECKS_PER_PAGE
        while ids := self._store.found("gone", most):
            # Once more: it was checked a while ago, perhaps by an earlier run, and what came back
            # unchanged has rows that look as old as if it had not.
            back = tuple(id_ for id_ in ids if is_deleted and not self._is_deleted(is_deleted, id_))
            deleted = tuple(id_ for id_ in ids if id_ not in back)
            # Each time: what was taken away since the beginning is absent, not deleted.
            self._verify()
            tombstones = [self._scan.items.tombstone(id_) for id_ in deleted]
            yield self._page(*tombstones, ScanItems(deleted, "deleted"), ScanItems(back, "present"))
        yield self._end()

    def _end(self, *, note: str | None = None) -> Page:
        self._store.finish(self._scan.scope)
        self._cursor.phase, self._cursor.position = "ended", None
        return self._page(note=note)

    def _verify(self) -> None:
        """Check that the account still sees all that it saw when the rows were loaded.

        Raises: as `scanned_pages`.
        """
        lacking = self._store.lacking_view()
        if lacking is not None and not self._accepted:
            raise SourceProtocolError(
                f"{self._source}: {lacking}. What is not shown now may be there all the same, so "
                f"no {self._scan.noun} are deleted: give the account back what it had; or, if it "
                "sees all that there is, run once with --param accept_deletions=true"
            )
