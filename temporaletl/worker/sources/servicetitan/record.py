"""Types of ServiceTitan's JSON: the fields that have columns; the rest stays undecoded.

Exports and lists, old and new versions of the API give different fields: any but the id may be
absent.
"""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec

from temporaletl import Json, RecordError, Reject
from temporaletl.external.answers import DECODE_FAULTS, decode_record, in_words, without_halves

#: What numeric holds before and after the point.
_MOST_DIGITS, _MOST_DECIMALS = 131_072, 16_383


class Body(msgspec.Struct, rename="camel", gc=False, frozen=True, kw_only=True):
    """Base of the records; unknown fields are ignored, times are text."""

    id: int
    active: bool | None = None
    created_on: str | None = None
    modified_on: str | None = None

    @property
    def known_by(self) -> str:
        """The record's name for people."""
        return str(self.id)


class Named(msgspec.Struct, gc=False, frozen=True):
    id: int | None = None
    name: str | None = None


class Address(msgspec.Struct, gc=False, frozen=True):
    street: str | None = None
    unit: str | None = None
    city: str | None = None
    state: str | None = None
    zip: str | None = None
    country: str | None = None


class InvoicedJob(msgspec.Struct, gc=False, frozen=True):
    id: int | None = None
    number: str | None = None
    type: str | None = None


class TaxCode(msgspec.Struct, rename="camel", gc=False, frozen=True):
    tax_rate: Decimal | None = None


#: A name, or an object that has one.
Name = str | Named


class Customer(Body, frozen=True, kw_only=True, gc=False):
    name: str | None = None
    type: Name | None = None
    address: Address | None = None
    balance: Decimal | None = None
    credit_limit: Decimal | None = None
    tax_exempt: bool | None = None
    do_not_mail: bool | None = None
    do_not_service: bool | None = None
    merged_to_id: int | None = None
    created_by_id: int | None = None


class Job(Body, frozen=True, kw_only=True, gc=False):
    job_number: str | None = None
    job_status: Name | None = None
    priority: Name | None = None
    summary: str | None = None
    customer_id: int | None = None
    location_id: int | None = None
    project_id: int | None = None
    business_unit_id: int | None = None
    job_type_id: int | None = None
    campaign_id: int | None = None
    invoice_id: int | None = None
    booking_id: int | None = None
    lead_call_id: int | None = None
    sold_by_id: int | None = None
    recall_for_id: int | None = None
    warranty_id: int | None = None
    appointment_count: int | None = None
    first_appointment_id: int | None = None
    last_appointment_id: int | None = None
    no_charge: bool | None = None
    total: Decimal | None = None
    created_by_id: int | None = None
    completed_on: str | None = None

    @property
    def known_by(self) -> str:
        return self.job_number or str(self.id)


class Invoice(Body, frozen=True, kw_only=True, gc=False):
    reference_number: str | None = None
    invoice_type: Name | None = None
    sync_status: str | None = None
    review_status: Name | None = None
    summary: str | None = None
    customer: Named | None = None
    location: Named | None = None
    business_unit: Named | None = None
    job: InvoicedJob | None = None
    project_id: int | None = None
    batch: Named | None = None
    adjustment_to_id: int | None = None
    term_name: str | None = None
    sub_total: Decimal | None = None
    sales_tax: Decimal | None = None
    sales_tax_code: TaxCode | None = None
    discount_total: Decimal | None = None
    total: Decimal | None = None
    balance: Decimal | None = None
    invoice_date: str | None = None
    due_date: str | None = None
    paid_on: str | None = None
    created_by: str | None = None

    @property
    def known_by(self) -> str:
        return self.reference_number or str(self.id)


class Estimate(Body, frozen=True, kw_only=True, gc=False):
    name: str | None = None
    status: Name | None = None
    review_status: Name | None = None
    summary: str | None = None
    job_id: int | None = None
    job_number: str | None = None
    project_id: int | None = None
    customer_id: int | None = None
    location_id: int | None = None
    business_unit_id: int | None = None
    business_unit_name: str | None = None
    subtotal: Decimal | None = None
    tax: Decimal | None = None
    sold_by: int | None = None
    sold_on: str | None = None


class _Bare(msgspec.Struct, rename="camel"):
    id: Json = None
    job_number: Json = None
    reference_number: Json = None
    modified_on: Json = None


#: Making a decoder costs far more than most records.
_decoders: dict[str, msgspec.json.Decoder[Any]] = {
    "customers": msgspec.json.Decoder(Customer),
    "jobs": msgspec.json.Decoder(Job),
    "invoices": msgspec.json.Decoder(Invoice),
    "estimates": msgspec.json.Decoder(Estimate),
}


class Record[B: Body]:
    """One record: its JSON as fetched, and the fields that are decoded of it."""

    __slots__ = ("body", "fetched")

    def __init__(self, fetched: bytes | msgspec.Raw, body: B) -> None:
        self.fetched = fetched
        self.body = body

    @classmethod
    def read(cls, stream: str, payload: Any) -> "Record[Any]":
        """Read a record of a stream from its JSON, encoded or not; a record is returned as it is.

        Raises:
            RecordError: it is not one; names the field.
        """
        if isinstance(payload, Record):
            return payload
        if not isinstance(payload, bytes | msgspec.Raw):
            payload = msgspec.json.encode(payload)
        payload = without_halves(bytes(payload))
        try:
            return cls(payload, _decoders[stream].decode(payload))
        except DECODE_FAULTS as error:
            raise RecordError(f"not one of the {stream}: {in_words(error)}") from None

    @property
    def key(self) -> str:
        return self.body.known_by

    @property
    def as_it_came(self) -> msgspec.Raw:
        """The record's own bytes, be they JSON or not."""
        return msgspec.Raw(self.fetched)

    @property
    def raw(self) -> Json:
        """The record as ServiceTitan gave it, its numbers with all their digits.

        Raises:
            RecordError: a part that no column needed cannot be decoded.
        """
        try:
            return _exact.decode(self.fetched)
        except DECODE_FAULTS as error:
            wide = _with_wide_integers(bytes(self.fetched))
            if wide is not None:
                return wide
            raise RecordError(f"the record is not valid JSON: {in_words(error)}") from None


def _number(text: str) -> Decimal:
    """Read a number of whatever digits, as long as the warehouse can hold it.

    Raises:
        ValueError: it cannot.
    """
    number = Decimal(text)
    exponent = number.as_tuple().exponent
    if number.adjusted() >= _MOST_DIGITS or not int(exponent) >= -_MOST_DECIMALS:
        raise ValueError(f"a number is larger or finer than any that can be kept: {text[:40]}")
    return number


_exact = msgspec.json.Decoder(float_hook=_number)


def _with_wide_integers(raw: bytes) -> Json | None:
    """Decode a record as `raw` does, though an integer of it is wider than decoders take."""
    try:
        return json.loads(
            raw, parse_float=_number, parse_int=_number, parse_constant=_number_refused
        )
    except (ValueError, ArithmeticError, RecursionError):
        return None


def _number_refused(constant: str) -> Decimal:
    raise ValueError(f"{constant} is no number of JSON")


def undecodable(raw: msgspec.Raw, reason: str) -> Reject:
    """The reject of a record that cannot be decoded, under the best name it has."""
    bare = bare_of(raw)
    names = (bare.job_number, bare.reference_number, bare.id)
    key = next((str(name) for name in names if isinstance(name, str | int)), None)
    return Reject(stage="extract", reason=reason, key=key, payload=raw)


def bare_of(raw: msgspec.Raw) -> _Bare:
    """Decode only the names and times of a record, as far as even these can be decoded."""
    try:
        return decode_record(_Bare, raw)
    except RecordError:
        return _Bare()


def timestamp(text: str | None, field: str) -> datetime | None:
    """Return a timestamp in UTC; None for none, and for the year 1, which is the vendor's "never".

    Digits beyond the microsecond are cut off.

    Raises:
        RecordError: it is no time; names the field.
    """
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text)
        if parsed.tzinfo is None:
            parsed = parsed.replace(tzinfo=UTC)
        return None if parsed.year == 1 else parsed.astimezone(UTC)
    except (ValueError, OverflowError):
        raise RecordError(f"{field} is not a time: {text!r}") from None
