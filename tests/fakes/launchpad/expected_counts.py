"""The expected counts of an archive: the events that a complete load holds."""

from collections import Counter
from collections.abc import Collection, Iterable

from tests.fakes.launchpad.archive import Archive, Bug, Proposal, Question

_CHANGES = {
    "status": "status_changed",
    "importance": "importance_changed",
    "assignee": "assignee_changed",
    "summary": "summary_changed",
    "description": "description_changed",
}


def expected_counts(
    archive: Archive, members: Collection[str] | None = None
) -> dict[str, Counter[str]]:
    """Count an archive's events by stream and type; with `members`, those that concern them."""
    with archive.lock:
        return {
            "bugs": _count(
                _bug(bug)
                for bug in archive.bugs.values()
                if members is None or bug.people() & set(members)
            ),
            "merge_proposals": _count(
                _proposal(each)
                for each in archive.proposals.values()
                if members is None or concerned(each) & set(members)
            ),
            "questions": _count(
                _question(each)
                for each in archive.questions.values()
                if members is None or each.people() & set(members)
            ),
        }


def concerned(proposal: Proposal) -> set[str]:
    """Everybody for whom a search finds a proposal: reviews of Bazaar branches only."""
    reviewers = {vote.reviewer for vote in proposal.votes if vote.reviewer}
    return {proposal.owner} | (set() if proposal.git else reviewers)


def _count(counts: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total


def _bug(bug: Bug) -> Counter[str]:
    counts = Counter({"bug_created": 1})
    counts["bug_commented"] += sum(message.index != 0 for message in bug.messages)
    changes = {
        (c.at, c.person, c.what, c.old, c.new, c.message if c.old is c.new is None else None)
        for c in bug.changes
    }
    for change in changes:
        counts[_CHANGES.get(change[2].rpartition(": ")[2], "field_changed")] += 1
    return +counts


def _proposal(proposal: Proposal) -> Counter[str]:
    counts = Counter({"merge_proposal_created": 1})
    requested, since = sum(vote.requested for vote in proposal.votes), proposal.review_requested
    of_nobody = since is not None and all(vote.at > since for vote in proposal.votes)
    counts["merge_proposal_review_requested"] = requested + of_nobody
    reviews = sum(comment.vote is not None for comment in proposal.comments)
    counts["merge_proposal_reviewed"] = reviews
    counts["merge_proposal_commented"] = len(proposal.comments) - reviews
    counts["merge_proposal_merged"] = int(proposal.merged is not None)
    counts["merge_proposal_superseded"] = int(proposal.superseded_by is not None)
    return +counts


def _question(question: Question) -> Counter[str]:
    counts = Counter({"question_created": 1})
    for message in question.messages:
        kind = {"Answer": "answered", "Confirm": "solved"}.get(message.action or "", "commented")
        counts[f"question_{kind}"] += 1
    return +counts
