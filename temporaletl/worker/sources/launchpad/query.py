"""The query of a job of source `launchpad`: members and targets."""

from typing import ClassVar

from pydantic import NonNegativeInt, PositiveInt

from temporaletl import Query, query_type
from temporaletl.external.launchpad.account import launchpad_account
from temporaletl.external.launchpad.settings import People, Targets

#: Importing it registers it.
ACCOUNT = launchpad_account


@query_type("launchpad")
class LaunchpadQuery(Query):
    """The work of some members, and what happened in some targets.

    `closed_days` leaves out, in an incremental run, merge proposals and questions that were
    closed so many days before its window; None leaves out none. `members_per_job` was for the
    planning.
    """

    #: 2: `person` beside `employee_id`, which is null while the person is unknown.
    VERSION: ClassVar[str] = "2"

    members: People = ()
    targets: Targets = ()
    closed_days: NonNegativeInt | None = None
    members_per_job: PositiveInt | None = None
    page_size: PositiveInt | None = None  # None: LP_PAGE_SIZE
