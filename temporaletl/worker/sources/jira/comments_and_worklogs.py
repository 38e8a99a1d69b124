"""Comment and worklog events: the creation of each, and its latest edit."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from temporaletl import Event, TransformContext
from temporaletl.worker.sources.jira.adf import text_of
from temporaletl.worker.sources.jira.issue import Comment, IssueRecord, Person, Worklog
from temporaletl.worker.sources.jira.people import employee_of, id_of, profile_of
from temporaletl.worker.sources.jira.query import JiraQuery
from temporaletl.worker.sources.jira.timestamps import ms_of, utc


def comments(record: IssueRecord, context: TransformContext[JiraQuery]) -> Iterator[Event]:
    """Yield an event for each comment, and one for its latest edit.

    Raises:
        RecordError: a comment has no time.
    """
    issue_id = record.id
    for comment in record.comments:
        prefix = f"{issue_id}:comment:{comment.id}"
        created = utc(comment.created)
        edited, said = _edited(comment, created), _said(comment)
        yield _event(
            f"{prefix}:created", "comment_created", created, comment.author, said, record, context
        )
        if edited is not None:
            # Its time is part of the id, so that the next edit is another event beside it.
            event_id = f"{prefix}:updated:{ms_of(comment.updated)}"
            person, again = comment.update_author, said.copy()
            yield _event(event_id, "comment_updated", edited, person, again, record, context)


def worklogs(record: IssueRecord, context: TransformContext[JiraQuery]) -> Iterator[Event]:
    """Yield an event for each worklog, and one for its latest edit.

    Both are the author's, whose work it is, whoever noted it.

    Raises:
        RecordError: a worklog has no time.
    """
    issue_id = record.id
    for worklog in record.worklogs:
        prefix = f"{issue_id}:worklog:{worklog.id}"
        created, author = utc(worklog.created), worklog.author
        edited, worked = _edited(worklog, created), _worked(worklog)
        yield _event(
            f"{prefix}:created",
            "worklog_created",
            created,
            author,
            worked,
            record,
            context,
            worklog.time_spent_seconds,
        )
        if edited is not None:
            yield _event(
                f"{prefix}:updated:{ms_of(worklog.updated)}",
                "worklog_updated",
                edited,
                author,
                worked | {"editor": id_of(worklog.update_author)},
                record,
                context,
                worklog.time_spent_seconds,
            )


def _edited(entry: Comment | Worklog, created: datetime) -> datetime | None:
    if entry.updated is None or entry.updated == entry.created:
        return None
    edited = utc(entry.updated)
    return None if edited == created else edited


def _event(
    event_id: str,
    event_type: str,
    event_time: datetime,
    person: Person | None,
    properties: dict[str, Any],
    record: IssueRecord,
    context: TransformContext[JiraQuery],
    seconds_spent: float | None = None,
) -> Event:
    profile = profile_of(person)
    return Event(
        event_id=event_id,
        event_type=event_type,
        event_time_utc=event_time,
        parent_item_id=record.key,
        relation_type="author",
        person=profile.person,
        employee_id=employee_of(person, context),
        timezone=profile.timezone,
        event_properties=properties,
        relation_properties=profile.properties.copy(),
        metrics={} if seconds_spent is None else {"time_spent_seconds": seconds_spent},
    )


def _said(comment: Comment) -> dict[str, Any]:
    said: dict[str, Any] = {"comment_id": str(comment.id), "body": text_of(comment.body)}
    if comment.jsd_public is not None:
        said["public"] = comment.jsd_public
    return said


def _worked(worklog: Worklog) -> dict[str, Any]:
    return {
        "worklog_id": str(worklog.id),
        "started": None if worklog.started is None else utc(worklog.started).isoformat(),
        "time_spent": worklog.time_spent,
        "comment": text_of(worklog.comment),
    }
