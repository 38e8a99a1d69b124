"""The expected counts of an org: the events and rows that a complete load holds."""

from collections import Counter

from tests.fakes.salesforce.org import Org

_NOUNS = {"Case": "case", "Opportunity": "opportunity", "Task": "task", "Event": "event"}
_NAMED = {
    "Status": "status_changed",
    "Owner": "assignee_changed",
    "Priority": "priority_changed",
    "Subject": "summary_changed",
    "StageName": "stage_changed",
    "Amount": "amount_changed",
    "CloseDate": "close_date_changed",
}


def expected_counts(org: Org) -> dict[str, int]:
    """Return how many events of each type there are, and how many rows of each object."""
    counts: Counter[str] = Counter()
    for name, noun in _NOUNS.items():
        for row in org.all(name):
            counts[f"{noun}_created"] += 1
            counts[f"{noun}_deleted"] += bool(row["IsDeleted"])
    for name in ("CaseHistory", "OpportunityFieldHistory"):
        for row in org.all(name):
            if row["Field"] == "created":
                continue
            by_id = row["DataType"] == "EntityId"
            kind = "field_changed" if by_id else _NAMED.get(row["Field"], "field_changed")
            counts[kind] += 1
    counts["opportunity_changed"] = len(org.all("OpportunityHistory"))
    counts["case_commented"] = len(org.all("CaseComment"))
    counts["employees"] = len(org.all("User"))
    held = {kind: count for kind, count in sorted(counts.items()) if count}
    events = sum(count for kind, count in held.items() if kind != "employees")
    return {**held, "events": events}
