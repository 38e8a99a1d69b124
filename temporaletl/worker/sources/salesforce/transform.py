"""The transform of Salesforce's rows into events."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from temporaletl import Event, Json, RecordError, TransformContext, transform_method
from temporaletl.external.salesforce.query import utc
from temporaletl.numbers import json_number
from temporaletl.timezones import known_timezone
from temporaletl.worker.sources.salesforce.query import SalesforceQuery
from temporaletl.worker.sources.salesforce.records import (
    Case,
    CaseComment,
    CaseHistory,
    Change,
    Event as CalendarEvent,
    Item,
    Opportunity,
    OpportunityFieldHistory,
    OpportunityHistory,
    Person,
    Row,
    SalesforceRecord,
    Task,
)

#: The names that other sources have for the same change.
_CHANGES = {
    "Status": "status_changed",
    "Owner": "assignee_changed",
    "Priority": "priority_changed",
    "Subject": "summary_changed",
    "Name": "summary_changed",
    "Description": "description_changed",
    "StageName": "stage_changed",
    "Amount": "amount_changed",
    "CloseDate": "close_date_changed",
}
_NUMBERS = frozenset({"Currency", "Double", "Percent", "Number", "Int", "Integer", "Long"})
#: A deletion stamps the row; whoever changed it last then is whoever deleted it.
_SAME_TIME = timedelta(seconds=2)


@transform_method("salesforce")
def transform(record: Any, context: TransformContext[SalesforceQuery]) -> list[Event]:
    """Transform a row into its events.

    Takes a `SalesforceRecord`, or a row's JSON as a reject keeps it.

    Raises:
        RecordError: the JSON is no row, or something that happened has no time.
    """
    if not isinstance(record, SalesforceRecord):
        record = SalesforceRecord.read(record)
    return _TRANSFORMS[type(record.row)](record.row, context)


def _cases(row: Case, context: TransformContext[SalesforceQuery]) -> list[Event]:
    properties = {
        "subject": row.subject,
        "description": row.description,
        "status": row.status,
        "priority": row.priority,
        "origin": row.origin,
        "reason": row.reason,
        "type": row.type,
        "is_closed": row.is_closed,
        "is_escalated": row.is_escalated,
        "closed_at": _iso(row, "closed_date"),
        "account_id": row.account_id,
        "contact_id": row.contact_id,
        "parent_case_id": row.parent_id,
    }
    return _item("case", row, context, properties, {})


def _opportunities(row: Opportunity, context: TransformContext[SalesforceQuery]) -> list[Event]:
    properties = {
        "name": row.name,
        "description": row.description,
        "stage": row.stage_name,
        "type": row.type,
        "lead_source": row.lead_source,
        "next_step": row.next_step,
        "forecast_category": row.forecast_category_name,
        "close_date": row.close_date,
        "is_closed": row.is_closed,
        "is_won": row.is_won,
        "account_id": row.account_id,
        "campaign_id": row.campaign_id,
    }
    return _item("opportunity", row, context, properties, _worth(row))


def _tasks(row: Task, context: TransformContext[SalesforceQuery]) -> list[Event]:
    properties = {
        "subject": row.subject,
        "description": row.description,
        "status": row.status,
        "priority": row.priority,
        "type": row.type,
        "subtype": row.task_subtype,
        "call_type": row.call_type,
        "call_disposition": row.call_disposition,
        "due_date": row.activity_date,
        "completed_at": _iso(row, "completed_date_time"),
        "is_closed": row.is_closed,
        "is_recurrence": row.is_recurrence,
        "who_id": row.who_id,
        "what_id": row.what_id,
        "account_id": row.account_id,
    }
    metrics = _known(call_duration_seconds=row.call_duration_in_seconds)
    return _item("task", row, context, properties, metrics)


def _calendar(row: CalendarEvent, context: TransformContext[SalesforceQuery]) -> list[Event]:
    properties = {
        "subject": row.subject,
        "description": row.description,
        "location": row.location,
        "type": row.type,
        "subtype": row.event_subtype,
        "show_as": row.show_as,
        "starts_at": _iso(row, "start_date_time"),
        "ends_at": _iso(row, "end_date_time"),
        "date": row.activity_date,
        "is_all_day": row.is_all_day_event,
        "is_child": row.is_child,
        "is_group_event": row.is_group_event,
        "is_recurrence": row.is_recurrence,
        "who_id": row.who_id,
        "what_id": row.what_id,
        "account_id": row.account_id,
    }
    return _item(
        "event", row, context, properties, _known(duration_minutes=row.duration_in_minutes)
    )


def _item(
    noun: str,
    row: Item,
    context: TransformContext[SalesforceQuery],
    properties: Mapping[str, Json],
    metrics: Mapping[str, Json],
) -> list[Event]:
    """Return the row's creation, and its deletion where it is deleted."""
    owner = _known(owner=context.employee(row.owner_id) or row.owner_id)
    created = Event(
        event_id=f"{row.id}:created",
        event_type=f"{noun}_created",
        event_time_utc=_time(row, "created_date"),
        parent_item_id=row.key,
        relation_type="creator",
        person=row.created_by_id,
        employee_id=context.employee(row.created_by_id),
        timezone=_zone(row.created_by),
        event_properties={"id": row.id, **properties, "owner_id": row.owner_id},
        relation_properties=owner,
        metrics=dict(metrics),
    )
    if not row.is_deleted:
        return [created]
    changed = row.last_modified_date and _time(row, "last_modified_date")
    deleted = _time(row, "system_modstamp") if row.system_modstamp else changed
    if not deleted:
        raise RecordError("SystemModstamp is missing of a deleted row")
    by_last = bool(changed) and abs(deleted - (changed or deleted)) <= _SAME_TIME
    return [
        created,
        Event(
            event_id=f"{row.id}:deleted",
            event_type=f"{noun}_deleted",
            event_time_utc=deleted,
            parent_item_id=row.key,
            relation_type="deleter" if by_last else None,
            person=row.last_modified_by_id if by_last else None,
            employee_id=context.employee(row.last_modified_by_id) if by_last else None,
            timezone=_zone(row.last_modified_by if by_last else None),
            event_properties={"id": row.id},
            relation_properties=owner,
        ),
    ]


def _comments(row: CaseComment, context: TransformContext[SalesforceQuery]) -> list[Event]:
    return [
        Event(
            event_id=f"{row.id}:commented",
            event_type="case_commented",
            event_time_utc=_time(row, "created_date"),
            parent_item_id=(row.parent and row.parent.case_number) or row.parent_id,
            relation_type="author",
            person=row.created_by_id,
            employee_id=context.employee(row.created_by_id),
            timezone=_zone(row.created_by),
            event_properties={
                "id": row.id,
                "case_id": row.parent_id,
                "body": row.comment_body,
                "is_published": row.is_published,
            },
        )
    ]


def _case_changes(row: CaseHistory, context: TransformContext[SalesforceQuery]) -> list[Event]:
    number = row.case.case_number if row.case else None
    return _changes(row, number or row.case_id, {"case_id": row.case_id}, context)


def _opportunity_changes(
    row: OpportunityFieldHistory, context: TransformContext[SalesforceQuery]
) -> list[Event]:
    return _changes(row, row.opportunity_id, {"opportunity_id": row.opportunity_id}, context)


def _changes(
    row: Change, parent: str, of: Mapping[str, str], context: TransformContext[SalesforceQuery]
) -> list[Event]:
    if row.field == "created":
        # The history's first row says what the item's own row says.
        return []
    # A change to a record that another refers to is two rows: its names, and its ids.
    kind = "field_changed" if row.data_type == "EntityId" else _CHANGES.get(row.field)
    return [
        Event(
            event_id=f"{row.id}:changed",
            event_type=kind or "field_changed",
            event_time_utc=_time(row, "created_date"),
            parent_item_id=parent,
            relation_type="author",
            person=row.created_by_id,
            employee_id=context.employee(row.created_by_id),
            timezone=_zone(row.created_by),
            event_properties={
                "id": row.id,
                **of,
                "field": row.field,
                "field_type": row.data_type,
                "from": _value(row.old_value, row.data_type),
                "to": _value(row.new_value, row.data_type),
            },
        )
    ]


def _snapshots(row: OpportunityHistory, context: TransformContext[SalesforceQuery]) -> list[Event]:
    return [
        Event(
            event_id=f"{row.id}:changed",
            event_type="opportunity_changed",
            event_time_utc=_time(row, "created_date"),
            parent_item_id=row.opportunity_id,
            relation_type="author",
            person=row.created_by_id,
            employee_id=context.employee(row.created_by_id),
            timezone=_zone(row.created_by),
            event_properties={
                "id": row.id,
                "opportunity_id": row.opportunity_id,
                "stage": row.stage_name,
                "forecast_category": row.forecast_category,
                "close_date": row.close_date,
            },
            metrics=_worth(row),
        )
    ]


_TRANSFORMS: Mapping[type[Row], Callable[[Any, TransformContext[SalesforceQuery]], list[Event]]] = {
    Case: _cases,
    CaseComment: _comments,
    CaseHistory: _case_changes,
    CalendarEvent: _calendar,
    Opportunity: _opportunities,
    OpportunityFieldHistory: _opportunity_changes,
    OpportunityHistory: _snapshots,
    Task: _tasks,
}


def _worth(row: Opportunity | OpportunityHistory) -> dict[str, Json]:
    return _known(
        amount=_exact(row.amount),
        expected_revenue=_exact(row.expected_revenue),
        probability=_exact(row.probability),
    )


def _exact(value: Decimal | None) -> Json:
    return None if value is None else json_number(value)


def _known(**values: Json) -> dict[str, Json]:
    return {name: value for name, value in values.items() if value is not None}


def _value(value: Json, data_type: str | None) -> Json:
    """Return a changed field's value by its type: the Bulk API gives all of them as texts."""
    if data_type in _NUMBERS and isinstance(value, (str, int, float, Decimal)):
        try:
            return json_number(Decimal(str(value)))
        except (ArithmeticError, RecordError):
            return value
    if isinstance(value, Decimal):
        return json_number(value)
    if data_type == "Boolean" and isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower(), value)
    return value


def _time(row: Row, name: str) -> datetime:
    try:
        return utc(getattr(row, name))
    except RecordError as error:
        raise RecordError(f"{name.title().replace('_', '')}: {error}") from None


def _iso(row: Row, name: str) -> str | None:
    if getattr(row, name) is None:
        return None
    return _time(row, name).astimezone(UTC).isoformat().replace("+00:00", "Z")


def _zone(person: Person | None) -> str:
    return known_timezone(person.time_zone_sid_key if person else None) or "UTC"
