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
    for comment in record.comments:
        prefix = f"{record.id}:comment:{comment.id}"
        created, edited = utc(comment.created), _edited(comment)
        yield Event(
            event_id=f"{prefix}:created",
            event_type="comment_created",
            event_time_utc=created,
            event_properties=_said(comment),
            **_by(comment.author, record, context),
        )
        if edited is not None:
            # Its time is part of the id, so that the next edit is another event beside it.
            yield Event(
                event_id=f"{prefix}:updated:{ms_of(comment.updated)}",
                event_type="comment_updated",
                event_time_utc=edited,
                event_properties=_said(comment),
                **_by(comment.update_author, record, context),
            )


def worklogs(record: IssueRecord, context: TransformContext[JiraQuery]) -> Iterator[Event]:
    """Yield an event for each worklog, and one for its latest edit.

    Both are the author's, whose work it is, whoever noted it.

    Raises:
        RecordError: a worklog has no time.
    """
    for worklog in record.worklogs:
        prefix = f"{record.id}:worklog:{worklog.id}"
        created, edited = utc(worklog.created), _edited(worklog)
        yield Event(
            event_id=f"{prefix}:created",
            event_type="worklog_created",
            event_time_utc=created,
            event_properties=_worked(worklog),
            metrics=_measured(worklog),
            **_by(worklog.author, record, context),
        )
        if edited is not None:
            yield Event(
                event_id=f"{prefix}:updated:{ms_of(worklog.updated)}",
                event_type="worklog_updated",
                event_time_utc=edited,
                event_properties=_worked(worklog) | {"editor": id_of(worklog.update_author)},
                metrics=_measured(worklog),
                **_by(worklog.author, record, context),
            )


def _edited(entry: Comment | Worklog) -> datetime | None:
    if entry.updated is None or entry.updated == entry.created:
        return None
    edited = utc(entry.updated)
    return None if edited == utc(entry.created) else edited


def _by(
    person: Person | None, record: IssueRecord, context: TransformContext[JiraQuery]
) -> dict[str, Any]:
    profile = profile_of(person)
    return {
        "parent_item_id": record.key,
        "relation_type": "author",
        "person": profile.person,
        "employee_id": employee_of(person, context),
        "timezone": profile.timezone,
        "relation_properties": profile.properties.copy(),
    }


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


def _measured(worklog: Worklog) -> dict[str, Any]:
    seconds = worklog.time_spent_seconds
    return {} if seconds is None else {"time_spent_seconds": seconds}
