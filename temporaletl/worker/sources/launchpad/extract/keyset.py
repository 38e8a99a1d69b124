"""Keyset pagination over a subject's bugs, oldest change first, that skips none when bugs change.

A bug that changes goes to the end of the list, and every later one moves up: pages by number
would skip. So each search seeks to the latest change seen (the high-water mark). The list holds
tasks, which do not say when their bug changed; the bugs, read right after, do.

Only bugs of the very same time, more than a page holds, need pages by number. Each of those
pages begins with the last task of the page before; where it does not, tasks have moved, and the
run is read in another pass from its beginning.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import msgspec
import xxhash
from pydantic import JsonValue

from temporaletl import ConfigurationError, RecordError, Reject, SourceUnavailableError
from temporaletl.clock import utc_now
from temporaletl.external.answers import decode_record
from temporaletl.external.headway import Headway
from temporaletl.external.launchpad.transport import UnreadableError
from temporaletl.worker.sources.launchpad.entries import REDACTED, Task, number_of
from temporaletl.worker.sources.launchpad.extract.client import (
    ITEM_FAULTS,
    CollectionPage,
    Gap,
    LaunchpadClient,
    Narrowing,
    span_of,
    start_in,
    with_query,
)
from temporaletl.worker.sources.launchpad.extract.subjects import Hidden, bug_searches, pick_up

#: A bug that changed so shortly before it was listed may have changed again before it was read:
#: then its time is not its position's.
_SETTLING = timedelta(minutes=5)
#: "modified since" leaves out the very time.
_JUST_BEFORE = timedelta(milliseconds=10)
_MOST_PASSES = 30
_MOST_REPEATS = 5
#: Pages in a row of tasks that came before: the server does not heed where they shall begin.
_MOST_KNOWN = 10
_FEW = 5


class Position(msgspec.Struct, omit_defaults=True):
    """The state of a keyset pagination; as JSON it is a page's cursor.

    `at` is the high-water mark. Inside a run of equal times `start` is the number of the next
    task, and `last` links the one before it; `moved` says that tasks have moved in the present
    pass, and `known` how many pages in a row have brought only tasks that came before.
    """

    subject: str | None = None
    at: datetime | None = None
    start: int = 0
    last: str | None = None
    moved: bool = False
    pass_number: int = msgspec.field(default=1, name="round")  # its name in stored cursors
    known: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class BugPage:
    """The bugs of one page of a search, by number and link.

    `tasks` stand for all that is on the page, in its order; `gaps` says that more should be.
    `next` is the number of the task behind the page, None behind the last; `last` links the
    page's last task; `moved` says that the page does not join the one before.
    """

    requested_at: datetime
    bugs: Mapping[int, str] = field(default_factory=dict)
    rejects: Sequence[Reject] = ()
    tasks: Sequence[str] = ()
    gaps: bool = False
    next: int | None = None
    last: str | None = None
    moved: bool = False


class KeysetPagination:
    """Keyset pagination over bugs: from a cursor on, every bug of all subjects at least once."""

    def __init__(
        self,
        client: LaunchpadClient,
        subjects: Sequence[str],
        since: datetime | None,
        page_size: int,
        cursor: JsonValue,
        hidden: Hidden,
    ) -> None:
        self.client = client
        self._since = since
        self._page_size = page_size
        #: How much is requested at once: less where Launchpad could not give more.
        self._size = page_size
        self._hidden = hidden
        try:
            position = msgspec.convert(cursor or {}, Position)
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                f"no cursor of a search for Launchpad's bugs: {error}"
            ) from None
        self._subjects = [] if position.ended else list(pick_up(subjects, position.subject))
        if self._subjects and position.subject != self._subjects[0]:
            position = Position(subject=self._subjects[0])
        self._position = position
        #: The tasks of the run of pages by number, as far as this pagination has met them.
        self._met: set[str] = set()
        self._headway = Headway("launchpad: a search for bugs")

    @property
    def cursor(self) -> JsonValue:
        """The cursor behind all that was listed."""
        position = self._position if self._subjects else Position(ended=True)
        cursor: JsonValue = msgspec.to_builtins(position)
        return cursor

    def fetch(self) -> BugPage | None:
        """Return the next page, None at the end. Blocks.

        Raises: as `LaunchpadClient.read` and `Hidden.note_subject`; SourceUnavailableError where
            the server does not let us get on.
        """
        if not self._subjects:
            return None
        subject, requested_at = self._subjects[0], utc_now()
        try:
            url = self._search(subject)
            page = BugPage(requested_at) if url is None else self._list(url, requested_at)
        except UnreadableError as error:
            self._hidden.note_subject(self.client.site, subject, error)
            self._position = Position(subject)  # whatever moved in it
            return BugPage(requested_at)
        self._hidden.shown = True
        return page

    def advance(self, page: BugPage, changed: Iterable[datetime]) -> None:
        """Advance behind a page.

        `changed` are the times of its bugs' latest changes, as far as they could be read.

        Raises:
            SourceUnavailableError: page after page brings nothing, or nothing else than before.
        """
        position = self._position
        moved = position.moved or page.moved
        stable = [time for time in changed if time <= page.requested_at - _SETTLING]
        latest = max(stable, default=None)
        if latest is not None and position.at is not None and latest <= position.at:
            latest = None
        if page.next is not None and latest is None:
            known = self._known_in_a_row(page, page.next)
            self._position = msgspec.structs.replace(
                position, start=page.next, last=page.last, moved=moved, known=known
            )
            return
        self._met.clear()
        self._headway.begin_anew()
        if moved:
            self._begin_pass()
        elif page.next is not None:
            self._position = Position(position.subject, latest)
        else:
            del self._subjects[0]
            self._position = Position(next(iter(self._subjects), None))

    def _known_in_a_row(self, page: BugPage, following: int) -> int:
        """Count the pages in a row, with this one, that brought only known tasks."""
        position = self._position
        tasks = [task for task in page.tasks if task != position.last]
        # Whoever goes on from a cursor has met nothing, and knows where the page before ended.
        ends_as_before = bool(tasks) and page.tasks[-1] == position.last
        news = page.gaps or not (ends_as_before or self._met.issuperset(tasks))
        self._met.update(tasks)
        self._headway.leads_on(str(following), rows=len(tasks) or int(page.gaps))
        if news or not tasks:
            return 0 if news else position.known
        if position.known == _MOST_KNOWN:
            raise SourceUnavailableError(
                f"launchpad: the bugs of {position.subject} go on and on: {_MOST_KNOWN + 1} pages "
                "in a row held only tasks that came before, as if ws.start were ignored"
            )
        return position.known + 1

    def _begin_pass(self) -> None:
        position = self._position
        if position.pass_number == _MOST_PASSES:
            raise SourceUnavailableError(
                f"launchpad: the bugs of {position.subject} change faster than they can be listed"
            )
        self._position = Position(
            position.subject, position.at, pass_number=position.pass_number + 1
        )

    def _search(self, subject: str) -> str | None:
        """The URL of the next page; it begins with the last task of the page before."""
        since = self._position.at or self._since
        urls = bug_searches(
            self.client.site, subject, None if since is None else since - _JUST_BEFORE
        )
        if not urls:
            return None
        start, overlap = self._position.start, int(self._position.last is not None)
        paging = {"ws.start": start - overlap} if start > overlap else {}
        return with_query(urls[0], {**paging, "ws.size": self._size + overlap})

    def other_bugs(self, but: Collection[int]) -> Mapping[int, str]:
        """Return a few bugs of the present subject, by number and link, but some. Blocks."""
        bugs: dict[int, str] = {}
        for url in bug_searches(self.client.site, self._subjects[0], None):
            first = with_query(url, {"ws.size": len(but) + _FEW})
            for entry in self.client.read(CollectionPage, first).entries:
                _sort(entry, bugs)
        return {number: link for number, link in bugs.items() if number not in but}

    def _list(self, url: str, requested_at: datetime) -> BugPage:
        position = self._position
        joined = position.last is not None
        narrowing = Narrowing(self.client)
        repeats = 0
        while repeats < _MOST_REPEATS:
            try:
                page = self.client.read(CollectionPage, url)
            except ITEM_FAULTS as error:
                if joined:
                    # Without the task that joins the pages, which may be all that comes.
                    url, joined = with_query(url, {"ws.start": position.start}), False
                url = narrowing.around(url, error)
                continue
            start, size = span_of(url)
            following = _start_of_next(page, start)
            self._size = min(self._page_size, 2 * (size - joined))
            if following is None or following > position.start:
                break
            repeats += 1
        else:
            raise SourceUnavailableError(
                f"launchpad: {urlsplit(url).path} gives nothing more, and says that there is more"
            )
        bugs: dict[int, str] = {}
        rejects = [self._skipped(gap) for gap in narrowing.gaps]
        links: list[str | None] = []
        tasks: list[str] = []
        for entry in page.entries:
            link, reject = _sort(entry, bugs)
            links.append(None if link is None else xxhash.xxh3_64_hexdigest(link.encode()))
            tasks.append(links[-1] or xxhash.xxh3_64_hexdigest(bytes(entry)))
            if reject is not None:
                rejects.append(reject)
        moved = joined and (not links or links[0] != position.last)
        last = links[-1] if links else None
        gaps = bool(narrowing.gaps)
        return BugPage(requested_at, bugs, rejects, tasks, gaps, following, last, moved)

    def _skipped(self, gap: Gap) -> Reject:
        subject, at = self._position.subject, self._position.at or self._since
        return Reject(
            stage="extract",
            reason=f"Launchpad cannot give entry {gap.start} of {subject}'s bugs: {gap.reason}",
            key=subject,
            payload={"subject": subject, "changed_since": at, "entry": gap.start},
        )


def _start_of_next(page: CollectionPage, start: int) -> int | None:
    """The number of the entry behind a page that starts at one; None behind the last."""
    if page.next_collection_link is None:
        return None
    # By what came, unless more was passed over: what we may not see is left out of pages.
    return max(start + len(page.entries), start_in(page.next_collection_link) or 0)


def _sort(entry: msgspec.Raw, bugs: dict[int, str]) -> tuple[str | None, Reject | None]:
    """Add the bug of a task; return the task's link, and a reject where it has no bug."""
    try:
        task = decode_record(Task, entry)
    except RecordError as error:
        return None, Reject(stage="extract", reason=f"no bug task: {error}", payload=entry)
    number = number_of(task.bug_link)
    if number is None or task.bug_link is None:
        why = "is hidden from us" if task.bug_link == REDACTED else f"is no bug: {task.bug_link!r}"
        reason = f"bug_link {why}"
        return task.self_link, Reject(
            stage="extract", reason=reason, key=task.self_link, payload=entry
        )
    bugs[number] = task.bug_link
    return task.self_link, None
