"""Changes to an archive while it is being served, each with the traces that Launchpad leaves."""

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
            moment = at or self._archive.now()
            number = max(self._archive.bugs, default=0) + 1
            bug = Bug(number, title, f"About {title}", owner, moment, moment)
            bug.tasks.append(Task(target))
            bug.changes.append(Change(moment, owner, "bug", message="added bug"))
            bug.messages.append(Message(0, moment, owner, bug.description, title))
            self._archive.bugs[number] = bug
            self._archive.version += 1
            return bug

    def touch_bug(self, bug: Bug, at: str | None = None) -> None:
        with self._archive.lock:
            bug.updated = max(bug.updated, at or self._archive.now())
            self._archive.version += 1

    def set_status(self, bug: Bug, person: str, status: str, *, at: str | None = None) -> None:
        with self._archive.lock:
            moment = at or self._archive.now()
            task = bug.tasks[0]
            bug.changes.append(
                Change(moment, person, f"{task.target}: status", task.status, status)
            )
            task.status = status
            self.touch_bug(bug, moment)

    def close_bug(self, bug: Bug, person: str, *, at: str | None = None) -> None:
        self.set_status(bug, person, min(CLOSED_BUGS), at=at)

    def subscribe(self, bug: Bug, person: str, *others: str, at: str | None = None) -> None:
        """Subscribe people at once: nothing but the message tells these changes apart."""
        with self._archive.lock:
            moment = at or self._archive.now()
            for other in others:
                bug.changes.append(
                    Change(moment, person, "bug", message=f"added subscriber {other}")
                )
                bug.subscribers.add(other)
            self.touch_bug(bug, moment)

    def comment_bug(
        self, bug: Bug, person: str, text: str = "Me too", *, at: str | None = None
    ) -> None:
        with self._archive.lock:
            moment = at or self._archive.now()
            index = max((message.index for message in bug.messages), default=-1) + 1
            bug.messages.append(Message(index, moment, person, text, f"Re: {bug.title}"))
            self.touch_bug(bug, moment)

    def propose(self, owner: str, project: str, *reviewers: str, at: str | None = None) -> Proposal:
        with self._archive.lock:
            moment = at or self._archive.now()
            number = max(self._archive.proposals, default=0) + 1
            proposal = Proposal(number, owner, project, owner, moment, "Needs review")
            proposal.review_requested = moment
            self._archive.proposals[number] = proposal
            for reviewer in reviewers:
                self.ask_for_review(proposal, owner, reviewer, at=moment)
            self._archive.version += 1
            return proposal

    def ask_for_review(
        self, proposal: Proposal, person: str, reviewer: str, *, at: str | None = None
    ) -> None:
        with self._archive.lock:
            moment = at or self._archive.now()
            proposal.votes.append(Vote(self._next_vote(), moment, person, reviewer, "code"))
            self._archive.version += 1

    def comment_proposal(
        self, proposal: Proposal, person: str, vote: str | None = None, *, at: str | None = None
    ) -> None:
        """Comment, or vote: then the vote asked for is given, or one given unasked is noted."""
        with self._archive.lock:
            moment = at or self._archive.now()
            number = 1 + max(
                (each.id for one in self._archive.proposals.values() for each in one.comments),
                default=0,
            )
            comment = Comment(
                number, moment, person, "I looked at it", vote, "code" if vote else None
            )
            proposal.comments.append(comment)
            if vote is not None:
                own = [each for each in proposal.votes if each.reviewer == person]
                if not own:
                    own = [Vote(self._next_vote(), moment, person, person, "code", asked=False)]
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
            moment = at or self._archive.now()
            number = max(self._archive.questions, default=0) + 1
            question = Question(number, target, "How?", "How is it done?", owner, moment)
            question.last_query = moment
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
            moment = at or self._archive.now()
            index = max((message.index for message in question.messages), default=0) + 1
            question.status = new_status or question.status
            question.messages.append(
                Message(index, moment, person, "Like so", "Re: How?", action, question.status)
            )
            if action in {"Answer", "Confirm", "Request for more information"}:
                question.last_response = moment
            if action == "Answer":
                question.answerer = person
            if action == "Confirm":
                question.solved = moment
            self._archive.version += 1

    def remove_bug(self, bug: Bug) -> None:
        with self._archive.lock:
            del self._archive.bugs[bug.number]
            self._archive.version += 1

    def withhold(self, path: str, status: int = 401) -> None:
        """Answer with a status where a path is looked at; lists go on naming it."""
        with self._archive.lock:
            self._archive.withheld[path] = status
            self._archive.version += 1

    def redact(self, person: str) -> None:
        """Put Launchpad's word for what we may not see in the place of a person's links."""
        with self._archive.lock:
            self._archive.redacted_people.add(person)
            self._archive.version += 1

    def _next_vote(self) -> int:
        known = (each.id for one in self._archive.proposals.values() for each in one.votes)
        return max(known, default=0) + 1
