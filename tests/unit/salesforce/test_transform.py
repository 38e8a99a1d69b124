"""Rows of Salesforce as events."""

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from temporaletl import ETLInput, Event, RecordError, TransformContext
from temporaletl.worker.sources.salesforce.query import SalesforceQuery
from temporaletl.worker.sources.salesforce.records import KINDS, SalesforceRecord, fields_of
from temporaletl.worker.sources.salesforce.transform import transform
from tests.fakes.salesforce.schema import TYPES

AT = "2024-05-01T10:00:00.000+0000"
TIMESTAMP = datetime(2024, 5, 1, 10, tzinfo=UTC)
PEOPLE = {"U1": "E1", "U2": "E2"}
JOB = ETLInput(batch_id="b", seq=0, job_id="", source="salesforce", stream="cases", mode="full")


def row(object_name: str, **fields: Any) -> dict[str, Any]:
    common = {"Id": "ID1", "CreatedDate": AT, "CreatedById": "U1", "SystemModstamp": AT}
    return {"attributes": {"type": object_name}, **common, **fields}


def events(object_name: str, **fields: Any) -> list[Event]:
    context = TransformContext(job=JOB, query=SalesforceQuery(object="Case"), identities=PEOPLE)
    return transform(row(object_name, **fields), context)


def case(**fields: Any) -> dict[str, Any]:
    return {"CaseNumber": "00001", "IsDeleted": False, **fields}


def test_a_case_is_created_by_its_creator_and_known_by_its_number() -> None:
    zone = {"TimeZoneSidKey": "Asia/Kolkata"}
    (event,) = events("Case", **case(OwnerId="U2", Subject="Help", CreatedBy=zone))
    assert event.event_id == "ID1:created"
    assert event.event_type == "case_created"
    assert event.event_time_utc == TIMESTAMP
    assert event.parent_item_id == "00001"
    assert (event.relation_type, event.employee_id) == ("creator", "E1")
    assert event.timezone == "Asia/Kolkata"
    assert event.event_properties["subject"] == "Help"
    assert event.event_properties["owner_id"] == "U2"
    assert event.relation_properties == {"owner": "E2"}


def test_an_unknown_person_keeps_the_id_and_nobody_is_nobody() -> None:
    assert events("Case", **case(CreatedById="U7"))[0].person == "U7"
    (event,) = events("Case", **case(CreatedById=None, OwnerId=None))
    assert event.person is None
    assert event.relation_properties == {}


@pytest.mark.parametrize("zone", [None, {"TimeZoneSidKey": None}, {"TimeZoneSidKey": "Mars"}])
def test_a_zone_that_is_none_is_utc(zone: Any) -> None:
    assert events("Case", **case(CreatedBy=zone))[0].timezone == "UTC"


@pytest.mark.parametrize(
    ("name", "noun"),
    [("Case", "case"), ("Opportunity", "opportunity"), ("Task", "task"), ("Event", "event")],
)
def test_a_deletion_is_an_event_of_its_own(name: str, noun: str) -> None:
    later = "2024-06-01T10:00:00.000+0000"
    deleted = {"IsDeleted": True, "SystemModstamp": later, "LastModifiedById": "U9"}
    rows = events(name, **case(**deleted, LastModifiedDate=later))
    assert [event.event_type for event in rows] == [f"{noun}_created", f"{noun}_deleted"]
    assert rows[1].event_time_utc == datetime(2024, 6, 1, 10, tzinfo=UTC)
    assert (rows[1].relation_type, rows[1].person) == ("deleter", "U9")
    # Somebody who changed it before is not who deleted it.
    rows = events(name, **case(**deleted, LastModifiedDate=AT))
    assert (rows[1].relation_type, rows[1].person) == (None, None)
    assert len({event.event_id for event in rows}) == 2


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("Status", "status_changed"),
        ("Owner", "assignee_changed"),
        ("Priority", "priority_changed"),
        ("Subject", "summary_changed"),
        ("Description", "description_changed"),
        ("IsEscalated", "field_changed"),
        ("Custom__c", "field_changed"),
    ],
)
def test_a_change_is_one_event_with_what_it_was_and_became(field: str, kind: str) -> None:
    change = {"CaseId": "C1", "Field": field, "OldValue": "a", "NewValue": None}
    (event,) = events("CaseHistory", **change, Case={"CaseNumber": "00001"}, DataType="Text")
    assert event.event_type == kind
    assert event.event_id == "ID1:changed"
    assert event.parent_item_id == "00001"
    assert event.relation_type == "author"
    properties = event.event_properties
    assert (properties["field"], properties["from"], properties["to"]) == (field, "a", None)


def test_the_ids_of_a_changed_owner_are_no_second_assignment() -> None:
    change = {"CaseId": "C1", "Field": "Owner", "OldValue": "U1", "NewValue": "U2"}
    (event,) = events("CaseHistory", **change, DataType="EntityId")
    assert event.event_type == "field_changed"
    assert event.parent_item_id == "C1"
    assert event.event_properties["to"] == "U2"


def test_a_historys_first_row_repeats_the_creation() -> None:
    assert events("CaseHistory", CaseId="C1", Field="created") == []


@pytest.mark.parametrize(
    ("data_type", "by_rest", "in_bulk"),
    [
        ("Boolean", True, "true"),
        ("Currency", 100.0, "100.0"),
        ("Currency", 100, "100"),
        ("Percent", 12.5, "12.5"),
        ("Text", "true", "true"),
        (None, "x", "x"),
        ("DateOnly", "2024-05-01", "2024-05-01"),
    ],
)
def test_values_are_the_same_by_both_apis(
    data_type: str | None, by_rest: Any, in_bulk: Any
) -> None:
    rows = [
        events(
            "OpportunityFieldHistory",
            OpportunityId="O1", Field="X", DataType=data_type, OldValue=None, NewValue=value,
        )[0].event_properties
        for value in (by_rest, in_bulk)
    ]  # fmt: skip
    assert rows[0] == rows[1]


def test_texts_of_the_bulk_api_become_what_they_are() -> None:
    (event,) = events(
        "Opportunity",
        IsDeleted="false", IsWon="true", Amount="1234.56", Probability="100", CloseDate=None,
    )  # fmt: skip
    assert event.event_properties["is_won"] is True
    assert event.metrics == {"amount": 1234.56, "probability": 100.0}


def test_comments_and_snapshots() -> None:
    (comment,) = events("CaseComment", ParentId="C1", CommentBody="hi", Parent=None)
    assert (comment.event_type, comment.parent_item_id) == ("case_commented", "C1")
    (snapshot,) = events("OpportunityHistory", OpportunityId="O1", StageName="Won", Amount=5.0)
    assert (snapshot.event_type, snapshot.parent_item_id) == ("opportunity_changed", "O1")
    assert snapshot.metrics == {"amount": 5.0}


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (row("Case", CaseNumber="1"), "IsDeleted"),
        (row("Case", **case(CaseNumber=None)), "CaseNumber"),
        (row("Case", **case(CreatedDate="some day")), "CreatedDate: 'some day' is no time"),
        (row("Case", **case(ClosedDate="never")), "ClosedDate"),
        (row("Case", **case(IsClosed="perhaps")), "IsClosed"),
        (row("Lead"), "Lead.*no object"),
        ({}, "None.*no object"),
        ([], "object"),
        ("text", "object"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_by_the_name_of_the_field(
    payload: Any, words: str
) -> None:
    context = TransformContext(job=JOB, query=SalesforceQuery(object="Case"))
    with pytest.raises(RecordError, match=words):
        transform(msgspec.json.encode(payload) if isinstance(payload, str) else payload, context)


def test_a_record_keeps_what_it_was_read_from() -> None:
    payload = row("Case", **case())
    for given in (payload, msgspec.json.encode(payload)):
        record = SalesforceRecord.read(given)
        assert record.raw == payload
        assert record.key == "00001"


@pytest.mark.parametrize("name", sorted(KINDS))
def test_only_fields_that_salesforce_has_are_asked_for(name: str) -> None:
    of = TYPES[name]
    for path in (*fields_of(KINDS[name])[0], *fields_of(KINDS[name])[1]):
        relation, _, field = path.rpartition(".")
        owner = TYPES[of.relations[relation][1]] if relation else of
        assert field in owner.fields
