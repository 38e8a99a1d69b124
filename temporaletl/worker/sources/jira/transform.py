"""The transform of issues into events."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from temporaletl import CompleteSet, Event, Json, RecordError, TransformContext, transform_method
from temporaletl.external.jira.settings import JiraFields
from temporaletl.worker.sources.jira.adf import text_of
from temporaletl.worker.sources.jira.changelog import changes
from temporaletl.worker.sources.jira.comments_and_worklogs import comments, worklogs
from temporaletl.worker.sources.jira.issue import IssueRecord, Named
from temporaletl.worker.sources.jira.people import employee_of, id_of, profile_of
from temporaletl.worker.sources.jira.query import JiraQuery
from temporaletl.worker.sources.jira.timestamps import utc

_LISTS = {"comments", "worklogs", "histories"}


@transform_method("jira")
def transform(record: Any, context: TransformContext[JiraQuery]) -> list[Event | CompleteSet]:
    """Transform an issue into its events: creation, changes, comments and worklogs.

    Takes an `IssueRecord`, or an issue's JSON as a reject keeps it. Comments and worklogs can be
    deleted and edited in Jira: where all of them are known, events of others go. What is in a
    changelog stays there.

    Raises:
        RecordError: something that happened has no time, or JSON lacks a part of its lists, or is
            no issue.
    """
    if not isinstance(record, IssueRecord):
        record = IssueRecord.read(record)
        if missing := sorted(_LISTS - record.complete):
            raise RecordError(f"its {', '.join(missing)} were not all read: load it again")
    events: list[Event | CompleteSet] = [_created(record, context)]
    events += changes(record, context)
    events += comments(record, context)
    events += worklogs(record, context)
    for name, kind in (("comments", "comment"), ("worklogs", "worklog")):
        if name in record.complete:
            events.append(CompleteSet(f"{record.id}:{kind}:"))
    return events


def _created(record: IssueRecord, context: TransformContext[JiraQuery]) -> Event:
    fields = record.issue.fields
    creator = fields.creator
    profile = profile_of(creator)
    estimate = fields.timeoriginalestimate
    return Event(
        event_id=f"{record.id}:created",
        event_type="issue_created",
        event_time_utc=utc(fields.created),
        parent_item_id=record.key,
        relation_type="creator",
        person=profile.person,
        employee_id=employee_of(creator, context),
        timezone=profile.timezone,
        event_properties={
            "summary": fields.summary,
            "description": text_of(fields.description),
            "type": _name(fields.issuetype),
            "status": _name(fields.status),
            "priority": _name(fields.priority),
            "resolution": _name(fields.resolution),
            "project": fields.project.key if fields.project else None,
            "parent": fields.parent.key if fields.parent else None,
            "labels": list(fields.labels or ()),
            "components": _names(fields.components),
            "fix_versions": _names(fields.fix_versions),
            "reporter": id_of(fields.reporter),
            "assignee": id_of(fields.assignee),
            **_further(record, context),
        },
        relation_properties=profile.properties.copy(),
        metrics={} if estimate is None else {"original_estimate_seconds": estimate},
    )


@lru_cache(maxsize=16)
def _chosen_fields(connection: str, batch_id: str) -> Mapping[str, str]:
    """The chosen fields of a batch's connection, which is bound; read once for each batch."""
    del connection, batch_id  # the key alone
    return JiraFields.load().chosen_fields


def _further(record: IssueRecord, context: TransformContext[JiraQuery]) -> Mapping[str, Json]:
    chosen = _chosen_fields(context.job.connection, context.job.batch_id)
    return record.chosen(chosen) if chosen else {}


def _name(named: Named | None) -> str | None:
    return None if named is None else named.name


def _names(named: Sequence[Named] | None) -> list[str]:
    return [part.name for part in named or () if part.name]
