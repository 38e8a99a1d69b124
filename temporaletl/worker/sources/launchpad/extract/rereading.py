"""Second attempts at bugs, proposals and questions that an earlier run could not read."""

from collections.abc import Sequence
from datetime import datetime

import msgspec

from temporaletl import PageRequest, Reject, Reread, Unread, reread_method
from temporaletl.errors import ETLError
from temporaletl.external.launchpad.settings import LaunchpadSettings
from temporaletl.external.launchpad.site import STABLE, open_site
from temporaletl.worker.sources.launchpad.extract import bugs, merge_proposals, questions
from temporaletl.worker.sources.launchpad.extract.client import ITEM_FAULTS, LaunchpadClient
from temporaletl.worker.sources.launchpad.extract.details import Gathered, PeopleIn, finish, gather
from temporaletl.worker.sources.launchpad.extract.keyset import KeysetPagination
from temporaletl.worker.sources.launchpad.extract.listing import Kind, list_subject
from temporaletl.worker.sources.launchpad.extract.subjects import Hidden, subjects_of
from temporaletl.worker.sources.launchpad.query import LaunchpadQuery
from temporaletl.worker.sources.launchpad.record import RawRecord

#: Where nothing but the time of a change is known, so many bugs that changed later are read.
_MOST_BUGS = 300


class _Gap(msgspec.Struct):
    """A reject's payload for an entry that a list cannot give."""

    subject: str
    entry: int
    changed_since: datetime | None = None


@reread_method("launchpad-bugs")
async def reread_bug(unread: Unread, _request: PageRequest[LaunchpadQuery]) -> Reread | None:
    """Read a bug by its number; of a gap in a search, all bugs that changed since.

    None of a person, and of a gap whose time is not known.
    """
    client = LaunchpadClient(open_site(LaunchpadSettings.load()))
    try:
        if (number := _number(unread)) is not None:
            link = f"{client.site.settings.service_root}{STABLE}/bugs/{number}"
            [(gathered, _)] = await gather(client, bugs.read_bug, [(number, link, None)])
            return await _finished(client, [gathered], bugs.people_in)
        gap = _gap(unread)
        if gap is None or gap.changed_since is None:
            return None
        return await _bugs_since(client, gap.subject, gap.changed_since)
    except ITEM_FAULTS as error:
        return _still(error)
    finally:
        client.stop.set()


async def _bugs_since(client: LaunchpadClient, subject: str, since: datetime) -> Reread:
    size = client.site.settings.page_size
    pagination = KeysetPagination(client, [subject], since, size, None, Hidden(resumed=True))
    records: list[RawRecord] = []
    faults: list[str] = []
    known: set[int] = set()
    while (page := await client.site.start(pagination.fetch)) is not None:
        calls = [(number, link, None) for number, link in page.bugs.items()]
        read = await gather(client, bugs.read_bug, calls)
        found = await _finished(client, [gathered for gathered, _ in read], bugs.people_in)
        records += found.records
        faults += [reject.reason for reject in page.rejects]
        faults += [found.fault] if found.fault else []
        known.update(page.bugs)
        if len(known) > _MOST_BUGS:
            faults.append(f"more than {_MOST_BUGS} bugs changed since: a full run reads them all")
            break
        pagination.advance(page, [changed for _, changed in read if changed is not None])
    return Reread(records, "; ".join(dict.fromkeys(faults)) or None)


async def _reread_listed(
    kind: Kind, unread: Unread, request: PageRequest[LaunchpadQuery]
) -> Reread | None:
    client = LaunchpadClient(open_site(LaunchpadSettings.load()))
    number, gap = _number(unread), _gap(unread)
    if number is None and gap is None:
        return None
    subjects = [gap.subject] if gap is not None else subjects_of(request.query)
    hidden = Hidden(resumed=True)
    rejects: list[Reject] = []
    try:
        for subject in subjects:
            listing = await client.site.start(list_subject, client, kind, subject, True, hidden)  # noqa: FBT003
            rejects += listing.rejects
            entry = dict(listing.entries).get(number) if number is not None else None
            if entry is not None:
                gathered = await gather(client, kind.read, [(number, entry)])
                return await _finished(client, gathered, kind.people_in)
    except ITEM_FAULTS as error:
        return _still(error)
    finally:
        client.stop.set()
    # Whatever a list holds is read in every run: one without a gap lacks nothing.
    fault = "; ".join(reject.reason for reject in rejects) or None
    return Reread(fault=fault, complete=gap is not None and hidden.shown)


@reread_method("launchpad-merge_proposals")
async def reread_merge_proposal(
    unread: Unread, request: PageRequest[LaunchpadQuery]
) -> Reread | None:
    """Read a merge proposal out of the lists that it is in; see whether a gap has closed."""
    return await _reread_listed(merge_proposals.KIND, unread, request)


@reread_method("launchpad-questions")
async def reread_question(unread: Unread, request: PageRequest[LaunchpadQuery]) -> Reread | None:
    """Read a question out of the lists that it is in; see whether a gap has closed."""
    return await _reread_listed(questions.KIND, unread, request)


async def _finished(
    client: LaunchpadClient, gathered: Sequence[Gathered], people_in: PeopleIn
) -> Reread:
    """Complete records; what fails of them is theirs, as others were read by themselves before."""
    hidden = Hidden(resumed=True)
    records, rejects = await finish(client, gathered, people_in, hidden, lambda _kind: True)
    rejects = [*rejects, *hidden.release()]
    return Reread(records, "; ".join(dict.fromkeys(reject.reason for reject in rejects)) or None)


def _number(unread: Unread) -> int | None:
    key = unread.key or ""
    return int(key) if key.isascii() and key.isdigit() else None


def _gap(unread: Unread) -> _Gap | None:
    try:
        return msgspec.convert(unread.payload, _Gap)
    except msgspec.ValidationError:
        return None


def _still(error: ETLError) -> Reread:
    return Reread(fault=f"it cannot be read yet: {error}")
