"""Issues into events."""

import itertools
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from temporaletl import CompleteSet, ETLInput, Event, RecordError, TransformContext
from temporaletl.errors import ConfigurationError
from temporaletl.external.jira.settings import JiraFields
from temporaletl.strategies import transformers
from temporaletl.worker.sources.jira.changelog import item_keys, type_of
from temporaletl.worker.sources.jira.issue import IssueRecord, Item, searched_fields
from temporaletl.worker.sources.jira.query import JiraQuery
from temporaletl.worker.sources.jira.timestamps import utc
from temporaletl.worker.sources.jira.transform import transform

Json = dict[str, Any]

ADA: Json = {
    "accountId": "5b1",
    "displayName": "Ada",
    "accountType": "atlassian",
    "active": True,
    "timeZone": "Europe/Berlin",
    "emailAddress": "ada@example.com",
    "avatarUrls": {"16x16": "x"},
}
BEN: Json = {"name": "ben", "key": "JIRAUSER1", "displayName": "Ben", "timeZone": "Mars/Base"}
CREATED = "2024-03-01T10:00:00.123+0100"


def context(**identities: str) -> TransformContext[JiraQuery]:
    job = ETLInput(batch_id="b", seq=0, job_id="j", source="jira", stream="issues", mode="full")
    return TransformContext(job=job, query=JiraQuery(), identities=identities)


def whole(**parts: Any) -> Json:
    lists = {name: parts.pop(name, []) for name in ("comments", "worklogs", "histories")}
    fields: Json = {
        "created": CREATED,
        "updated": CREATED,
        "creator": ADA,
        "reporter": BEN,
        "assignee": None,
        "summary": "Broken",
        "description": None,
        "issuetype": {"id": "1", "name": "Bug"},
        "status": {"name": "Open"},
        "project": {"key": "A"},
        "labels": ["x"],
        "comment": {"comments": lists["comments"], "total": len(lists["comments"])},
        "worklog": {"worklogs": lists["worklogs"], "total": len(lists["worklogs"])},
    }
    return {
        "id": "10",
        "key": "A-1",
        "fields": fields | parts,
        "changelog": {"histories": lists["histories"], "total": len(lists["histories"])},
    }


def events_of(issue: Json, **identities: str) -> list[Event]:
    made = transform(IssueRecord.read(msgspec.json.encode(issue)), context(**identities))
    return [each for each in made if isinstance(each, Event)]


def change(field: str, before: Any = None, after: Any = None, **more: Any) -> Json:
    return {"field": field, "fieldtype": "jira", "from": before, "to": after, **more}


def test_the_transform_is_registered() -> None:
    assert transformers.get("jira").rows == (Event,)


def test_an_issue_is_created_by_its_creator() -> None:
    (event,) = events_of(whole())
    assert (event.event_id, event.event_type) == ("10:created", "issue_created")
    assert event.event_time_utc == datetime(2024, 3, 1, 9, 0, 0, 123_000, tzinfo=UTC)
    assert (event.parent_item_id, event.relation_type) == ("A-1", "creator")
    assert (event.person, event.timezone) == ("5b1", "Europe/Berlin")
    assert event.relation_properties == {
        "display_name": "Ada",
        "email": "ada@example.com",
        "account_type": "atlassian",
        "active": True,
    }
    properties = event.event_properties
    assert (properties["reporter"], properties["assignee"]) == ("ben", None)
    assert (properties["type"], properties["status"], properties["project"]) == ("Bug", "Open", "A")


@pytest.mark.parametrize(
    ("person", "identities", "employee", "timezone"),
    [
        (None, {}, None, "UTC"),
        ({}, {}, None, "UTC"),
        (ADA, {}, "5b1", "Europe/Berlin"),
        (ADA, {"5b1": "e1"}, "e1", "Europe/Berlin"),
        (ADA, {"ada@example.com": "e2"}, "e2", "Europe/Berlin"),
        ({"accountId": "", "emailAddress": "x@y"}, {}, "x@y", "UTC"),
        (BEN, {}, "ben", "UTC"),
        (BEN, {"JIRAUSER1": "e3"}, "e3", "UTC"),
    ],
)
def test_people_are_resolved(
    person: Any, identities: dict[str, str], employee: str | None, timezone: str
) -> None:
    (event,) = events_of(whole(creator=person), **identities)
    assert (event.employee_id or event.person, event.timezone) == (employee, timezone)


def test_people_may_be_left_out_altogether() -> None:
    issue = whole(histories=[{"id": 1, "created": CREATED, "items": [change("status", "1", "2")]}])
    for name in ("creator", "reporter", "assignee"):
        del issue["fields"][name]
    created, changed = events_of(issue)
    assert (created.employee_id, changed.employee_id) == (None, None)
    assert changed.relation_properties == {}


def test_each_changed_field_is_an_event_with_properties_of_its_own() -> None:
    items = [
        change("status", "1", "3", fieldId="status", fromString="Open", toString="Done"),
        change("resolution", None, "9", fieldId="resolution", toString="Fixed"),
    ]
    history = {"id": "77", "author": BEN, "created": 1709283600123, "items": items}
    _, first, second = events_of(whole(histories=[history]))
    assert (first.event_type, second.event_type) == ("status_changed", "resolution_changed")
    assert first.event_properties == {
        "field": "status",
        "field_id": "status",
        "field_type": "jira",
        "from": "1",
        "from_string": "Open",
        "to": "3",
        "to_string": "Done",
    }
    assert second.event_properties["to_string"] == "Fixed"
    assert first.event_properties is not second.event_properties
    assert first.relation_properties is not second.relation_properties
    assert first.event_time_utc == datetime(2024, 3, 1, 9, 0, 0, 123_000, tzinfo=UTC)
    assert (first.person, first.relation_type) == ("ben", "author")


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (Item(field="status", field_id="status", fieldtype="jira"), "status_changed"),
        (Item(field="Status", fieldtype="jira"), "status_changed"),
        (Item(field="Zuständig", field_id="assignee", fieldtype="jira"), "assignee_changed"),
        (Item(field="Sprint", field_id="customfield_1", fieldtype="custom"), "sprint_changed"),
        (Item(field="Sprint", fieldtype="custom"), "sprint_changed"),
        (Item(field="Status", field_id="customfield_2", fieldtype="custom"), "field_changed"),
        (Item(field="Status", fieldtype="custom"), "field_changed"),
        (Item(field="Link", field_id="issuelinks"), "field_changed"),
        (Item(), "field_changed"),
        *(
            (Item(field=name, field_id=name), f"{name}_changed")
            for name in ("priority", "resolution", "summary", "description", "labels")
        ),
    ],
)
def test_the_field_decides_the_type(item: Item, expected: str) -> None:
    assert type_of(item) == expected


def test_items_of_a_history_have_keys_whatever_their_order() -> None:
    items = [
        Item(field="Link", to="A-1", to_string="blocks A-1"),
        Item(field="Link", to="A-1", to_string="relates to A-1"),
        Item(field="Link", to="A-2", to_string="blocks A-2"),
        Item(field="Rank", from_string="", to_string="up"),
        Item(field="Rank", from_string=None, to_string="up"),
        Item(field="Flag"),
        Item(field="Flag"),
    ]
    keys = item_keys(items)
    assert len(set(keys)) == len(items)
    for order in itertools.islice(itertools.permutations(range(len(items))), 0, None, 97):
        shuffled = item_keys([items[n] for n in order])
        assert sorted(shuffled) == sorted(keys)
        assert all(shuffled[at] == keys[n] for at, n in enumerate(order) if n < 5)


def test_a_renamed_person_changes_no_id() -> None:
    before = Item(field="assignee", from_="1", to="2", from_string="Ann", to_string="Bob")
    after = Item(field="assignee", from_="1", to="2", from_string="Anna", to_string="Bob")
    assert item_keys([before]) == item_keys([after])


def comment(**more: Any) -> Json:
    return {
        "id": "5",
        "author": ADA,
        "updateAuthor": BEN,
        "body": {"type": "doc", "content": [{"type": "text", "text": "hi"}]},
        "created": CREATED,
        "updated": CREATED,
        **more,
    }


def test_a_comment_is_its_authors() -> None:
    _, event = events_of(whole(comments=[comment()]))
    assert (event.event_id, event.event_type) == ("10:comment:5:created", "comment_created")
    assert (event.person, event.relation_type) == ("5b1", "author")
    assert event.event_properties == {"comment_id": "5", "body": "hi"}


def test_the_same_time_in_other_words_is_no_edit() -> None:
    _, *rest = events_of(whole(comments=[comment(updated="2024-03-01T09:00:00.123Z")]))
    assert len(rest) == 1


def test_each_edit_of_a_comment_is_an_event_beside_the_earlier_ones() -> None:
    first = events_of(whole(comments=[comment(updated="2024-03-02T10:00:00.000+0100")]))
    later = events_of(whole(comments=[comment(updated="2024-03-03T10:00:00.000+0100")]))
    assert [each.event_type for each in first[1:]] == ["comment_created", "comment_updated"]
    assert first[2].person == "ben"
    assert first[2].event_properties == first[1].event_properties
    assert first[2].event_properties is not first[1].event_properties
    assert first[2].event_time_utc == datetime(2024, 3, 2, 9, tzinfo=UTC)
    assert first[1].event_id == later[1].event_id
    assert first[2].event_id != later[2].event_id


def test_work_is_its_authors_and_happened_when_it_was_noted() -> None:
    worklog = {
        "id": 8,
        "author": ADA,
        "updateAuthor": BEN,
        "created": CREATED,
        "updated": "2024-03-02T10:00:00.000+0100",
        "started": "2024-02-01T08:00:00.000+0100",
        "timeSpent": "1h",
        "timeSpentSeconds": 3600,
        "comment": "late",
    }
    _, noted, edited = events_of(whole(worklogs=[worklog]))
    assert (noted.event_type, edited.event_type) == ("worklog_created", "worklog_updated")
    assert noted.event_time_utc == datetime(2024, 3, 1, 9, 0, 0, 123_000, tzinfo=UTC)
    assert noted.event_properties["started"] == "2024-02-01T07:00:00+00:00"
    assert noted.metrics == {"time_spent_seconds": 3600}
    assert (noted.person, edited.person) == ("5b1", "5b1")
    assert edited.event_properties["editor"] == "ben"
    assert noted.event_id == "10:worklog:8:created"


@pytest.mark.parametrize("created", [None, "yesterday", "2024-03-01", 10**30])
def test_an_issue_without_a_time_is_no_event(created: Any) -> None:
    with pytest.raises(RecordError):
        events_of(whole(created=created))


def test_numbers_are_milliseconds_or_seconds() -> None:
    assert utc(1_709_283_600_123) == datetime(2024, 3, 1, 9, 0, 0, 123_000, tzinfo=UTC)
    assert utc(1_709_283_600) == datetime(2024, 3, 1, 9, tzinfo=UTC)


def test_what_a_reject_keeps_can_be_transformed_again() -> None:
    record = IssueRecord.read(msgspec.json.encode(whole(customfield_1="kept")))
    extra = IssueRecord.read(
        whole(
            comments=[comment()],
            histories=[{"id": "1", "created": CREATED, "items": [change("labels")]}],
        )
    )
    record.comments, record.histories = extra.comments, extra.histories
    kept = msgspec.json.decode(msgspec.json.encode(record.raw))
    assert kept["fields"]["customfield_1"] == "kept"
    assert record.key == "A-1"
    events = transform(record, context())
    assert len([each for each in events if isinstance(each, Event)]) == 3
    assert transform(kept, context()) == events
    assert transform(msgspec.json.encode(kept), context()) == events


def test_what_can_be_deleted_in_jira_is_told_to_be_all_there_is() -> None:
    made = transform(IssueRecord.read(whole(comments=[comment()])), context())
    assert [each for each in made if isinstance(each, CompleteSet)] == [
        CompleteSet("10:comment:"),
        CompleteSet("10:worklog:"),
    ]


@pytest.mark.parametrize("name", ["comment", "worklog"])
def test_a_truncated_list_is_not_told_to_be_all_there_is(name: str) -> None:
    issue = whole()
    issue["fields"][name]["total"] = 1
    made = transform(IssueRecord.read(issue), context())
    assert CompleteSet(f"10:{name}:") not in made
    assert len([each for each in made if isinstance(each, CompleteSet)]) == 1


@pytest.mark.parametrize("absent", [True, False])
def test_a_reject_without_its_whole_lists_is_not_taken_for_the_issue(absent: bool) -> None:
    issue = whole()
    if absent:
        del issue["changelog"]
    else:
        issue["changelog"]["total"] = 2
    with pytest.raises(RecordError, match="histories were not all read"):
        transform(issue, context())


def test_chosen_fields_become_properties_by_their_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "JIRA_FIELDS", "cf_1=story_points, duedate=due_date,cf_2 = sprint, cf_3, gone=gone"
    )
    issue = whole(
        cf_1=3.0,
        duedate="2024-06-01",
        cf_2=[{"id": 4, "name": "Sprint 4"}],
        cf_3={"id": "9", "value": "Large"},
    )
    made = TransformContext(
        job=context().job.model_copy(update={"batch_id": "f"}), query=JiraQuery()
    )
    (event, *_) = transform(issue, made)
    assert isinstance(event, Event)
    properties: Any = event.event_properties
    assert {name: properties[name] for name in ("story_points", "due_date", "sprint")} == {
        "story_points": 3.0,
        "due_date": "2024-06-01",
        "sprint": ["Sprint 4"],
    }
    assert (properties["cf_3"], properties["gone"]) == ("Large", None)
    assert {"cf_1", "duedate"} <= set(searched_fields(JiraFields.load()))


@pytest.mark.parametrize("fields", ["cf_1=status", "cf_1=a,cf_2=a", "cf 1=a", "cf_1=A b"])
def test_a_field_cannot_become_a_property_that_is_taken(
    monkeypatch: pytest.MonkeyPatch, fields: str
) -> None:
    monkeypatch.setenv("JIRA_FIELDS", fields)
    with pytest.raises(ConfigurationError, match="JIRA_FIELDS"):
        JiraFields.load()
