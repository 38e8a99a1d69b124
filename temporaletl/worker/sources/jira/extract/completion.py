"""Completion of issues' comments, worklogs and changelogs over the API."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from temporaletl import CredentialsError, Reject
from temporaletl.external.threads import gather_all
from temporaletl.worker.sources.jira.extract import changelogs, details
from temporaletl.worker.sources.jira.extract.client import FAILURES, JiraClient
from temporaletl.worker.sources.jira.issue import IssueRecord

_Read = Callable[[JiraClient, str], details.Listing[Any] | None]
LISTS = ("comments", "worklogs", "histories")


@dataclass(slots=True)
class Completed:
    """The result of completing some records, by their ids."""

    #: Records of which nothing can be loaded.
    faults: dict[str, Reject] = field(default_factory=dict)
    #: What the others lack for good; the rest of them is loaded.
    shortened: dict[str, Reject] = field(default_factory=dict)
    #: Issues that were deleted after the search found them: neither they nor their lists exist.
    gone: set[str] = field(default_factory=set)
    #: What Jira counts and does not show, by the issue's key: some entries are for some to see.
    unshown: dict[str, str] = field(default_factory=dict)

    @property
    def rejects(self) -> list[Reject]:
        return [*self.faults.values(), *self.shortened.values()]

    @property
    def note(self) -> str | None:
        """A note for people on lists that show fewer entries than they count; None for none."""
        if not self.unshown:
            return None
        key, what = next(iter(self.unshown.items()))
        return (
            f"of {len(self.unshown):,} issues Jira counts more than it shows ({key}: {what}): "
            "nothing that is stored of those lists is deleted"
        )


async def complete(client: JiraClient, records: Sequence[IssueRecord]) -> Completed:
    """Complete the lists of all records, several at once.

    Raises: as `details.read_comments`.
    """
    completion = _Completion(client)
    client.neighbours = tuple(record.id for record in records) or client.neighbours
    lacking = [record for record in records if "histories" not in record.complete]
    jobs = [completion.fill(*todo) for record in records for todo in _missing(client, record)]
    if lacking and client.site.cloud:
        jobs.append(completion.fill_changelogs(lacking))
    await gather_all(jobs)
    absent = [record for record in records if record.id in completion.absent]
    await gather_all([completion.check_exists(record) for record in absent])
    completion.sum_up(records)
    return completion.completed


class _Completion:
    def __init__(self, client: JiraClient) -> None:
        self.completed = Completed()
        #: Issues of whose lists one is not there.
        self.absent: set[str] = set()
        self._client = client
        self._failed: dict[str, list[str]] = {}

    async def fill(self, record: IssueRecord, name: str, read: _Read) -> None:
        try:
            listing = await self._client.site.start(read, self._client, record.id)
        except details.DetailError as error:
            self._take(record, name, error)
        except CredentialsError as error:
            # Whoever may read the issue need not be one who may read all of it.
            if not await self._client.site.start(details.is_there, self._client, record.id):
                self.absent.add(record.id)
            self._failed.setdefault(record.id, []).append(str(error))
        else:
            self._take(record, name, listing)

    async def fill_changelogs(self, records: Sequence[IssueRecord]) -> None:
        ids = [record.id for record in records]
        found = await self._client.site.start(changelogs.read_changelogs, self._client, ids)
        for record in records:
            # One that is missing has no histories, or is gone.
            expected = (record.total("histories") or 0) > len(record.histories)
            nothing = None if expected else details.Listing[Any]([])
            self._take(record, "histories", found.get(record.id, nothing))

    def _take(
        self,
        record: IssueRecord,
        name: str,
        listing: details.Listing[Any] | details.DetailError | None,
    ) -> None:
        if listing is None:
            self.absent.add(record.id)
        elif isinstance(listing, details.DetailError):
            self.completed.faults[record.id] = _reject(record, f"{name}: {listing}")
        else:
            self._unite(record, name, listing)
            self._failed.setdefault(record.id, []).extend(listing.failed)

    def _unite(self, record: IssueRecord, name: str, listing: details.Listing[Any]) -> None:
        """Merge a list that was read by itself into the one from the search, by entry id."""
        if listing.entries:
            found = getattr(record, name)
            both = {str(entry.id): entry for entry in (*found, *listing.entries)}
            setattr(record, name, list(both.values()))
        if listing.failed:
            return
        held, total = len(getattr(record, name)), record.total(name)
        if total is None or held >= total:
            record.complete.add(name)
        else:
            # It may count what nobody may see, or not have shown what there is.
            self.completed.unshown[record.key or record.id] = f"{held:,} of {total:,} {name}"

    async def check_exists(self, record: IssueRecord) -> None:
        """Check whether an issue that lacks a list exists at all."""
        try:
            there = await self._client.site.start(details.is_there, self._client, record.id)
        except FAILURES as error:
            if not self._client.may_narrow(error):
                raise
            self._failed.setdefault(record.id, []).append(str(error))
            return
        if there:
            reason = "Jira has the issue, and not that list of it"
            self._failed.setdefault(record.id, []).append(reason)
        else:
            # Deleted after the search: it is loaded as the search returned it.
            self.completed.gone.add(record.id)

    def sum_up(self, records: Sequence[IssueRecord]) -> None:
        """Make a reject of each record of which a part could not be read."""
        for record in records:
            failed = self._failed.get(record.id)
            if failed and record.id not in self.completed.faults:
                what = ", ".join(missing_of(record)) or "a part of its lists"
                reasons = "; ".join(dict.fromkeys(failed))
                reason = f"{what} could not be read ({reasons}); the rest is loaded"
                self.completed.shortened[record.id] = _reject(record, reason)


def missing_of(record: IssueRecord) -> list[str]:
    """Describe how many entries each incomplete list lacks, by the issue's own totals."""
    missing: list[str] = []
    for name in LISTS:
        if name in record.complete:
            continue
        total, held = record.total(name), len(getattr(record, name))
        if total is None:
            missing.append(name)
        elif held < total:
            missing.append(f"{total - held} of {total} {name}")
    return missing


def _missing(client: JiraClient, record: IssueRecord) -> Iterator[tuple[IssueRecord, str, _Read]]:
    """Yield the lists that the search did not return completely, with the functions that do."""
    if "comments" not in record.complete:
        yield record, "comments", details.read_comments
    if "worklogs" not in record.complete:
        yield record, "worklogs", details.read_worklogs
    if not client.site.cloud and "histories" not in record.complete:
        yield record, "histories", details.read_changelog


def _reject(record: IssueRecord, reason: str) -> Reject:
    return Reject(stage="extract", reason=reason, key=record.key, payload=record.fetched)
