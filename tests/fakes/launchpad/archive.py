"""The data of one Launchpad: people, targets, bugs, merge proposals, questions.

Links carry the address of the real service, version 1.0; the service puts its own in their place
when it answers. Times are text in UTC, with microseconds, so that they compare as text.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import xxhash

Json = dict[str, Any]

BASE = "https://api.launchpad.net/1.0"
WEB = "https://launchpad.net"
REDACTED = "tag:launchpad.net:2008:redacted"

OPEN_BUGS = frozenset({"New", "Incomplete", "Confirmed", "Triaged", "In Progress", "Fix Committed"})
CLOSED_BUGS = frozenset({"Fix Released", "Invalid", "Won't Fix", "Expired", "Opinion"})
OPEN_PROPOSALS = frozenset({"Work in progress", "Needs review", "Approved"})
PROPOSALS = OPEN_PROPOSALS | {"Rejected", "Merged", "Code failed to merge", "Queued", "Superseded"}
ASKED_QUESTIONS = frozenset({"Open", "Needs information", "Answered", "Solved"})
QUESTIONS = ASKED_QUESTIONS | {"Expired", "Invalid"}


@dataclass(slots=True)
class Task:
    """A bug in one target."""

    target: str
    status: str = "New"
    importance: str = "Undecided"
    assignee: str | None = None
    raw: Json | None = None


@dataclass(slots=True)
class Change:
    """An entry of a bug's activity log."""

    at: str
    person: str | None
    what: str
    old: str | None = None
    new: str | None = None
    message: str | None = None
    raw: Json | None = None


@dataclass(slots=True)
class Message:
    """A message about a bug or question. `index` stays, whatever is deleted before it."""

    index: int
    at: str
    person: str | None
    content: str
    subject: str = ""
    action: str | None = None
    new_status: str | None = None
    raw: Json | None = None


@dataclass(slots=True, eq=False)
class Bug:
    number: int
    title: str
    description: str
    owner: str | None
    created: str
    updated: str
    tasks: list[Task] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    subscribers: set[str] = field(default_factory=set)
    duplicate_of: int | None = None
    tags: tuple[str, ...] = ()
    private: bool = False
    raw: Json | None = None

    def people(self) -> set[str]:
        """Everybody whose searches find it."""
        found = {self.owner, *(task.assignee for task in self.tasks)}
        found.update(message.person for message in self.messages)
        return {person for person in found if person} | self.subscribers


@dataclass(slots=True)
class Comment:
    """A comment on a proposal; with a vote it is a review."""

    id: int
    at: str
    person: str | None
    content: str
    vote: str | None = None
    vote_tag: str | None = None


@dataclass(slots=True)
class Vote:
    """A review, requested or not."""

    id: int
    at: str
    registrant: str | None
    reviewer: str | None
    review_type: str | None = None
    requested: bool = True
    comment: int | None = None


@dataclass(slots=True, eq=False)
class Proposal:
    number: int
    owner: str  # of the source branch
    project: str
    registrant: str | None
    created: str
    status: str = "Work in progress"
    description: str = ""
    review_requested: str | None = None
    reviewed: str | None = None
    reviewer: str | None = None
    merged: str | None = None
    merge_reporter: str | None = None
    superseded_by: int | None = None
    supersedes: int | None = None
    git: bool = True
    comments: list[Comment] = field(default_factory=list)
    votes: list[Vote] = field(default_factory=list)
    private: bool = False

    @property
    def path(self) -> str:
        kind = "+git/repo" if self.git else "branch"
        return f"~{self.owner}/{self.project}/{kind}-{self.number}/+merge/{self.number}"


@dataclass(slots=True, eq=False)
class Question:
    number: int
    target: str
    title: str
    description: str
    owner: str | None
    created: str
    status: str = "Open"
    assignee: str | None = None
    answerer: str | None = None
    last_query: str | None = None
    last_response: str | None = None
    solved: str | None = None
    messages: list[Message] = field(default_factory=list)
    private: bool = False

    @property
    def path(self) -> str:
        return f"{self.target}/+question/{self.number}"

    def people(self) -> set[str]:
        found = {self.owner, self.assignee, self.answerer}
        found.update(message.person for message in self.messages)
        return {person for person in found if person}


class Archive:
    """One Launchpad. Safe to change (see `edit`) while it is being served."""

    def __init__(
        self,
        people: Iterable[Json] = (),
        targets: Iterable[Json] = (),
        bugs: Iterable[Bug] = (),
        proposals: Iterable[Proposal] = (),
        questions: Iterable[Question] = (),
        *,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        # The editor needs the model above, so it is imported when there is something to edit.
        from tests.fakes.launchpad.edit import Editor  # noqa: PLC0415

        self.people: dict[str, Json] = {person["name"]: person for person in people}
        self.targets: dict[str, Json] = {target["path"]: target for target in targets}
        self.bugs = {bug.number: bug for bug in bugs}
        self.proposals = {proposal.number: proposal for proposal in proposals}
        self.questions = {question.number: question for question in questions}
        #: Paths that are listed, but answer with this status when they are looked at.
        self.withheld: dict[str, int] = {}
        #: Paths that were renamed, with where they are now.
        self.renamed: dict[str, str] = {}
        #: How private objects answer those who may not see them.
        self.private_status = 401
        self.redacted_people: set[str] = set()
        self.lock = threading.RLock()
        self.clock = clock or (lambda: datetime.now(UTC))
        #: Moves with every change, so that whoever caches knows.
        self.version = 0
        self.edit = Editor(self)

    def now(self) -> str:
        return text_of(self.clock())

    def shape_ties(self, rate: float, seed: int = 0) -> None:
        """Give a share of the bugs one time of change, as a bulk change does."""
        with self.lock:
            newest = max((bug.updated for bug in self.bugs.values()), default="")
            for bug in self.bugs.values():
                if chance(seed, "ties", bug.number) < rate:
                    bug.updated = newest
            self.version += 1

    def shape_null_people(self, rate: float, seed: int = 0) -> None:
        """Remove the person from a share of all events."""
        with self.lock:
            for bug in self.bugs.values():
                self._strip(bug.changes, rate, seed, "activity", bug.number)
                self._strip(bug.messages[1:], rate, seed, "message", bug.number)
            for proposal in self.proposals.values():
                self._strip(proposal.comments, rate, seed, "comment", proposal.number)
                if chance(seed, "reporter", proposal.number) < rate:
                    proposal.merge_reporter = None
            for question in self.questions.values():
                self._strip(question.messages, rate, seed, "question", question.number)
            self.version += 1

    def _strip(
        self, entries: Iterable[Any], rate: float, seed: int, what: str, number: int
    ) -> None:
        for index, entry in enumerate(entries):
            if chance(seed, what, number, index) < rate:
                entry.person = None


def text_of(timestamp: datetime) -> str:
    """Write a time as Launchpad does, always with microseconds."""
    return timestamp.astimezone(UTC).isoformat(timespec="microseconds")


def person(name: str, display_name: str, time_zone: str = "UTC", **more: Any) -> Json:
    """Create a person with the fields that Launchpad shows."""
    link = f"{BASE}/~{name}"
    return {
        "self_link": link,
        "web_link": f"{WEB}/~{name}",
        "resource_type_link": f"{BASE}/#person",
        "http_etag": f'"{name}"',
        "name": name,
        "display_name": display_name,
        "time_zone": time_zone,
        "is_team": False,
        "is_valid": True,
        "karma": 0,
        "private": False,
        "preferred_email_address_link": REDACTED,
        "super_teams_collection_link": f"{link}/super_teams",
        "team_owner_link": None,
        **more,
    }


def target(path: str, kind: str = "project") -> Json:
    """Create a project, distribution, or package in one."""
    return {
        "path": path,
        "self_link": f"{BASE}/{path}",
        "web_link": f"{WEB}/{path}",
        "resource_type_link": f"{BASE}/#{kind}",
        "http_etag": f'"{path}"',
        "name": path.rpartition("/")[2],
        "display_name": path.title(),
    }


def chance(*parts: object) -> float:
    """Draw from 0 to 1, the same for the same parts."""
    return xxhash.xxh3_64_intdigest("|".join(map(str, parts)).encode()) / 2**64
