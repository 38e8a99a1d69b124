"""Generation of archives from a seed."""

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise

from tests.fakes.launchpad.archive import (
    Archive,
    Bug,
    Change,
    Comment,
    Json,
    Message,
    Proposal,
    Question,
    Task,
    Vote,
    person,
    target,
    text_of,
)

_BEGIN = datetime(2023, 1, 2, 8, tzinfo=UTC)
_SPAN = timedelta(days=900)
_ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Nowhere/Atlantis", "")
_STATUSES = (
    "New",
    "Incomplete",
    "Opinion",
    "Invalid",
    "Won't Fix",
    "Expired",
    "Confirmed",
    "Triaged",
    "In Progress",
    "Fix Committed",
    "Fix Released",
)
_IMPORTANCES = ("Undecided", "Low", "Medium", "High", "Critical", "Wishlist")
_FIELDS = ("status", "status", "importance", "assignee", "milestone")
_BUG_FIELDS = ("summary", "description", "tags", "information type", "bug task added")
_WORDS = ("boot", "crash", "disk", "font", "kernel", "panel", "printer", "sound", "theme", "wifi")
_VOTES = ("Approve", "Needs Fixing", "Disapprove", "Abstain", "Needs Information")


def generate(
    bugs: int,
    *,
    proposals: int | None = None,
    questions: int | None = None,
    people: int | None = None,
    seed: int = 0,
    clock: Callable[[], datetime] | None = None,
) -> Archive:
    """Generate an archive: about 30 microseconds a bug.

    Proposals are a third, questions a fifth of the bugs, people a fortieth and eight, unless
    told otherwise.
    """
    draw = random.Random(seed)  # noqa: S311 - made-up data
    members = [_person(draw, n) for n in range(bugs // 40 + 8 if people is None else people)]
    names = [each["name"] for each in members]
    targets = [
        target("alpha"),
        target("beta-tool"),
        target("ubuntu", "distribution"),
        target("ubuntu/+source/bash", "distribution_source_package"),
    ]
    paths = [each["path"] for each in targets]
    maker = _Maker(draw, names, paths)
    wanted_proposals = bugs // 3 if proposals is None else proposals
    return Archive(
        members,
        targets,
        [maker.bug(number, bugs) for number in range(1, bugs + 1)],
        maker.proposals(wanted_proposals),
        [
            maker.question(number)
            for number in range(1, (bugs // 5 if questions is None else questions) + 1)
        ],
        clock=clock,
    )


def _person(draw: random.Random, number: int) -> Json:
    name = f"{draw.choice(('ann', 'bo', 'cleo', 'dan', 'eve', 'fay'))}{number}"
    return person(name, name.title(), draw.choice(_ZONES), is_team=number % 11 == 10)


class _Maker:
    def __init__(self, draw: random.Random, people: list[str], targets: list[str]) -> None:
        self._draw = draw
        self._people = people
        self._targets = targets
        self._comment_ids = count(1001)
        self._vote_ids = count(5001)

    def bug(self, number: int, total: int) -> Bug:
        draw = self._draw
        born = _BEGIN + _SPAN * (number / (total + 1))
        timestamp = born + timedelta(microseconds=draw.randrange(10**9))
        owner = draw.choice(self._people)
        title = f"The {draw.choice(_WORDS)} {draw.choice(_WORDS)} fails"
        bug = Bug(number, title, f"{title}, always", owner, text_of(timestamp), "")
        bug.tasks = [
            Task(path, draw.choice(_STATUSES), draw.choice(_IMPORTANCES), self._somebody(0.5))
            for path in draw.sample(self._targets, 2 if draw.random() < 0.2 else 1)
        ]
        bug.changes.append(Change(text_of(timestamp), owner, "bug", message="added bug"))
        bug.messages.append(Message(0, text_of(timestamp), owner, bug.description, title))
        for _ in range(draw.choice((0, 0, 1, 2, 3, 5, 8))):
            timestamp += timedelta(hours=draw.expovariate(1 / 60))
            if draw.random() < 0.4:
                index = len(bug.messages)
                text = f"The {draw.choice(_WORDS)}, too"
                bug.messages.append(
                    Message(index, text_of(timestamp), self._somebody(0), text, f"Re: {title}")
                )
            else:
                bug.changes.append(self._change(bug, text_of(timestamp)))
        bug.updated = text_of(timestamp)
        if number > 1 and draw.random() < 0.05:
            bug.duplicate_of = draw.randrange(1, number)
        if draw.random() < 0.2:
            bug.subscribers.add(draw.choice(self._people))
        bug.tags = tuple(sorted(draw.sample(_WORDS, draw.choice((0, 0, 1, 2)))))
        return bug

    def _change(self, bug: Bug, at: str) -> Change:
        draw = self._draw
        who = self._somebody(0)
        if draw.random() < 0.3:
            what = draw.choice(_BUG_FIELDS)
            return Change(at, who, what, draw.choice(_WORDS), draw.choice(_WORDS))
        what = f"{draw.choice(bug.tasks).target}: {draw.choice(_FIELDS)}"
        return Change(at, who, what, draw.choice((None, *_STATUSES)), draw.choice(_STATUSES))

    def proposals(self, wanted: int) -> list[Proposal]:
        made = [self._proposal(number, wanted) for number in range(1, wanted + 1)]
        for older, newer in pairwise(made):
            if older.status == "Superseded":
                older.superseded_by, newer.supersedes = newer.number, older.number
        if made and made[-1].status == "Superseded":
            made[-1].status = "Rejected"
        return made

    def _proposal(self, number: int, total: int) -> Proposal:
        draw = self._draw
        timestamp = _BEGIN + _SPAN * (number / (total + 1))
        owner = draw.choice(self._people)
        status = draw.choice(
            ("Work in progress", "Needs review", "Approved", "Merged", "Merged", "Superseded")
        )
        project = draw.choice(self._targets[:2])
        proposal = Proposal(number, owner, project, owner, text_of(timestamp), status)
        proposal.git = draw.random() < 0.8
        proposal.description = f"Mends the {draw.choice(_WORDS)}"
        if status != "Work in progress":
            proposal.review_requested = text_of(timestamp)
            others = [name for name in self._people if name != owner]
            for reviewer in draw.sample(others, min(draw.choice((1, 1, 2)), len(others))):
                vote = Vote(next(self._vote_ids), text_of(timestamp), owner, reviewer, "code")
                proposal.votes.append(vote)
        for _ in range(draw.choice((0, 1, 2, 4))):
            timestamp += timedelta(hours=draw.expovariate(1 / 20))
            self._remark(proposal, text_of(timestamp))
        timestamp += timedelta(hours=1)
        if status == "Merged":
            proposal.merged, proposal.merge_reporter = text_of(timestamp), self._somebody(0.3)
        return proposal

    def _remark(self, proposal: Proposal, at: str) -> None:
        draw = self._draw
        who = draw.choice(self._people)
        vote = draw.choice((None, None, *_VOTES)) if who != proposal.owner else None
        comment = Comment(next(self._comment_ids), at, who, "I looked at it", vote)
        proposal.comments.append(comment)
        if vote is None:
            return
        comment.vote_tag = "code"
        known = next((each for each in proposal.votes if each.reviewer == who), None)
        if known is None:
            known = Vote(next(self._vote_ids), at, who, who, "code", requested=False)
            proposal.votes.append(known)
        known.comment = comment.id

    def question(self, number: int) -> Question:
        draw = self._draw
        timestamp = _BEGIN + timedelta(hours=number * 5, microseconds=draw.randrange(10**9))
        owner = draw.choice(self._people)
        title = f"How does the {draw.choice(_WORDS)} work?"
        question = Question(
            number, draw.choice(self._targets), title, title, owner, text_of(timestamp)
        )
        question.last_query = question.created
        for index in range(1, draw.choice((1, 2, 3, 5))):
            timestamp += timedelta(hours=draw.expovariate(1 / 10))
            self._reply(question, index, text_of(timestamp))
        if question.status == "Open" and draw.random() < 0.3:
            question.status = draw.choice(("Expired", "Invalid"))
        return question

    def _reply(self, question: Question, index: int, at: str) -> None:
        draw = self._draw
        action = draw.choice(("Answer", "Comment", "Request for more information", "Confirm"))
        if action == "Confirm" and question.answerer is None:
            action = "Comment"
        who = question.owner if action == "Confirm" else draw.choice(self._people)
        if action == "Answer":
            question.status, question.answerer, question.last_response = "Answered", who, at
        elif action == "Confirm":
            question.status, question.solved = "Solved", at
        question.messages.append(
            Message(index, at, who, "Like so", f"Re: {question.title}", action, question.status)
        )

    def _somebody(self, nobody: float) -> str | None:
        return None if self._draw.random() < nobody else self._draw.choice(self._people)
