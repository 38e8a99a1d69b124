"""The four resources of ServiceTitan, and the position in an export feed.

Facts of the API are the vendor's documents'. Times are UTC there; what an address writes without
a zone is UTC as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from pydantic import JsonValue


@dataclass(frozen=True, slots=True)
class Resource:
    """One stream's endpoint in the API."""

    stream: str
    #: First part of the path.
    module: str
    #: As the vendor's portal names the module.
    title: str
    #: Whether its list takes `sort`, else `orderBy` with `orderByDirection`.
    sorted: bool

    def order(self, field: str, *, descending: bool = False) -> Mapping[str, str]:
        """Return the parameters that order its list."""
        if self.sorted:
            return {"sort": f"{'-' if descending else '+'}{field}"}
        return {"orderBy": field, "orderByDirection": "desc" if descending else "asc"}


RESOURCES: Mapping[str, Resource] = {
    resource.stream: resource
    for resource in (
        Resource("customers", "crm", "CRM", sorted=True),
        Resource("jobs", "jpm", "Job Planning and Management", sorted=True),
        Resource("invoices", "accounting", "Accounting", sorted=False),
        Resource("estimates", "sales", "Sales & Estimates", sorted=False),
    )
}


class ExportPosition(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="paging", tag="export"
):
    """The position in an export feed; as JSON it is the cursor of its pages.

    The last page of a job holds the token with which the feed goes on later. `reached` is then
    the end of the job's window, the watermark that this token stands for; a backfill has none, and
    a job that read the rest of its span by the list instead: the next one begins by date.
    """

    site: str
    #: None begins by date: that of the job's window, or `since`.
    token: str | None = None
    #: Whatever was modified before it has been read by the list.
    since: datetime | None = None
    #: The cursor of the list that is read in place of the feed just now.
    around: dict[str, Any] | None = None
    #: From where on the feed could not be read then: a token, a date, or empty, its beginning.
    left: str = ""
    #: Whether that list has met a record that cannot be read.
    met: bool = False
    #: How often the feed refused a token and was begun anew.
    restarts: int = 0
    #: Whether the feed had no more.
    ended: bool = False
    reached: datetime | None = None


def continuation(cursor: JsonValue, *, site: str, watermark: datetime) -> str | None:
    """Return the token with which a job goes on where an earlier job ended with `cursor`.

    None where it must begin by date: the earlier job was no export, belongs to another tenant, or
    someone has set the watermark back behind it since.
    """
    try:
        position = msgspec.convert(cursor, ExportPosition)
    except msgspec.ValidationError:
        return None
    if position.site != site or position.reached is None or watermark < position.reached:
        return None
    return position.token
