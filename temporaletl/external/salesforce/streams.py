"""The streams of Salesforce: their objects, and the stamps by which they are read."""

from collections.abc import Mapping
from dataclasses import dataclass

EMPLOYEES = "employees"


@dataclass(frozen=True, slots=True)
class SalesforceObject:
    """An object as this source reads it.

    Rows of a `history` never change, and have no other stamp than CreatedDate; the others are
    found by SystemModstamp, which moves with whatever happens to them. `deletions` says that a
    row's deletion is an event of its own.
    """

    name: str
    history: bool = False
    deletions: bool = False


STREAMS: Mapping[str, tuple[SalesforceObject, ...]] = {
    "cases": (
        SalesforceObject("Case", deletions=True),
        SalesforceObject("CaseHistory", history=True),
        SalesforceObject("CaseComment"),
    ),
    "opportunities": (
        SalesforceObject("Opportunity", deletions=True),
        SalesforceObject("OpportunityFieldHistory", history=True),
        SalesforceObject("OpportunityHistory", history=True),
    ),
    "tasks": (SalesforceObject("Task", deletions=True),),
    "events": (SalesforceObject("Event", deletions=True),),
}

#: Objects that an org has only where history is tracked, or comments are used.
MAY_BE_ABSENT = frozenset(
    {"CaseHistory", "CaseComment", "OpportunityFieldHistory", "OpportunityHistory"}
)
