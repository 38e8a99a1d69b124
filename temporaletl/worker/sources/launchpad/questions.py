"""The transform of questions into events: created, answered, commented on, solved."""

from collections.abc import Iterator
from typing import Any

from temporaletl import CompleteSet, Event, RecordError, TransformContext, transform_method
from temporaletl.worker.sources.launchpad.entries import Message, name_of, number_of, path_of, utc
from temporaletl.worker.sources.launchpad.people import part_of
from temporaletl.worker.sources.launchpad.query import LaunchpadQuery
from temporaletl.worker.sources.launchpad.record import QuestionWhole, RawRecord, deduplicate_events

_SOLVED = "Solved"


@transform_method("launchpad-questions")
def transform(record: Any, context: TransformContext[LaunchpadQuery]) -> list[Event | CompleteSet]:
    """Transform a question into its events.

    Takes a `RawRecord`, or a question's JSON as a reject keeps it.

    Raises:
        RecordError: a field is not what it should be; it is named.
    """
    whole = RawRecord.whole(QuestionWhole, record)
    number = whole.question.id or number_of(whole.question.self_link)
    if number is None:
        raise RecordError("the question has no id")
    events = [
        _created(number, whole, context),
        *_answers(number, whole, context),
        *_solution(number, whole, context),
    ]
    return deduplicate_events(f"question:{number}:", events, whole)


def _created(number: int, whole: QuestionWhole, context: TransformContext[LaunchpadQuery]) -> Event:
    question = whole.question
    return Event(
        event_id=f"question:{number}:created",
        event_type="question_created",
        event_time_utc=utc(question.date_created, "date_created"),
        parent_item_id=str(number),
        event_properties={
            "title": question.title,
            "description": question.description,
            "status": question.status,
            "target": path_of(question.target_link),
            "assignee": name_of(question.assignee_link),
            "answerer": name_of(question.answerer_link),
            "web_link": question.web_link,
        },
        **part_of(question.owner_link, "owner", whole.people, context),
    )


def _answers(
    number: int, whole: QuestionWhole, context: TransformContext[LaunchpadQuery]
) -> Iterator[Event]:
    for message in whole.messages:
        index = number_of(message.self_link)
        if index is None:
            raise RecordError(f"a message's self_link has no number: {message.self_link!r}")
        event_type, relation = _kind(message)
        yield Event(
            event_id=f"question:{number}:message:{index}",
            event_type=event_type,
            event_time_utc=utc(message.date_created, f"date_created of message {index}"),
            parent_item_id=str(number),
            event_properties={
                "message": index,
                "action": message.action,
                "new_status": message.new_status,
                "content": message.content,
                "edited": message.date_last_edited,
                "deleted": message.date_deleted,
            },
            **part_of(message.owner_link, relation, whole.people, context),
        )


def _kind(message: Message) -> tuple[str, str]:
    """An event's type and the person's part, by what a message did to its question."""
    if message.action == "Answer":
        return "question_answered", "answerer"
    if _solves(message):
        return "question_solved", "solver"
    return "question_commented", "author"


def _solves(message: Message) -> bool:
    return message.action == "Confirm" or (
        message.action == "Change status" and message.new_status == _SOLVED
    )


def _solution(
    number: int, whole: QuestionWhole, context: TransformContext[LaunchpadQuery]
) -> Iterator[Event]:
    """The solution, where the message that solved it is not shown."""
    question = whole.question
    # A question that is rejected gets the date as well.
    if question.status != _SOLVED or question.date_solved is None:
        return
    if any(_solves(message) for message in whole.messages):
        return
    # Where no message could be read, one of them may tell of it.
    if not whole.messages and "messages" not in whole.complete:
        return
    yield Event(
        event_id=f"question:{number}:solved",
        event_type="question_solved",
        event_time_utc=utc(question.date_solved, "date_solved"),
        parent_item_id=str(number),
        event_properties={
            "message": None,
            "action": None,
            "new_status": _SOLVED,
            "content": None,
            "edited": None,
            "deleted": None,
        },
        **part_of(question.owner_link, "solver", whole.people, context),
    )
