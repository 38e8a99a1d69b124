"""The walk over a person's or target's bugs, oldest change first, that survives bugs changing.

A bug that changes goes to the end of the list, and every later one moves up: pages by number
would skip. So each search starts anew at the latest change seen (the anchor). The list holds
tasks, which do not tell when their bug changed; the bugs, read right after, do.

Only bugs of the very same moment, more than a page holds, need pages by number. Each of those
pages begins with the last task of the page before; where it does not, tasks have moved, and the
run is read again from its beginning.
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
#: then its time is not its place's.
_SETTLING = timedelta(minutes=5)
#: "modified since" leaves out the very moment.
_JUST_BEFORE = timedelta(milliseconds=10)
_MOST_ROUNDS = 30
_MOST_REPEATS = 5
#: Pages in a row of tasks that came before: the server does not heed where they shall begin.
_MOST_KNOWN = 10
_FEW = 5


class Position(msgspec.Struct, omit_defaults=True):
    """Where a walk stands; as JSON it is a page's cursor.

    `at` is the anchor. Inside a run of equal times `start` is the number of the next task, and
    `last` links the one before it; `moved` tells that tasks have moved in the present round, and
    `known` how many pages in a row have brought only tasks that came before.
    """

    subject: str | None = None
    at: datetime | None = None
    start: int = 0
    last: str | None = None
    moved: bool = False
    round: int = 1
    known: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Listed:
    """The bugs of one page of a search, by number and link.

    `tasks` stand for all that is on the page, in its order; `gaps` tells that more should be.
    `next` is the number of the task behind the page, None behind the last; `last` links the
    page's last task; `moved` tells that the page does not join the one before.
    """

    asked: datetime
    bugs: Mapping[int, str] = field(default_factory=dict)
    rejects: Sequence[Reject] = ()
    tasks: Sequence[str] = ()
    gaps: bool = False
    next: int | None = None
    last: str | None = None
    moved: bool = False


class Walk:
    """Lists every bug of all subjects at least once, from a cursor on."""

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
        #: How much is asked for at once: less where Launchpad could not give more.
        self._size = page_size
        self._hidden = hidden
        try:
            place = msgspec.convert(cursor or {}, Position)
        except msgspec.ValidationError as error:
            raise ConfigurationError(f"no cursor of a walk over Launchpad: {error}") from None
        self._subjects = [] if place.ended else list(pick_up(subjects, place.subject))
        if self._subjects and place.subject != self._subjects[0]:
            place = Position(subject=self._subjects[0])
        self._place = place
        #: The tasks of the run of pages by number, as far as this walk has met them.
        self._met: set[str] = set()
        self._headway = Headway("launchpad: a search for bugs")

    @property
    def cursor(self) -> JsonValue:
        """Where to go on behind all that was listed."""
        place = self._place if self._subjects else Position(ended=True)
        cursor: JsonValue = msgspec.to_builtins(place)
        return cursor

    def ask(self) -> Listed | None:
        """List the next page, None at the end. Blocks.

        Raises: as `LaunchpadClient.read` and `Hidden.note_subject`; SourceUnavailableError where
            the server does not let us get on.
        """
        if not self._subjects:
            return None
        subject, asked = self._subjects[0], utc_now()
        try:
            url = self._search(subject)
            listed = Listed(asked) if url is None else self._list(url, asked)
        except UnreadableError as error:
            self._hidden.note_subject(self.client.site, subject, error)
            self._place = Position(subject)  # whatever moved in it
            return Listed(asked)
        self._hidden.shown = True
        return listed

    def move(self, listed: Listed, changed: Iterable[datetime]) -> None:
        """Go on behind a page.

        `changed` are the times of its bugs' latest changes, as far as they could be read.

        Raises:
            SourceUnavailableError: page after page brings nothing, or nothing else than before.
        """
        place = self._place
        moved = place.moved or listed.moved
        settled = [time for time in changed if time <= listed.asked - _SETTLING]
        latest = max(settled, default=None)
        if latest is not None and place.at is not None and latest <= place.at:
            latest = None
        if listed.next is not None and latest is None:
            known = self._known_in_a_row(listed, listed.next)
            self._place = msgspec.structs.replace(
                place, start=listed.next, last=listed.last, moved=moved, known=known
            )
            return
        self._met.clear()
        self._headway.begin_anew()
        if moved:
            self._again()
        elif listed.next is not None:
            self._place = Position(place.subject, latest)
        else:
            del self._subjects[0]
            self._place = Position(next(iter(self._subjects), None))

    def _known_in_a_row(self, listed: Listed, following: int) -> int:
        """Return how many pages in a row brought only tasks that came before, with this one."""
        place = self._place
        tasks = [task for task in listed.tasks if task != place.last]
        # Whoever goes on from a cursor has met nothing, and knows where the page before ended.
        ends_as_before = bool(tasks) and listed.tasks[-1] == place.last
        news = listed.gaps or not (ends_as_before or self._met.issuperset(tasks))
        self._met.update(tasks)
        self._headway.leads_on(str(following), rows=len(tasks) or int(listed.gaps))
        if news or not tasks:
            return 0 if news else place.known
        if place.known == _MOST_KNOWN:
            raise SourceUnavailableError(
                f"launchpad: the bugs of {place.subject} go on and on: {_MOST_KNOWN + 1} pages in "
                "a row held only tasks that came before, as if ws.start were ignored"
            )
        return place.known + 1

    def _again(self) -> None:
        place = self._place
        if place.round == _MOST_ROUNDS:
            raise SourceUnavailableError(
                f"launchpad: the bugs of {place.subject} change faster than they can be listed"
            )
        self._place = Position(place.subject, place.at, round=place.round + 1)

    def _search(self, subject: str) -> str | None:
        """The URL of the next page; it begins with the last task of the page before."""
        since = self._place.at or self._since
        urls = bug_searches(
            self.client.site, subject, None if since is None else since - _JUST_BEFORE
        )
        if not urls:
            return None
        start, overlap = self._place.start, int(self._place.last is not None)
        paging = {"ws.start": start - overlap} if start > overlap else {}
        return with_query(urls[0], {**paging, "ws.size": self._size + overlap})

    def some_others(self, but: Collection[int]) -> Mapping[int, str]:
        """Return a few bugs of the present subject, by number and link, but some. Blocks."""
        bugs: dict[int, str] = {}
        for url in bug_searches(self.client.site, self._subjects[0], None):
            asked_for = with_query(url, {"ws.size": len(but) + _FEW})
            for entry in self.client.read(CollectionPage, asked_for).entries:
                _sort(entry, bugs)
        return {number: link for number, link in bugs.items() if number not in but}

    def _list(self, url: str, asked: datetime) -> Listed:
        place = self._place
        joined = place.last is not None
        narrowing = Narrowing(self.client)
        repeats = 0
        while repeats < _MOST_REPEATS:
            try:
                page = self.client.read(CollectionPage, url)
            except ITEM_FAULTS as error:
                if joined:
                    # Without the task that joins the pages, which may be all that comes.
                    url, joined = with_query(url, {"ws.start": place.start}), False
                url = narrowing.around(url, error)
                continue
            start, size = span_of(url)
            following = _start_of_next(page, start)
            self._size = min(self._page_size, 2 * (size - joined))
            if following is None or following > place.start:
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
        moved = joined and (not links or links[0] != place.last)
        last = links[-1] if links else None
        gaps = bool(narrowing.gaps)
        return Listed(asked, bugs, rejects, tasks, gaps, following, last, moved)

    def _skipped(self, gap: Gap) -> Reject:
        subject, at = self._place.subject, self._place.at or self._since
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
    """Add the bug of a task, or say why not; return what links the task."""
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
