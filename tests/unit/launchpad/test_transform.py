"""What becomes of bugs, merge proposals and questions."""

from datetime import UTC, datetime
from typing import Any

import pytest

from temporaletl import CompleteSet, Event, RecordError
from temporaletl.messages import ETLInput
from temporaletl.transformation import TransformContext
from temporaletl.worker.sources.launchpad import bugs, proposals, questions
from temporaletl.worker.sources.launchpad.entries import REDACTED, Activity
from temporaletl.worker.sources.launchpad.query import LaunchpadQuery
from temporaletl.worker.sources.launchpad.record import RawRecord

BASE = "https://api.launchpad.net/1.0"
ANN, BOB = f"{BASE}/~ann", f"{BASE}/~bob"
AT = "2024-05-01T10:00:00.000001+00:00"
LATER = "2024-05-02T10:00:00+00:00"

CONTEXT = TransformContext(
    job=ETLInput(batch_id="b", seq=0, job_id="j", source="launchpad", stream="bugs", mode="full"),
    query=LaunchpadQuery(),
    identities={"ann": "E1"},
)
PEOPLE = {"ann": {"name": "ann", "display_name": "Ann", "time_zone": "Europe/Berlin"}}


def bug(**parts: Any) -> RawRecord:
    whole: dict[str, Any] = {
        "bug": {"id": 7, "title": "It fails", "owner_link": ANN, "date_created": AT},
        "activity": [],
        "messages": [],
        "tasks": [],
        "people": PEOPLE,
        "complete": ["activity", "messages", "tasks"],
    }
    return RawRecord("7", whole | parts)


def proposal(**parts: Any) -> RawRecord:
    more = parts.pop("proposal", {})
    whole: dict[str, Any] = {
        "proposal": {
            "self_link": f"{BASE}/~ann/alpha/main/+merge/9",
            "registrant_link": ANN,
            "date_created": AT,
            **more,
        },
        "complete": ["comments", "votes"],
    }
    return RawRecord("9", whole | parts)


def question(**parts: Any) -> RawRecord:
    more = parts.pop("question", {})
    whole: dict[str, Any] = {
        "question": {"id": 5, "owner_link": ANN, "date_created": AT, "status": "Open", **more},
        "complete": ["messages"],
    }
    return RawRecord("5", whole | parts)


def change(what: str, **more: Any) -> dict[str, Any]:
    return {"datechanged": AT, "person_link": BOB, "whatchanged": what, **more}


def message(index: int, **more: Any) -> dict[str, Any]:
    link = f"{BASE}/alpha/+bug/7/comments/{index}"
    return {"self_link": link, "owner_link": BOB, "date_created": LATER, "content": "Hm", **more}


def by_type(made: list[Event | CompleteSet]) -> dict[str, Event]:
    return {event.event_type: event for event in made if isinstance(event, Event)}


def test_a_bug_is_its_owners_with_zone_and_employee() -> None:
    (created, whole) = bugs.transform(bug(), CONTEXT)
    assert isinstance(created, Event)
    assert (created.event_id, created.event_type) == ("bug:7:created", "bug_created")
    assert created.event_time_utc == datetime(2024, 5, 1, 10, 0, 0, 1, UTC)
    assert (created.relation_type, created.employee_id) == ("owner", "E1")
    assert (created.parent_item_id, created.timezone) == ("7", "Europe/Berlin")
    assert whole == CompleteSet("bug:7:")


def test_the_description_is_no_comment_wherever_it_stands() -> None:
    made = bugs.transform(bug(messages=[message(2), message(0), message(1)]), CONTEXT)
    ids = {event.event_id for event in made if isinstance(event, Event)}
    assert ids == {"bug:7:created", "bug:7:comment:1", "bug:7:comment:2"}
    comment = by_type(made)["bug_commented"]
    assert (comment.person, comment.relation_type) == ("bob", "author")
    assert comment.timezone == "UTC"


@pytest.mark.parametrize(
    ("what", "kind", "target", "field"),
    [
        ("alpha: status", "status_changed", "alpha", "status"),
        ("bash (Ubuntu Noble): importance", "importance_changed", "bash (Ubuntu Noble)", None),
        ("alpha: assignee", "assignee_changed", "alpha", "assignee"),
        ("summary", "summary_changed", None, "summary"),
        ("description", "description_changed", None, "description"),
        ("tags", "field_changed", None, "tags"),
        ("alpha: milestone", "field_changed", "alpha", "milestone"),
        ("bug", "field_changed", None, "bug"),
    ],
)
def test_each_change_has_its_type(what: str, kind: str, target: str | None, field: str) -> None:
    entry = change(what, oldvalue="a", newvalue="b")
    event = by_type(bugs.transform(bug(activity=[entry]), CONTEXT))[kind]
    assert event.event_properties["target"] == target
    assert event.event_properties["field"] == (field or "importance")
    assert (event.event_properties["from"], event.event_properties["to"]) == ("a", "b")
    assert (event.person, event.relation_type) == ("bob", "author")


def test_changes_are_told_apart_by_all_that_they_say_and_not_by_their_place() -> None:
    entries = [
        change("alpha: status", oldvalue="New", newvalue="Triaged"),
        change("alpha: status", oldvalue="New", newvalue="Invalid"),
        change("alpha: status", oldvalue=None, newvalue="Triaged"),
        change("alpha: status", oldvalue="", newvalue="Triaged"),
        change("bug", message="added subscriber Cleo"),
        change("bug", message="added subscriber Dan"),
        change("bug", message="added subscriber Dan"),
    ]
    made = bugs.transform(bug(activity=entries), CONTEXT)
    turned = bugs.transform(bug(activity=entries[::-1]), CONTEXT)
    ids = {event.event_id for event in made if isinstance(event, Event)}
    assert ids == {event.event_id for event in turned if isinstance(event, Event)}
    assert len(ids) == 1 + 6


def test_a_change_is_the_same_whatever_time_zone_it_is_written_in() -> None:
    one = Activity(datechanged="2024-05-01T10:00:00+00:00", whatchanged="tags")
    other = Activity(datechanged="2024-05-01T12:00:00.000000+02:00", whatchanged="tags")
    assert bugs.digest(7, one) == bugs.digest(7, other)


def test_a_hidden_person_leaves_an_event_without_one() -> None:
    entries = [change("tags", newvalue="a") | {"person_link": REDACTED}]
    event = by_type(bugs.transform(bug(activity=entries), CONTEXT))["field_changed"]
    assert event.person is None
    assert event.relation_properties == {"redacted": True}


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({"bug": {"id": 7, "date_created": None}}, "date_created is missing"),
        ({"bug": {"id": 7, "date_created": REDACTED}}, "date_created is not a time"),
        ({"bug": {"date_created": AT}}, "no id"),
        ({"bug": {"id": "seven"}}, r"\$\.bug\.id"),
        ({"activity": [{"whatchanged": "x"}]}, "datechanged is missing"),
        ({"messages": [{"self_link": "x", "date_created": AT}]}, "self_link has no number"),
        ({"messages": [message(3) | {"date_created": "?"}]}, "date_created of comment 3"),
    ],
)
def test_a_bug_that_cannot_be_used_names_the_field(parts: dict[str, Any], reason: str) -> None:
    with pytest.raises(RecordError, match=reason):
        bugs.transform(bug(**parts), CONTEXT)


def test_a_record_and_its_payload_become_the_same() -> None:
    record = bug(activity=[change("tags")], messages=[message(1)])
    assert bugs.transform(record.raw, CONTEXT) == bugs.transform(record, CONTEXT)


def test_a_list_that_was_not_read_whole_deletes_nothing_and_is_not_replayed() -> None:
    record = bug(complete=["activity", "tasks"])
    assert not any(isinstance(each, CompleteSet) for each in bugs.transform(record, CONTEXT))
    with pytest.raises(RecordError, match="its messages were not all read: load it again"):
        bugs.transform(record.raw, CONTEXT)


def comment(number: int, person: str, at: str, vote: str | None = None) -> dict[str, Any]:
    return {"id": number, "author_link": person, "date_created": at, "vote": vote}


def vote(number: int, registrant: str | None, reviewer: str | None, at: str) -> dict[str, Any]:
    link = f"{BASE}/~ann/alpha/main/+merge/9/+review/{number}"
    return {
        "self_link": link,
        "registrant_link": registrant,
        "reviewer_link": reviewer,
        "date_created": at,
    }


def test_comments_with_a_vote_are_reviews() -> None:
    made = proposals.transform(
        proposal(comments=[comment(1, BOB, LATER), comment(2, BOB, LATER, "Approve")]), CONTEXT
    )
    events = by_type(made)
    assert events["merge_proposal_commented"].event_id == "merge_proposal:9:comment:1"
    review = events["merge_proposal_reviewed"]
    assert (review.event_id, review.relation_type) == ("merge_proposal:9:comment:2", "reviewer")
    assert review.event_properties["vote"] == "Approve"
    assert made[-1] == CompleteSet("merge_proposal:9:")


def test_a_review_asked_for_is_the_askers_and_one_given_unasked_is_none() -> None:
    requested, unrequested = vote(3, ANN, BOB, AT), vote(4, BOB, BOB, LATER)
    made = proposals.transform(
        proposal(votes=[requested, unrequested], comments=[comment(1, BOB, LATER, "Approve")]),
        CONTEXT,
    )
    request = by_type(made)["merge_proposal_review_requested"]
    assert request.event_id == "merge_proposal:9:review:3"
    assert (request.employee_id, request.relation_type) == ("E1", "registrant")
    assert request.event_properties["reviewer"] == "bob"
    assert sum("review:" in e.event_id for e in made if isinstance(e, Event)) == 1


def test_asking_oneself_before_voting_stays_a_request() -> None:
    own = vote(3, BOB, BOB, AT)
    voted = proposal(votes=[own], comments=[comment(1, BOB, LATER, "Approve")])
    for record in (proposal(votes=[own]), voted):
        assert "merge_proposal_review_requested" in by_type(proposals.transform(record, CONTEXT))


def test_a_review_asked_of_nobody_is_known_by_its_date() -> None:
    record = proposal(proposal={"date_review_requested": LATER})
    request = by_type(proposals.transform(record, CONTEXT))["merge_proposal_review_requested"]
    assert request.event_time_utc == datetime(2024, 5, 2, 10, tzinfo=UTC)


def test_a_decision_without_a_vote_is_a_review_and_one_with_a_vote_is_not_two() -> None:
    decided = {"reviewer_link": BOB, "date_reviewed": LATER}
    made = proposals.transform(proposal(proposal=decided), CONTEXT)
    assert by_type(made)["merge_proposal_reviewed"].person == "bob"
    voted = proposal(proposal=decided, comments=[comment(1, BOB, AT, "Approve")])
    types = [e.event_type for e in proposals.transform(voted, CONTEXT) if isinstance(e, Event)]
    assert types.count("merge_proposal_reviewed") == 1


def test_merging_and_superseding_are_the_work_of_who_did_it() -> None:
    record = proposal(
        proposal={"date_merged": LATER, "merge_reporter_link": None},
        superseded_by={
            "self_link": f"{BASE}/~ann/alpha/main/+merge/12",
            "registrant_link": ANN,
            "date_created": LATER,
        },
    )
    events = by_type(proposals.transform(record, CONTEXT))
    merged, superseded = events["merge_proposal_merged"], events["merge_proposal_superseded"]
    assert (merged.employee_id, merged.relation_type) == (None, "merge_reporter")
    assert (superseded.employee_id, superseded.parent_item_id) == ("E1", "9")
    assert superseded.event_properties == {"superseded_by": 12}


def test_branches_are_named_with_their_git_paths() -> None:
    record = proposal(
        proposal={
            "source_git_repository_link": f"{BASE}/~ann/alpha/+git/alpha",
            "source_git_path": "refs/heads/fix",
            "target_branch_link": f"{BASE}/alpha",
        }
    )
    properties = by_type(proposals.transform(record, CONTEXT))["merge_proposal_created"]
    assert properties.event_properties["source"] == "~ann/alpha/+git/alpha:refs/heads/fix"
    assert properties.event_properties["target"] == "alpha"


def answer(index: int, action: str, person: str = BOB, **more: Any) -> dict[str, Any]:
    link = f"{BASE.replace('1.0', 'devel')}/alpha/+question/5/messages/{index}"
    return {
        "self_link": link,
        "action": action,
        "owner_link": person,
        "date_created": LATER,
        **more,
    }


@pytest.mark.parametrize(
    ("action", "status", "kind"),
    [
        ("Answer", "Answered", "question_answered"),
        ("Confirm", "Solved", "question_solved"),
        ("Change status", "Solved", "question_solved"),
        ("Change status", "Open", "question_commented"),
        ("Comment", "Solved", "question_commented"),
        ("Request for more information", "Needs information", "question_commented"),
        ("Reject", "Invalid", "question_commented"),
        ("An action to come", None, "question_commented"),
    ],
)
def test_messages_are_what_they_do(action: str, status: str | None, kind: str) -> None:
    record = question(messages=[answer(1, action, new_status=status)])
    event = by_type(questions.transform(record, CONTEXT))[kind]
    assert (event.event_id, event.person) == ("question:5:message:1", "bob")


def test_a_solution_that_no_message_tells_of_is_known_by_its_date() -> None:
    solved = {"status": "Solved", "date_solved": LATER}
    made = by_type(questions.transform(question(question=solved), CONTEXT))
    assert made["question_solved"].event_id == "question:5:solved"
    commented = question(question=solved, messages=[answer(1, "Confirm", ANN)])
    events = questions.transform(commented, CONTEXT)
    assert [e.event_type for e in events if isinstance(e, Event)].count("question_solved") == 1


def test_a_rejected_question_is_not_solved() -> None:
    rejected = {"status": "Invalid", "date_solved": LATER}
    made = by_type(questions.transform(question(question=rejected), CONTEXT))
    assert set(made) == {"question_created"}
    assert made["question_created"].relation_type == "owner"
