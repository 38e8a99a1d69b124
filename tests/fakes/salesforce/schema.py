"""The objects of a fake org: their fields with types, what they lead to, their ids."""

from collections.abc import Mapping
from dataclasses import dataclass, field

_STAMPS = {
    "CreatedDate": "datetime",
    "CreatedById": "id",
    "LastModifiedDate": "datetime",
    "LastModifiedById": "id",
    "SystemModstamp": "datetime",
    "IsDeleted": "boolean",
}
_CHANGE = {
    "CreatedDate": "datetime",
    "CreatedById": "id",
    "IsDeleted": "boolean",
    "Field": "string",
    "DataType": "string",
    "OldValue": "any",
    "NewValue": "any",
}
_PEOPLE = {"CreatedBy": ("CreatedById", "User"), "LastModifiedBy": ("LastModifiedById", "User")}
_OWNED = {**_PEOPLE, "Owner": ("OwnerId", "User")}


@dataclass(frozen=True, slots=True)
class ObjectType:
    """`relations` lead from a name to the field that holds the other's id, and its object."""

    name: str
    prefix: str
    fields: Mapping[str, str]
    relations: Mapping[str, tuple[str, str]] = field(default_factory=dict)


def _texts(names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), "string")


def _of(kind: str, names: str) -> dict[str, str]:
    return dict.fromkeys(names.split(), kind)


TYPES: dict[str, ObjectType] = {
    each.name: each
    for each in (
        ObjectType(
            "User",
            "005",
            {
                "Id": "id",
                **_STAMPS,
                **_texts("Username Name FirstName LastName Email Alias EmployeeNumber Title"),
                **_texts("TimeZoneSidKey UserType Department Launchpad_ID__c Jira_Account__c"),
                **_of("boolean", "IsActive"),
                **_of("id", "ManagerId"),
            },
            {**_PEOPLE, "Manager": ("ManagerId", "User")},
        ),
        ObjectType(
            "Employee__c",
            "a00",
            {
                "Id": "id",
                **_STAMPS,
                **_texts("Name Work_Email__c Staff_Number__c Launchpad_ID__c"),
                **_of("id", "OwnerId User__c"),
            },
            {**_OWNED, "User__r": ("User__c", "User")},
        ),
        ObjectType(
            "Case",
            "500",
            {
                "Id": "id",
                **_STAMPS,
                **_texts("CaseNumber Subject Description Status Priority Origin Reason Type"),
                **_of("id", "OwnerId AccountId ContactId ParentId"),
                **_of("boolean", "IsClosed IsEscalated"),
                **_of("datetime", "ClosedDate"),
            },
            {**_OWNED, "Parent": ("ParentId", "Case")},
        ),
        ObjectType(
            "CaseHistory",
            "017",
            {"Id": "id", "CaseId": "id", **_CHANGE},
            {"CreatedBy": _PEOPLE["CreatedBy"], "Case": ("CaseId", "Case")},
        ),
        ObjectType(
            "CaseComment",
            "00a",
            {
                "Id": "id",
                **_STAMPS,
                **_of("id", "ParentId"),
                **_texts("CommentBody"),
                **_of("boolean", "IsPublished"),
            },
            {**_PEOPLE, "Parent": ("ParentId", "Case")},
        ),
        ObjectType(
            "Opportunity",
            "006",
            {
                "Id": "id",
                **_STAMPS,
                **_texts("Name Description StageName Type LeadSource NextStep"),
                **_texts("ForecastCategory ForecastCategoryName"),
                **_of("id", "OwnerId AccountId CampaignId"),
                **_of("date", "CloseDate"),
                **_of("boolean", "IsClosed IsWon"),
                **_of("double", "Amount ExpectedRevenue Probability"),
            },
            _OWNED,
        ),
        ObjectType(
            "OpportunityFieldHistory",
            "017",
            {"Id": "id", "OpportunityId": "id", **_CHANGE},
            {
                "CreatedBy": _PEOPLE["CreatedBy"],
                "Opportunity": ("OpportunityId", "Opportunity"),
            },
        ),
        ObjectType(
            "OpportunityHistory",
            "008",
            {
                "Id": "id",
                "OpportunityId": "id",
                **_of("datetime", "CreatedDate SystemModstamp"),
                "CreatedById": "id",
                "IsDeleted": "boolean",
                **_texts("StageName ForecastCategory"),
                **_of("date", "CloseDate"),
                **_of("double", "Amount ExpectedRevenue Probability"),
            },
            {
                "CreatedBy": _PEOPLE["CreatedBy"],
                "Opportunity": ("OpportunityId", "Opportunity"),
            },
        ),
        ObjectType(
            "Task",
            "00T",
            {
                "Id": "id",
                **_STAMPS,
                **_texts("Subject Description Status Priority Type TaskSubtype"),
                **_texts("CallType CallDisposition"),
                **_of("id", "OwnerId WhoId WhatId AccountId"),
                **_of("date", "ActivityDate"),
                **_of("datetime", "CompletedDateTime"),
                **_of("boolean", "IsClosed IsRecurrence IsArchived"),
                **_of("int", "CallDurationInSeconds"),
            },
            _OWNED,
        ),
        ObjectType(
            "Event",
            "00U",
            {
                "Id": "id",
                **_STAMPS,
                **_texts("Subject Description Location Type EventSubtype ShowAs"),
                **_of("id", "OwnerId WhoId WhatId AccountId"),
                **_of("date", "ActivityDate"),
                **_of("datetime", "StartDateTime EndDateTime"),
                **_of("boolean", "IsAllDayEvent IsChild IsGroupEvent IsRecurrence IsArchived"),
                **_of("int", "DurationInMinutes"),
            },
            _OWNED,
        ),
    )
}

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SUFFIX = "ABCDEFGHIJKLMNOPQRSTUVWXYZ012345"


def make_id(prefix: str, number: int) -> str:
    """Return the 18 characters of an id; they sort, within a prefix, by the number."""
    digits = []
    for _ in range(9):
        number, digit = divmod(number, 62)
        digits.append(_DIGITS[digit])
    short = f"{prefix}5g0{''.join(reversed(digits))}"
    suffix = ""
    for start in (0, 5, 10):
        bits = sum(1 << n for n, each in enumerate(short[start : start + 5]) if each.isupper())
        suffix += _SUFFIX[bits]
    return short + suffix
