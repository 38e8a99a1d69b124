"""The client with which one extraction reads a tenant's lists and export feeds."""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from pydantic import JsonValue

from temporaletl import RecordError, Reject, SourceUnavailableError, Window
from temporaletl.errors import ETLError
from temporaletl.external.answers import MisfitAnswerError
from temporaletl.external.exchange import AnswerTooLargeError
from temporaletl.external.servicetitan.resources import Resource
from temporaletl.external.servicetitan.site import ServiceTitanSite
from temporaletl.worker.sources.servicetitan.record import Record, undecodable

#: What an answer fails with for the sake of one record in it, as well as for the site's.
FAILURES = (SourceUnavailableError, MisfitAnswerError, AnswerTooLargeError)
#: Attempts at a smaller request, where the larger one has failed as often as usual.
FEW_ATTEMPTS = 2
#: Nothing was modified so late: an answer from there on holds no record that it could fail at.
_NEVER = "9000-01-01T00:00:00Z"
#: Records of a list of which one must be had, for a failure to be another record's fault.
_MOST_WITNESSES = 5


@dataclass(frozen=True, slots=True)
class Span:
    """The records of a job: modified since `start`, created before `created_before`.

    There is no end to the time of modification: a record that changes every few minutes would
    always be behind it. None is unbounded.
    """

    start: datetime | None
    created_before: datetime | None
    #: The watermark when all of it is loaded; None where it moves none.
    watermark: datetime | None = None
    #: What is modified before, where only a part is read a second time.
    modified_before: datetime | None = None

    @classmethod
    def of(cls, window: Window, mode: str) -> "Span":
        """A job's span. What happened in a backfill's window came after a record's creation."""
        if mode == "backfill":
            return cls(window.start, window.end, None)
        return cls(window.start, None, window.end)


@dataclass(frozen=True, slots=True)
class FetchedPage:
    """A page of records, with its rejects, and the cursor behind it."""

    records: Sequence[Record[Any]]
    rejects: Sequence[Reject]
    cursor: JsonValue
    requested_at: datetime


class ListAnswer(msgspec.Struct, rename="camel"):
    """A page of a list."""

    data: list[msgspec.Raw]
    has_more: bool
    total_count: int | None = None


class ExportAnswer(msgspec.Struct, rename="camel"):
    """A page of an export feed."""

    data: list[msgspec.Raw]
    has_more: bool
    continue_from: str | None = None


class ServiceTitanClient:
    """A resource's client for one extraction, which can stop its requests."""

    def __init__(self, site: ServiceTitanSite, resource: Resource) -> None:
        self.site = site
        self.resource = resource
        #: Set when nobody waits for responses any more.
        self.stop = threading.Event()

    def read[T](
        self,
        path: str,
        params: Mapping[str, Any],
        kind: type[T],
        *,
        accept: Collection[int] = (),
        attempts: int | None = None,
    ) -> T | None:
        """Read; None where it answers with a status that is accepted.

        Raises: as `ServiceTitanSite.read`.
        """
        return self.site.read(
            self.resource, path, params, kind, accept=accept, stop=self.stop, attempts=attempts
        )

    def export(
        self, begin: str | None, *, accept: Collection[int] = (), attempts: int | None = None
    ) -> ExportAnswer | None:
        """Read the feed from a token, a date or its beginning.

        Raises: as `ServiceTitanSite.read`.
        """
        params = {"from": begin} if begin else {}
        if self.site.settings.include_recent_changes:
            params["includeRecentChanges"] = "true"
        path = f"export/{self.resource.stream}"
        return self.read(path, params, ExportAnswer, accept=accept, attempts=attempts)

    def may_narrow(self, error: ETLError) -> bool:
        """Whether a smaller request may help after an error: one record may be what fails.

        Not where requests are rate-limited, or nobody waits for them any more.
        """
        delay = getattr(error, "delay", None)
        return isinstance(error, FAILURES) and delay is None and not self.stop.is_set()

    def lists_others(self) -> bool:
        """Whether the list is answered just now, some record of it included. Blocks.

        Where it is not, what else failed is no fault of a single record.
        """
        try:
            self._list_briefly(1, modifiedOnOrAfter=_NEVER)
        except ETLError:
            return False
        for page in range(1, _MOST_WITNESSES + 1):
            try:
                return bool(self._list_briefly(page).data)
            except FAILURES as error:
                if not self.may_narrow(error):
                    return False
            except ETLError:
                return False
        return False

    def _list_briefly(self, page: int, **filters: str) -> ListAnswer:
        params = {"active": "Any", "page": page, "pageSize": 1, **filters}
        answer = self.read(self.resource.stream, params, ListAnswer, attempts=FEW_ATTEMPTS)
        assert answer is not None  # noqa: S101 - a refusal was raised
        return answer

    def record(self, found: msgspec.Raw) -> Record[Any] | Reject:
        """Read one record; what cannot be read becomes a reject of its own."""
        try:
            return Record.read(self.resource.stream, found)
        except RecordError as error:
            return undecodable(found, str(error))


def as_text(timestamp: datetime) -> str:
    """A timestamp as the API takes it."""
    return timestamp.astimezone(UTC).isoformat().replace("+00:00", "Z")
