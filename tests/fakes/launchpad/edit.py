"""Changes to an archive while it is served, with the activity that Launchpad logs."""

from typing import TYPE_CHECKING

from tests.fakes.launchpad.archive import (
    CLOSED_BUGS,
    Bug,
    Change,
    Comment,
    Message,
    Proposal,
    Question,
    Task,
    Vote,
)

if TYPE_CHECKING:
    from tests.fakes.launchpad.archive import Archive


class Editor:
    """Changes one archive. `at` is a time as text; the archive's clock where it is left out."""

    def __init__(self, archive: "Archive") -> None:
        self._archive = archive

    def report_bug(
        self, owner: str, target: str, title: str = "It is broken", *, at: str | None = None
    ) -> Bug:
        with self._archive.lock:
            timestamp = at or self._archive.now()
            number = max(self._archive.bugs, default=0) + 1
            bug = Bug(number, title, f"About {title}", owner, timestamp, timestamp)
            bug.tasks.append(Task(target))
            bug.changes.append(Change(timestamp, owner, "bug", message="added bug"))
            bug.messages.append(Message(0, timestamp, owner, bug.description, title))
            self._archive.bugs[number] = bug
            self._archive.version += 1
            return bug

    def touch_bug(self, bug: Bug, at: str | None = None) -> None:
        with self._archive.lock:
            bug.updated = max(bug.updated, at or self._archive.now())
            self._archive.version += 1

    def set_status(self, bug: Bug, person: str, status: str, *, at: str | None = None) -> None:
        with self._archive.lock:
            timestamp = at or self._archive.now()
            task = bug.tasks[0]
            bug.changes.append(
                Change(timestamp, person, f"{task.target}: status", task.status, status)
            )
            task.status = status
            self.touch_bug(bug, timestamp)

    def close_bug(self, bug: Bug, person: str, *, at: str | None = None) -> None:
        self.set_status(bug, person, min(CLOSED_BUGS), at=at)

    def subscribe(self, bug: Bug, person: str, *others: str, at: str | None = None) -> None:
        """Subscribe people at the same time: only the message distinguishes these changes."""
        with self._archive.lock:
            timestamp = at or self._archive.now()
            for other in others:
                bug.changes.append(
                    Change(timestamp, person, "bug", message=f"added subscriber {other}")
                )
                bug.subscribers.add(other)
            self.touch_bug(bug, timestamp)

    def comment_bug(
        self, bug: Bug, person: str, text: str = "Me too", *, at: str | None = None
    ) -> None:
        with self._archive.lock:
            timestamp = at or self._archive.now()
            index = max((message.index for message in bug.messages), default=-1) + 1
            bug.messages.append(Message(index, timestamp, person, text, f"Re: {bug.title}"))
            self.touch_bug(bug, timestamp)

    def propose(self, owner: str, project: str, *reviewers: str, at: str | None = None) -> Proposal:
        with self._archive.lock:
            timestamp = at or self._archive.now()
            number = max(self._archive.proposals, default=0) + 1
            proposal = Proposal(number, owner, project, owner, timestamp, "Needs review")
            proposal.review_requested = timestamp
            self._archive.proposals[number] = proposal
            for reviewer in reviewers:
                self.ask_for_review(proposal, owner, reviewer, at=timestamp)
            self._archive.version += 1
            return proposal

    def ask_for_review(
        self, proposal: Proposal, person: str, reviewer: str, *, at: str | None = None
    ) -> None:
        with self._archive.lock:
            timestamp = at or self._archive.now()
            proposal.votes.append(Vote(self._next_vote(), timestamp, person, reviewer, "code"))
            self._archive.version += 1

    def comment_proposal(
        self, proposal: Proposal, person: str, vote: str | None = None, *, at: str | None = None
    ) -> None:
        """Comment, or vote: fulfils a requested review, or adds one that nobody requested."""
        with self._archive.lock:
            timestamp = at or self._archive.now()
            number = 1 + max(
                (each.id for one in self._archive.proposals.values() for each in one.comments),
                default=0,
            )
            comment = Comment(
                number, timestamp, person, "I looked at it", vote, "code" if vote else None
            )
            proposal.comments.append(comment)
            if vote is not None:
                own = [each for each in proposal.votes if each.reviewer == person]
                if not own:
                    own = [
                        Vote(self._next_vote(), timestamp, person, person, "code", requested=False)
                    ]
                    proposal.votes += own
                own[0].comment = number
            self._archive.version += 1

    def merge(self, proposal: Proposal, reporter: str | None, *, at: str | None = None) -> None:
        with self._archive.lock:
            proposal.status = "Merged"
            proposal.merged = at or self._archive.now()
            proposal.merge_reporter = reporter
            self._archive.version += 1

    def supersede(self, proposal: Proposal, person: str, *, at: str | None = None) -> Proposal:
        with self._archive.lock:
            successor = self.propose(proposal.owner, proposal.project, at=at)
            successor.registrant = person
            successor.supersedes = proposal.number
            proposal.status = "Superseded"
            proposal.superseded_by = successor.number
            self._archive.version += 1
            return successor

    def ask(self, owner: str, target: str, *, at: str | None = None) -> Question:
        with self._archive.lock:
            timestamp = at or self._archive.now()
            number = max(self._archive.questions, default=0) + 1
            question = Question(number, target, "How?", "How is it done?", owner, timestamp)
            question.last_query = timestamp
            self._archive.questions[number] = question
            self._archive.version += 1
            return question

    def reply(
        self,
        question: Question,
        person: str,
        action: str,
        new_status: str | None = None,
        *,
        at: str | None = None,
    ) -> None:
        """Add a message; plain comments move no date of the question."""
        with self._archive.lock:
            timestamp = at or self._archive.now()
            index = max((message.index for message in question.messages), default=0) + 1
            question.status = new_status or question.status
            question.messages.append(
                Message(index, timestamp, person, "Like so", "Re: How?", action, question.status)
            )
            if action in {"Answer", "Confirm", "Request for more information"}:
                question.last_response = timestamp
            if action == "Answer":
                question.answerer = person
            if action == "Confirm":
                question.solved = timestamp
            self._archive.version += 1

    def remove_bug(self, bug: Bug) -> None:
        with self._archive.lock:
            del self._archive.bugs[bug.number]
            self._archive.version += 1

    def withhold(self, path: str, status: int = 401) -> None:
        """Answer requests for a path with a status; lists still contain it."""
        with self._archive.lock:
            self._archive.withheld[path] = status
            self._archive.version += 1

    def redact(self, person: str) -> None:
        """Replace a person's links with Launchpad's marker of hidden values."""
        with self._archive.lock:
            self._archive.redacted_people.add(person)
            self._archive.version += 1

    def _next_vote(self) -> int:
        known = (each.id for one in self._archive.proposals.values() for each in one.votes)
        return max(known, default=0) + 1
