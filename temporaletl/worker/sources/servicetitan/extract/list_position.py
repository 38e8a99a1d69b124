"""The state of a keyset pagination over a list, as the cursor of a page holds it."""

from datetime import datetime, timedelta
from typing import Literal

import msgspec

#: Records have times to 100 ns, and are known here by those to a microsecond.
TICK = timedelta(microseconds=1)

#: `walk`, so called in stored cursors, is keyset paging from mark to mark; `ties` are the records
#: from the mark on until `before`, most often those of the mark's very time; `all` are those from
#: the mark on, in whatever order.
Way = Literal["walk", "ties", "all"]


class ListPosition(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="paging", tag="list"
):
    """The state of a keyset pagination; as JSON it is a page's cursor.

    `at` is the high-water mark: everything modified before it is delivered.
    """

    #: None before it is known whether the list keeps its order.
    way: Way | None = None
    at: datetime | None = None
    before: datetime | None = None
    page: int = 1
    pass_number: int = msgspec.field(default=1, name="round")  # its name in stored cursors
    #: How many records the list counted at the beginning, and how many came since.
    expected: int = 0
    delivered: int = 0
    #: How often there was no headway.
    circles: int = 0

    @property
    def end_of_ties(self) -> datetime | None:
        """Before when the records of the ties were modified; None where there is no such end."""
        if self.way != "ties":
            return None
        if self.before is not None or self.at is None:
            return self.before
        return self.at + TICK
