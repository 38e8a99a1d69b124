"""Finds the items that a source no longer has.

Few sources tell of deletions. Where one does not, a job of its own lists all there is; what is
stored and not listed is asked for by itself, for a list may be behind or cut short. What was listed
is known to one segment alone: listing has to end within TEMPORAL_ACTIVITY_TIMEOUT_MINUTES.
"""

import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import structlog

from temporaletl.errors import SourceProtocolError
from temporaletl.messages import Mode
from temporaletl.rows import Whole
from temporaletl.strategies import Page, PageRequest

log = structlog.get_logger("temporaletl.census")

#: In which runs a census is taken; never in a backfill, which is about its window alone.
FindDeleted = Literal["always", "full", "never"]

_GONE_PER_PAGE = 500
#: The share of the stored items that may be gone before it looks like a mistake...
_MOST_GONE = 0.1
#: ...unless they are so few.
_FEW_GONE = 10


def takes_census(find_deleted: FindDeleted, mode: Mode) -> bool:
    """Whether a run of that mode looks for what is gone."""
    if find_deleted == "never":
        return False
    return mode == "full" or (mode == "incremental" and find_deleted == "always")


@dataclass(frozen=True, slots=True)
class Census:
    """How a source's items are found gone.

    Event ids of an item begin with `prefix`, the item's id and a colon; where items are `exact`,
    that is an event's whole id, without the colon. `list_ids` returns the ids of all items that
    the source shows; `is_gone` asks for one, and without it the list alone decides. `most_asked`
    limits what one census asks for, where each costs a request: others of those that are not
    listed are asked for in later ones.
    """

    items: str
    list_ids: Callable[[], Collection[str]]
    is_gone: Callable[[str], bool] | None = None
    prefix: str = ""
    exact: bool = False
    most_asked: int | None = None

    async def pages(
        self, request: PageRequest, start: Callable[..., Awaitable[Page | None]]
    ) -> AsyncGenerator[Page]:
        """Yield the items that are gone, each one a `Whole` of nothing. Safe to repeat.

        `start` runs a function in one of the source's own threads.

        Raises:
            SourceProtocolError: so many are gone that permissions or a filter may be the reason;
                not where the query's `accept_deletions` is set.
            ETLError: as `list_ids` and `is_gone` raise.
        """
        found = self._pages(request)
        while (page := await start(next, found, None)) is not None:
            yield page

    def _pages(self, request: PageRequest) -> Iterator[Page]:
        stored = (request.stored_ids if self.exact else request.stored_items)(self.prefix)
        if not stored:
            return
        asked = datetime.now(UTC)
        gone = self._gone(sorted(stored.difference(self.list_ids())), request.job.job_id)
        most = max(_FEW_GONE, _MOST_GONE * len(stored))
        if len(gone) > most and not request.query.accept_deletions:
            raise SourceProtocolError(
                f"{request.job.source}: {len(gone):,} of the {len(stored):,} {self.items} that are "
                "loaded are not shown any more: was a permission taken away from the account? If "
                "they are gone indeed, run once with --param accept_deletions=true"
            )
        for first in range(0, len(gone), _GONE_PER_PAGE):
            some = gone[first : first + _GONE_PER_PAGE]
            yield Page(
                records=[self._nothing_of(id_) for id_ in some],
                cursor=some[-1],
                extracted_at=asked,
            )

    def _nothing_of(self, id_: str) -> Whole:
        return Whole(f"{self.prefix}{id_}" + ("" if self.exact else ":"), exact=self.exact)

    def _gone(self, missing: list[str], job_id: str) -> list[str]:
        if self.is_gone is None:
            return missing
        if self.most_asked is not None and len(missing) > self.most_asked:
            log.warning("census_asks_for_some", missing=len(missing), asked=self.most_asked)
            # Others each time, and the same ones when the job is tried again.
            missing = sorted(random.Random(job_id).sample(missing, self.most_asked))  # noqa: S311
        return [id_ for id_ in missing if self.is_gone(id_)]
