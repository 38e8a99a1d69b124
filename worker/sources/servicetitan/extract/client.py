"""What one extraction asks its tenant, and what it makes of the answers."""

import threading
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from pydantic import JsonValue

from temporaletl import RecordError, Reject, Window
from temporaletl.external.servicetitan.resources import Resource
from temporaletl.external.servicetitan.site import ServiceTitanSite
from worker.sources.servicetitan.record import Record, undecodable


@dataclass(frozen=True, slots=True)
class Span:
    """Which records a job is for: modified since `start`, created before `created_before`.

    There is no end to the time of modification: a record that changes every few minutes would
    always be behind it. None is unbounded.
    """

    start: datetime | None
    created_before: datetime | None
    #: The watermark when all of it is loaded; None where it moves none.
    watermark: datetime | None

    @classmethod
    def of(cls, window: Window, mode: str) -> "Span":
        """Whatever happened to a record in a backfill's window came after its creation."""
        if mode == "backfill":
            return cls(window.start, window.end, None)
        return cls(window.start, None, window.end)


@dataclass(frozen=True, slots=True)
class Found:
    """Records as one answer gave them, and the cursor behind them."""

    records: Sequence[Record[Any]]
    rejects: Sequence[Reject]
    cursor: JsonValue
    asked: datetime


class ServiceTitanClient:
    """A resource of a site, for as long as one extraction wants it."""

    def __init__(self, site: ServiceTitanSite, resource: Resource) -> None:
        self.site = site
        self.resource = resource
        #: Set when nobody waits for answers any more.
        self.stop = threading.Event()

    def read[T](
        self, path: str, params: Mapping[str, Any], kind: type[T], *, accept: Collection[int] = ()
    ) -> T | None:
        """Read; None where it answers with a status that is accepted.

        Raises: as `ServiceTitanSite.read`.
        """
        return self.site.read(self.resource, path, params, kind, accept=accept, stop=self.stop)

    def record(self, found: msgspec.Raw) -> Record[Any] | Reject:
        """Read one record; what cannot be read becomes a reject of its own."""
        try:
            return Record.read(self.resource.stream, found)
        except RecordError as error:
            return undecodable(found, str(error))


def as_text(moment: datetime) -> str:
    """A time as the API takes it."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
