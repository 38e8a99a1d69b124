"""Types of Salesforce's rows; their fields are also those that a query selects.

A field without a default must be shown by the org; the others are left out where it does not.
Times stay text until they are needed: REST and the Bulk API write them differently.
"""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar, get_args

import msgspec

from temporaletl import Json, RecordError
from temporaletl.external.answers import DECODE_FAULTS, decode_record


class Part(msgspec.Struct, rename="pascal", kw_only=True, frozen=True, gc=False):
    """Base of rows and of what they lead to; unknown fields are ignored."""


class Person(Part, frozen=True, kw_only=True):
    """The fields of a User that are selected beside its Id."""

    time_zone_sid_key: str | None = None


class CaseKey(Part, frozen=True, kw_only=True):
    case_number: str | None = None


class Row(Part, frozen=True, kw_only=True):
    """Base of rows: the fields that every object has. `created_by_id` is a User's Id."""

    object: ClassVar[str]

    id: str
    created_date: str
    created_by_id: str | None
    created_by: Person | None = None

    @property
    def key(self) -> str:
        """The key by which a person knows the row, as far as there is one."""
        return self.id


class Item(Row, frozen=True, kw_only=True):
    """A row that can be changed and deleted; who changed it last."""

    is_deleted: bool
    system_modstamp: str | None = None
    owner_id: str | None = None
    last_modified_date: str | None = None
    last_modified_by_id: str | None = None
    last_modified_by: Person | None = None


class Case(Item, frozen=True, kw_only=True):
    object: ClassVar[str] = "Case"

    case_number: str
    subject: str | None = None
    description: str | None = None
    status: str | None = None
    priority: str | None = None
    origin: str | None = None
    reason: str | None = None
    type: str | None = None
    account_id: str | None = None
    contact_id: str | None = None
    parent_id: str | None = None
    is_closed: bool | None = None
    is_escalated: bool | None = None
    closed_date: str | None = None

    @property
    def key(self) -> str:
        return self.case_number


class Opportunity(Item, frozen=True, kw_only=True):
    object: ClassVar[str] = "Opportunity"

    name: str | None = None
    description: str | None = None
    stage_name: str | None = None
    type: str | None = None
    lead_source: str | None = None
    next_step: str | None = None
    forecast_category_name: str | None = None
    account_id: str | None = None
    campaign_id: str | None = None
    close_date: str | None = None
    is_closed: bool | None = None
    is_won: bool | None = None
    amount: Decimal | None = None
    expected_revenue: Decimal | None = None
    probability: Decimal | None = None


class Task(Item, frozen=True, kw_only=True):
    object: ClassVar[str] = "Task"

    subject: str | None = None
    description: str | None = None
    status: str | None = None
    priority: str | None = None
    type: str | None = None
    task_subtype: str | None = None
    call_type: str | None = None
    call_disposition: str | None = None
    activity_date: str | None = None
    completed_date_time: str | None = None
    is_closed: bool | None = None
    is_recurrence: bool | None = None
    who_id: str | None = None
    what_id: str | None = None
    account_id: str | None = None
    call_duration_in_seconds: float | None = None


class Event(Item, frozen=True, kw_only=True):
    """A calendar entry; an invitee's copy is a row of its own (`is_child`)."""

    object: ClassVar[str] = "Event"

    subject: str | None = None
    description: str | None = None
    location: str | None = None
    type: str | None = None
    event_subtype: str | None = None
    show_as: str | None = None
    start_date_time: str | None = None
    end_date_time: str | None = None
    activity_date: str | None = None
    is_all_day_event: bool | None = None
    is_child: bool | None = None
    is_group_event: bool | None = None
    is_recurrence: bool | None = None
    who_id: str | None = None
    what_id: str | None = None
    account_id: str | None = None
    duration_in_minutes: float | None = None


class CaseComment(Row, frozen=True, kw_only=True):
    object: ClassVar[str] = "CaseComment"

    parent_id: str
    system_modstamp: str | None = None
    comment_body: str | None = None
    is_published: bool | None = None
    parent: CaseKey | None = None


class Change(Row, frozen=True, kw_only=True):
    """A field's change, as far as the org tracks the field. Values are of the field's type."""

    field: str
    data_type: str | None = None
    old_value: Json = None
    new_value: Json = None


class CaseHistory(Change, frozen=True, kw_only=True):
    object: ClassVar[str] = "CaseHistory"

    case_id: str
    case: CaseKey | None = None


class OpportunityFieldHistory(Change, frozen=True, kw_only=True):
    object: ClassVar[str] = "OpportunityFieldHistory"

    opportunity_id: str


class OpportunityHistory(Row, frozen=True, kw_only=True):
    """An opportunity's stage, amount, probability and date, at each change of one of them."""

    object: ClassVar[str] = "OpportunityHistory"

    opportunity_id: str
    stage_name: str | None = None
    forecast_category: str | None = None
    close_date: str | None = None
    amount: Decimal | None = None
    expected_revenue: Decimal | None = None
    probability: Decimal | None = None


KINDS: Mapping[str, type[Row]] = {
    kind.object: kind
    for kind in (
        Case,
        CaseComment,
        CaseHistory,
        Event,
        Opportunity,
        OpportunityFieldHistory,
        OpportunityHistory,
        Task,
    )
}


_exactly = msgspec.json.Decoder(float_hook=Decimal).decode


class _Named(msgspec.Struct):
    class _Attributes(msgspec.Struct):
        type: str | None = None

    attributes: _Attributes | None = None


class SalesforceRecord:
    """One row as fetched; `raw` is its JSON, what `read` takes."""

    __slots__ = ("fetched", "row")

    def __init__(self, fetched: bytes | msgspec.Raw | Mapping[str, Any], row: Row) -> None:
        self.fetched = fetched
        self.row = row

    @classmethod
    def read(cls, payload: Any, object_name: str | None = None) -> "SalesforceRecord":
        """Read a row from Salesforce's JSON, encoded or decoded; the Bulk API's texts also.

        Raises:
            RecordError: it is no row of the object, or of none that is known.
        """
        try:
            if isinstance(payload, Mapping):
                name = object_name or _object_in(payload)
                return cls(payload, msgspec.convert(payload, KINDS[name], strict=False))
            if not isinstance(payload, (bytes, msgspec.Raw)):
                raise RecordError(f"the payload is no object of JSON but {type(payload).__name__}")
            name = object_name or _name_of(decode_record(_Named, payload))
            return cls(payload, _exact(payload, decode_record(KINDS[name], payload)))
        except (msgspec.DecodeError, ArithmeticError) as error:
            raise RecordError(str(error)) from None
        except KeyError as error:
            raise RecordError(f"{error} is no object that this source reads") from None

    @property
    def key(self) -> str:
        return self.row.key

    @property
    def raw(self) -> Json:
        if isinstance(self.fetched, Mapping):
            return self.fetched
        try:
            return _exactly(self.fetched)
        except DECODE_FAULTS:
            return bytes(self.fetched)


def _exact(payload: bytes | msgspec.Raw, row: Row) -> Row:
    """The row with all the digits of a changed field's values."""
    if not isinstance(row, Change) or not (
        isinstance(row.old_value, float) or isinstance(row.new_value, float)
    ):
        return row
    found = decode_record(dict[str, msgspec.Raw], payload)
    return msgspec.structs.replace(
        row,
        **{
            name: Decimal(bytes(found[path]).decode())
            for name, path in (("old_value", "OldValue"), ("new_value", "NewValue"))
            if isinstance(getattr(row, name), float)
        },
    )


def _object_in(payload: object) -> str:
    return _name_of(msgspec.convert(payload, _Named))


def _name_of(named: _Named) -> str:
    return str(named.attributes and named.attributes.type)


def fields_of(kind: type[Row]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names to select: those that must be there, and the others."""
    needed: list[str] = []
    others: list[str] = []
    for field in msgspec.structs.fields(kind):
        (needed if field.required else others).extend(_paths(field))
    return tuple(needed), tuple(others)


def _paths(field: msgspec.structs.FieldInfo) -> Iterator[str]:
    types = [arg for arg in get_args(field.type) if isinstance(arg, type)]
    part = next((kind for kind in types if issubclass(kind, Part)), None)
    if part is None:
        yield field.encode_name
        return
    for inner in msgspec.structs.fields(part):
        yield f"{field.encode_name}.{inner.encode_name}"
