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
    comment: ClassVar[str] = "Customers; one that was merged into another is inactive and names it."
    comments: ClassVar[Mapping[str, str]] = {
        "st_id": "ServiceTitan's id",
        "active": "whether it is active",
        "name": "name",
        "type": "type",
        "street": "street",
        "unit": "unit",
        "city": "city",
        "state": "state",
        "zip": "postal code",
        "country": "country",
        "balance": "balance",
        "credit_limit": "credit limit",
        "tax_exempt": "exempt from tax",
        "do_not_mail": "wants no mail",
        "do_not_service": "is not to be serviced",
        "merged_to_id": "the customer it was merged into",
        "created_by_id": "who created it, by id",
        "created_on": "creation",
        "modified_on": "last modification",
        "full_data": "the record as ServiceTitan sent it",
    }
    refers_to: ClassVar[Mapping[str, str]] = {"merged_to_id": "st_customers"}

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
    comment: ClassVar[str] = "Jobs at customers' locations."
    comments: ClassVar[Mapping[str, str]] = {
        "st_id": "ServiceTitan's id",
        "active": "whether it is active",
        "job_number": "the job's number",
        "status": "status",
        "priority": "priority",
        "summary": "summary",
        "customer_id": "customer",
        "location_id": "location",
        "project_id": "project",
        "business_unit_id": "business unit",
        "job_type_id": "job type",
        "campaign_id": "campaign",
        "invoice_id": "invoice",
        "booking_id": "booking",
        "lead_call_id": "call that led to it",
        "sold_by_id": "who sold it, by id",
        "recall_for_id": "the job that it is a recall for",
        "warranty_id": "the job whose warranty it falls under",
        "appointment_count": "number of appointments",
        "first_appointment_id": "first appointment",
        "last_appointment_id": "last appointment",
        "no_charge": "free of charge",
        "total": "total",
        "created_by_id": "who created it, by id",
        "created_on": "creation",
        "modified_on": "last modification",
        "completed_on": "completion",
        "full_data": "the record as ServiceTitan sent it",
    }
    refers_to: ClassVar[Mapping[str, str]] = {
        "customer_id": "st_customers",
        "invoice_id": "st_invoices",
        "recall_for_id": "st_jobs",
        "warranty_id": "st_jobs",
    }

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
    comment: ClassVar[str] = "Invoices; their items are in full_data."
    comments: ClassVar[Mapping[str, str]] = {
        "st_id": "ServiceTitan's id",
        "active": "whether it is active",
        "reference_number": "reference number",
        "invoice_type": "type of invoice",
        "sync_status": "status of its synchronization",
        "review_status": "status of its review",
        "summary": "summary",
        "customer_id": "customer",
        "customer_name": "the customer's name",
        "location_id": "location",
        "business_unit_id": "business unit",
        "business_unit_name": "its name",
        "job_id": "job",
        "job_number": "the job's number",
        "job_type": "type of the job",
        "project_id": "project",
        "batch_id": "ServiceTitan's batch",
        "adjustment_to_id": "the invoice that it adjusts",
        "term_name": "payment term",
        "sub_total": "total before tax",
        "sales_tax": "sales tax",
        "tax_rate": "tax rate",
        "discount_total": "discounts",
        "total": "total",
        "balance": "balance",
        "invoice_date": "date",
        "due_date": "due date",
        "paid_on": "payment",
        "created_by": "who created it",
        "created_on": "creation",
        "modified_on": "last modification",
        "full_data": "the record as ServiceTitan sent it",
    }
    refers_to: ClassVar[Mapping[str, str]] = {
        "customer_id": "st_customers",
        "job_id": "st_jobs",
        "adjustment_to_id": "st_invoices",
    }

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
    comment: ClassVar[str] = "Estimates; their items are in full_data."
    comments: ClassVar[Mapping[str, str]] = {
        "st_id": "ServiceTitan's id",
        "active": "whether it is active",
        "name": "name",
        "status": "status",
        "review_status": "status of its review",
        "summary": "summary",
        "job_id": "job",
        "job_number": "the job's number",
        "project_id": "project",
        "customer_id": "customer",
        "location_id": "location",
        "business_unit_id": "business unit",
        "business_unit_name": "its name",
        "subtotal": "total before tax",
        "tax": "tax",
        "sold_by_id": "who sold it, by id",
        "sold_on": "when it was sold",
        "created_on": "creation",
        "modified_on": "last modification",
        "full_data": "the record as ServiceTitan sent it",
    }
    refers_to: ClassVar[Mapping[str, str]] = {
        "job_id": "st_jobs",
        "customer_id": "st_customers",
    }

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
