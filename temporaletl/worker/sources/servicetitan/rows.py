"""The tables of source `servicetitan`: one row for each record, as it was last read.

Money is exact, times are in UTC. What has no column of its own is in `full_data`, which is the
record as ServiceTitan gave it.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import ClassVar

from temporaletl import Json, Row

#: When a row's content was fetched is the platform's own knowledge. As a value of the row it would
#: make every reload rewrite every row.
_FETCHED_AT: Mapping[str, str] = {"extracted_at": "fetched_at"}


class StCustomer(Row, frozen=True, kw_only=True, gc=False):
    """A customer; one that was merged into another is inactive and names it."""

    table: ClassVar[str] = "st_customers"
    key: ClassVar[tuple[str, ...]] = ("st_id",)
    lineage: ClassVar[Mapping[str, str]] = _FETCHED_AT

    st_id: int
    active: bool | None = None
    name: str | None = None
    type: str | None = None
    street: str | None = None
    unit: str | None = None
    city: str | None = None
    state: str | None = None
    zip: str | None = None
    country: str | None = None
    balance: Decimal | None = None
    credit_limit: Decimal | None = None
    tax_exempt: bool | None = None
    do_not_mail: bool | None = None
    do_not_service: bool | None = None
    merged_to_id: int | None = None
    created_by_id: int | None = None
    created_on: datetime | None = None
    modified_on: datetime | None = None
    full_data: Json


class StJob(Row, frozen=True, kw_only=True, gc=False):
    """A job at a customer's location."""

    table: ClassVar[str] = "st_jobs"
    key: ClassVar[tuple[str, ...]] = ("st_id",)
    lineage: ClassVar[Mapping[str, str]] = _FETCHED_AT

    st_id: int
    active: bool | None = None
    job_number: str | None = None
    status: str | None = None
    priority: str | None = None
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
    created_on: datetime | None = None
    modified_on: datetime | None = None
    completed_on: datetime | None = None
    full_data: Json


class StInvoice(Row, frozen=True, kw_only=True, gc=False):
    """An invoice; its items are in `full_data`."""

    table: ClassVar[str] = "st_invoices"
    key: ClassVar[tuple[str, ...]] = ("st_id",)
    lineage: ClassVar[Mapping[str, str]] = _FETCHED_AT

    st_id: int
    active: bool | None = None
    reference_number: str | None = None
    invoice_type: str | None = None
    sync_status: str | None = None
    review_status: str | None = None
    summary: str | None = None
    customer_id: int | None = None
    customer_name: str | None = None
    location_id: int | None = None
    business_unit_id: int | None = None
    business_unit_name: str | None = None
    job_id: int | None = None
    job_number: str | None = None
    job_type: str | None = None
    project_id: int | None = None
    batch_id: int | None = None
    adjustment_to_id: int | None = None
    term_name: str | None = None
    sub_total: Decimal | None = None
    sales_tax: Decimal | None = None
    tax_rate: Decimal | None = None
    discount_total: Decimal | None = None
    total: Decimal | None = None
    balance: Decimal | None = None
    invoice_date: datetime | None = None
    due_date: datetime | None = None
    paid_on: datetime | None = None
    created_by: str | None = None
    created_on: datetime | None = None
    modified_on: datetime | None = None
    full_data: Json


class StEstimate(Row, frozen=True, kw_only=True, gc=False):
    """An estimate; its items are in `full_data`."""

    table: ClassVar[str] = "st_estimates"
    key: ClassVar[tuple[str, ...]] = ("st_id",)
    lineage: ClassVar[Mapping[str, str]] = _FETCHED_AT

    st_id: int
    active: bool | None = None
    name: str | None = None
    status: str | None = None
    review_status: str | None = None
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
    sold_by_id: int | None = None
    sold_on: datetime | None = None
    created_on: datetime | None = None
    modified_on: datetime | None = None
    full_data: Json
