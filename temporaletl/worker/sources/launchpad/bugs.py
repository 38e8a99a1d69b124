"""The transform of bugs into events: their creation, their comments and their changes."""

import re
from collections.abc import Iterator
from typing import Any

import xxhash

from temporaletl import CompleteSet, Event, RecordError, TransformContext, transform_method
from temporaletl.worker.sources.launchpad.entries import (
    Activity,
    Bug,
    Task,
    name_of,
    number_of,
    utc,
)
from temporaletl.worker.sources.launchpad.people import part_of
from temporaletl.worker.sources.launchpad.query import LaunchpadQuery
from temporaletl.worker.sources.launchpad.record import BugWhole, RawRecord, deduplicate_events

#: The description is a bug's message 0.
_DESCRIPTION = 0
#: A change within one project or package is named `ubuntu: status`, its name first.
_TARGETED = re.compile(r"^(?P<target>.+): (?P<field>[^:]+)$")
_TYPES = {
    "status": "status_changed",
    "importance": "importance_changed",
    "assignee": "assignee_changed",
    "assigned to": "assignee_changed",
    "summary": "summary_changed",
    "title": "summary_changed",
    "description": "description_changed",
}


@transform_method("launchpad-bugs")
def transform(record: Any, context: TransformContext[LaunchpadQuery]) -> list[Event | CompleteSet]:
    """Transform a bug into its events.

    Takes a `RawRecord`, or a bug's JSON as a reject keeps it.

    Raises:
        RecordError: a field is not what it should be; it is named.
    """
    whole = RawRecord.whole(BugWhole, record)
    number = whole.bug.id
    if number is None:
        raise RecordError("the bug has no id")
    events = [
        _created(number, whole, context),
        *_comments(number, whole, context),
        *_changes(number, whole, context),
    ]
    return deduplicate_events(f"bug:{number}:", events, whole)


def _created(number: int, whole: BugWhole, context: TransformContext[LaunchpadQuery]) -> Event:
    bug = whole.bug
    return Event(
        event_id=f"bug:{number}:created",
        event_type="bug_created",
        event_time_utc=utc(bug.date_created, "date_created"),
        parent_item_id=str(number),
        event_properties={
            "title": bug.title,
            "description": bug.description,
            "information_type": bug.information_type,
            "tags": bug.tags,
            "duplicate_of": number_of(bug.duplicate_of_link),
            "web_link": bug.web_link,
            "tasks": sorted(map(_task, whole.tasks), key=lambda task: str(task["target"])),
        },
        metrics=_measured(bug),
        **part_of(bug.owner_link, "owner", whole.people, context),
    )


def _task(task: Task) -> dict[str, Any]:
    return {
        "target": task.bug_target_name,
        "status": task.status,
        "importance": task.importance,
        "assignee": name_of(task.assignee_link),
    }


def _measured(bug: Bug) -> dict[str, int]:
    counts = {"message_count": bug.message_count, "users_affected": bug.users_affected_count}
    return {name: count for name, count in counts.items() if isinstance(count, int)}


def _comments(
    number: int, whole: BugWhole, context: TransformContext[LaunchpadQuery]
) -> Iterator[Event]:
    for message in whole.messages:
        index = number_of(message.self_link)
        if index is None:
            raise RecordError(f"a message's self_link has no number: {message.self_link!r}")
        if index == _DESCRIPTION:
            continue
        yield Event(
            event_id=f"bug:{number}:comment:{index}",
            event_type="bug_commented",
            event_time_utc=utc(message.date_created, f"date_created of comment {index}"),
            parent_item_id=str(number),
            event_properties={
                "comment": index,
                "subject": message.subject,
                "content": message.content,
                "edited": message.date_last_edited,
                "deleted": message.date_deleted,
            },
            **part_of(message.owner_link, "author", whole.people, context),
        )


def _changes(
    number: int, whole: BugWhole, context: TransformContext[LaunchpadQuery]
) -> Iterator[Event]:
    for change in whole.activity:
        target, field = divided(change.whatchanged)
        yield Event(
            event_id=f"bug:{number}:activity:{digest(number, change)}",
            event_type=_TYPES.get(field.lower(), "field_changed"),
            event_time_utc=utc(change.datechanged, "datechanged"),
            parent_item_id=str(number),
            event_properties={
                "field": field,
                "target": target,
                "from": change.oldvalue,
                "to": change.newvalue,
                "message": change.message,
            },
            **part_of(change.person_link, "author", whole.people, context),
        )


def divided(what: str | None) -> tuple[str | None, str]:
    """Return the target and the field that an activity's `whatchanged` names."""
    found = _TARGETED.match(what or "")
    return (found["target"], found["field"]) if found else (None, what or "")


def digest(number: int, change: Activity) -> str:
    """Return a key for an entry of a bug's activity, which has none of its own.

    A change is identified by its values. Where it has none, as when two people were subscribed
    at once, only the message distinguishes it from others of the same time.
    """
    timestamp = utc(change.datechanged, "datechanged").isoformat()
    parts = [str(number), timestamp, name_of(change.person_link), change.whatchanged]
    parts += [change.oldvalue, change.newvalue]
    if change.oldvalue is None and change.newvalue is None:
        parts.append(change.message)
    # An empty text is not the absence of one.
    text = "\x1f".join("" if value is None else f"={value}" for value in parts)
    return xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass"))
