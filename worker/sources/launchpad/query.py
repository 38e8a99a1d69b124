"""What a job of source `launchpad` asks for."""

from pydantic import NonNegativeInt, PositiveInt

from temporaletl import Query, query_type
from temporaletl.external.launchpad.settings import People, Targets


@query_type("launchpad")
class LaunchpadQuery(Query):
    """The work of some members, and what happened in some targets.

    `closed_days` leaves out, in an incremental run, merge proposals and questions that were
    closed so many days before its window; None leaves out none. A `census` reads nothing and
    finds what is gone; `accept_deletions` lets it be much. `members_per_job` was for the planning.
    """

    members: People = ()
    targets: Targets = ()
    closed_days: NonNegativeInt | None = None
    census: bool = False
    accept_deletions: bool = False
    members_per_job: PositiveInt | None = None
    page_size: PositiveInt | None = None  # None: LP_PAGE_SIZE
