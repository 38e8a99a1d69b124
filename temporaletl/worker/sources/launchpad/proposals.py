"""The transform of merge proposals into events: created, reviewed, commented on, merged."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from temporaletl import CompleteSet, Event, RecordError, TransformContext, transform_method
from temporaletl.worker.sources.launchpad.entries import (
    Comment,
    Proposal,
    Vote,
    name_of,
    number_of,
    path_of,
    utc,
    utc_or_none,
)
from temporaletl.worker.sources.launchpad.people import part_of
from temporaletl.worker.sources.launchpad.query import LaunchpadQuery
from temporaletl.worker.sources.launchpad.record import ProposalWhole, RawRecord, deduplicate_events


@transform_method("launchpad-merge_proposals")
def transform(record: Any, context: TransformContext[LaunchpadQuery]) -> list[Event | CompleteSet]:
    """Transform a merge proposal into its events.

    Takes a `RawRecord`, or a proposal's JSON as a reject keeps it.

    Raises:
        RecordError: a field is not what it should be; it is named.
    """
    whole = RawRecord.whole(ProposalWhole, record)
    number = number_of(whole.proposal.self_link)
    if number is None:
        raise RecordError(f"self_link has no number: {whole.proposal.self_link!r}")
    life = _Life(number, whole, context)
    events = [*life.created(), *life.review_requests(), *life.comments(), *life.outcome()]
    return deduplicate_events(f"merge_proposal:{number}:", events, whole)


class _Life:
    """The events of one proposal."""

    def __init__(
        self, number: int, whole: ProposalWhole, context: TransformContext[LaunchpadQuery]
    ) -> None:
        self._number = number
        self._whole = whole
        self._proposal = whole.proposal
        self._context = context

    def created(self) -> Iterator[Event]:
        proposal = self._proposal
        yield self._event(
            "created",
            "merge_proposal_created",
            proposal.date_created,
            "date_created",
            (proposal.registrant_link, "registrant"),
            {
                "status": proposal.queue_status,
                "description": proposal.description,
                "commit_message": proposal.commit_message,
                "source": _branch(proposal, "source"),
                "target": _branch(proposal, "target"),
                "supersedes": number_of(proposal.supersedes_link),
                "web_link": proposal.web_link,
            },
        )

    def review_requests(self) -> Iterator[Event]:
        """The requests for a review, by the registrant of a vote or of the proposal."""
        for vote in self._whole.votes:
            if self._own_accord(vote) or (
                vote.reviewer_link == vote.registrant_link and not self._was_read("comments")
            ):
                continue
            number = number_of(vote.self_link)
            if number is None:
                raise RecordError(f"a vote's self_link has no number: {vote.self_link!r}")
            yield self._event(
                f"review:{number}",
                "merge_proposal_review_requested",
                vote.date_created,
                f"date_created of vote {number}",
                (vote.registrant_link, "registrant"),
                {"reviewer": name_of(vote.reviewer_link), "review_type": vote.review_type},
            )
        requested = utc_or_none(self._proposal.date_review_requested)
        if (
            requested is not None
            and self._was_read("votes")
            and not any(
                (timestamp := utc_or_none(vote.date_created)) and timestamp <= requested
                for vote in self._whole.votes
            )
        ):
            # Requested of nobody by name.
            yield self._event(
                f"review_requested:{requested.isoformat()}",
                "merge_proposal_review_requested",
                self._proposal.date_review_requested,
                "date_review_requested",
                (self._proposal.registrant_link, "registrant"),
                {"reviewer": None, "review_type": None},
            )

    def comments(self) -> Iterator[Event]:
        """The comments; one with a vote is a review."""
        for comment in self._whole.comments:
            number = comment.id if comment.id is not None else number_of(comment.self_link)
            if number is None:
                raise RecordError("a comment has no id")
            yield self._event(
                f"comment:{number}",
                "merge_proposal_reviewed" if comment.vote else "merge_proposal_commented",
                comment.date_created,
                f"date_created of comment {number}",
                (_author(comment), "reviewer" if comment.vote else "author"),
                {
                    "comment": number,
                    "title": comment.title,
                    "content": comment.content,
                    "vote": comment.vote,
                    "vote_tag": comment.vote_tag,
                    "edited": comment.date_last_edited,
                    "deleted": comment.date_deleted,
                },
            )
        yield from self._decision()

    def _decision(self) -> Iterator[Event]:
        """The review of somebody who approved or rejected without any vote before it."""
        proposal = self._proposal
        decided = utc_or_none(proposal.date_reviewed)
        reviewer = name_of(proposal.reviewer_link)
        if decided is None or reviewer is None or self._voted(reviewer, decided):
            return
        if not self._was_read("comments"):
            return
        yield self._event(
            f"reviewed:{decided.isoformat()}",
            "merge_proposal_reviewed",
            proposal.date_reviewed,
            "date_reviewed",
            (proposal.reviewer_link, "reviewer"),
            {"vote": None},
        )

    def outcome(self) -> Iterator[Event]:
        proposal = self._proposal
        if proposal.date_merged is not None:
            yield self._event(
                "merged",
                "merge_proposal_merged",
                proposal.date_merged,
                "date_merged",
                (proposal.merge_reporter_link, "merge_reporter"),
                {"revision": proposal.merged_revision_id or proposal.merged_revno},
            )
        successor = self._whole.superseded_by
        if successor is not None:
            # Launchpad keeps no date of it: a proposal is superseded by making the next one.
            yield self._event(
                "superseded",
                "merge_proposal_superseded",
                successor.date_created,
                "date_created of the superseding proposal",
                (successor.registrant_link, "registrant"),
                {"superseded_by": number_of(successor.self_link)},
            )

    def _was_read(self, name: str) -> bool:
        """Whether something may be concluded from what is absent in a list."""
        return name in self._whole.complete or bool(getattr(self._whole, name))

    def _own_accord(self, vote: Vote) -> bool:
        """Whether a vote was given without a request: it was noted when its comment was written."""
        noted = utc_or_none(vote.date_created)
        return (
            noted is not None
            and vote.reviewer_link == vote.registrant_link
            and self._voted(name_of(vote.reviewer_link), noted)
        )

    def _voted(self, reviewer: str | None, until: datetime) -> bool:
        return any(
            comment.vote
            # Somebody hidden from us may be anybody.
            and name_of(_author(comment)) in {reviewer, None}
            and (timestamp := utc_or_none(comment.date_created)) is not None
            and timestamp <= until
            for comment in self._whole.comments
        )

    def _event(
        self,
        key: str,
        event_type: str,
        timestamp: str | None,
        field: str,
        part: tuple[str | None, str],
        properties: dict[str, Any],
    ) -> Event:
        return Event(
            event_id=f"merge_proposal:{self._number}:{key}",
            event_type=event_type,
            event_time_utc=utc(timestamp, field),
            parent_item_id=str(self._number),
            event_properties=properties,
            **part_of(*part, self._whole.people, self._context),
        )


def _author(comment: Comment) -> str | None:
    return comment.author_link or comment.owner_link


def _branch(proposal: Proposal, end: str) -> str | None:
    """The branch or repository at one end, as Launchpad names it."""
    link = getattr(proposal, f"{end}_branch_link")
    repository = getattr(proposal, f"{end}_git_repository_link")
    path = getattr(proposal, f"{end}_git_path")
    name = path_of(link or repository)
    return f"{name}:{path}" if name and repository and path else name
