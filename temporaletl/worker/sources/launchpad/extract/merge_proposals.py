"""The extract method for merge proposals, with their comments and votes.

Launchpad gives merge proposals no time of change and its search no filter by time, and a comment
or vote leaves no trace on the proposal itself; people comment on what was merged, too. So every
run lists all proposals, of every status, and reads the comments and votes of each: two requests a
proposal. Nothing that comes late is lost. The parameter `closed_days` makes incremental runs
cheaper: they leave out proposals that were merged, rejected or superseded so many days before
their window, and a comment later than that waits for the next full run.
"""

import contextlib
from collections.abc import AsyncGenerator, Iterator

import msgspec

from temporaletl import Page, PageRequest, RecordError, Reject, extract_method
from temporaletl.external.answers import decode_record
from temporaletl.external.launchpad.site import STABLE
from temporaletl.external.launchpad.transport import UnreadableError
from temporaletl.worker.sources.launchpad.entries import Proposal, readable, utc_or_none
from temporaletl.worker.sources.launchpad.extract.client import (
    ITEM_FAULTS,
    LaunchpadClient,
    decoded,
)
from temporaletl.worker.sources.launchpad.extract.details import Failure, Gathered
from temporaletl.worker.sources.launchpad.extract.listing import Kind, is_excluded, pages
from temporaletl.worker.sources.launchpad.extract.subjects import proposal_searches
from temporaletl.worker.sources.launchpad.query import LaunchpadQuery
from temporaletl.worker.sources.launchpad.record import ProposalWhole, RawRecord

_CLOSED = frozenset({"Merged", "Rejected", "Superseded"})


@extract_method("launchpad-merge_proposals")
async def extract_merge_proposals(request: PageRequest[LaunchpadQuery]) -> AsyncGenerator[Page]:
    """Yield the proposals of the job's people and targets, lowest number first.

    Raises: as `extract_bugs`.
    """
    async with contextlib.aclosing(pages(KIND, request)) as found:
        async for page in found:
            yield page


def _wanted(request: PageRequest[LaunchpadQuery], entry: msgspec.Raw) -> bool:
    proposal = decoded(Proposal, entry)
    if proposal is None:
        return True  # reading it shows what is wrong with it
    timestamps = [
        utc_or_none(proposal.date_created),
        utc_or_none(proposal.date_review_requested),
        utc_or_none(proposal.date_reviewed),
        utc_or_none(proposal.date_merged),
    ]
    return not is_excluded(request, timestamps, closed=proposal.queue_status in _CLOSED)


def _read(client: LaunchpadClient, number: int, entry: msgspec.Raw) -> Gathered:
    gathered, key = Gathered(), str(number)
    gathered.record = RawRecord(key, {"proposal": entry})
    proposal = decoded(Proposal, entry)
    if proposal is None:
        return gathered  # the transform rejects it, and says why

    links = {
        "comments": proposal.all_comments_collection_link,
        "votes": proposal.votes_collection_link,
    }
    gathered.read(client, links, f"merge proposal {number}", key)
    successor = readable(proposal.superseded_by_link)
    if successor is not None:
        try:
            raw = client.read_entry(successor)
            decode_record(Proposal, raw)
            gathered.record.parts["superseded_by"] = raw
        except UnreadableError as error:
            # Without its date nobody knows when this proposal was superseded.
            what = f"what superseded merge proposal {number}"
            gathered.lacks(what, key, error, {"proposal": entry})
            gathered.record.parts["complete"] = []
        except RecordError as error:
            reason = f"what superseded merge proposal {number} cannot be read: {error}"
            reject = Reject(stage="extract", reason=reason, key=key, payload=raw)
            gathered.rejects.append(reject)
            gathered.record.parts["complete"] = []
        except ITEM_FAULTS as error:
            if client.stop.is_set():
                raise
            what = f"what superseded merge proposal {number}"
            payload = {"proposal": entry}
            gathered.failures.append(Failure("superseding", what, key, error, payload))
            gathered.record.parts["complete"] = []
        else:
            gathered.answered.append("superseding")
    return gathered


def people_in(record: RawRecord) -> Iterator[str | None]:
    """Yield the links of the people in a proposal: registrants, reviewers and authors."""
    whole = RawRecord.whole(ProposalWhole, record)
    proposal = whole.proposal
    yield from (proposal.registrant_link, proposal.reviewer_link, proposal.merge_reporter_link)
    if whole.superseded_by is not None:
        yield whole.superseded_by.registrant_link
    for comment in whole.comments:
        yield comment.author_link or comment.owner_link
    for vote in whole.votes:
        yield vote.registrant_link


KIND = Kind("merge_proposal", STABLE, proposal_searches, _wanted, _read, people_in)
