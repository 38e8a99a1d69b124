"""The transforms of records into rows of the four tables."""

from decimal import Decimal
from typing import Any

from temporaletl import RecordError, TransformContext, transform_method
from temporaletl.worker.sources.servicetitan.query import ServiceTitanQuery
from temporaletl.worker.sources.servicetitan.record import (
    Address,
    Customer,
    Estimate,
    Invoice,
    InvoicedJob,
    Job,
    Name,
    Named,
    Record,
    TaxCode,
    timestamp,
)
from temporaletl.worker.sources.servicetitan.rows import StCustomer, StEstimate, StInvoice, StJob

# Stand-ins for what is absent, so that its fields can be read without a check.
_NOWHERE = Address()
_NOBODY = Named()
_NO_JOB = InvoicedJob()
_NO_TAX = TaxCode()


@transform_method("servicetitan-customers", rows=(StCustomer,))
def customers(record: Any, _context: TransformContext[ServiceTitanQuery]) -> list[StCustomer]:
    """Transform a customer into its row.

    Takes a `Record`, or the JSON that a reject keeps; so do the other three.

    Raises:
        RecordError: it is not a customer, or a time or an amount is none; names the field.
    """
    decoded: Record[Customer] = Record.read("customers", record)
    body = decoded.body
    address = body.address or _NOWHERE
    return [
        StCustomer(
            st_id=body.id,
            active=body.active,
            name=body.name,
            type=_text(body.type),
            street=address.street,
            unit=address.unit,
            city=address.city,
            state=address.state,
            zip=address.zip,
            country=address.country,
            balance=_amount(body.balance, "balance"),
            credit_limit=_amount(body.credit_limit, "creditLimit"),
            tax_exempt=body.tax_exempt,
            do_not_mail=body.do_not_mail,
            do_not_service=body.do_not_service,
            merged_to_id=body.merged_to_id,
            created_by_id=body.created_by_id,
            created_on=timestamp(body.created_on, "createdOn"),
            modified_on=timestamp(body.modified_on, "modifiedOn"),
            full_data=decoded.raw,
        )
    ]


@transform_method("servicetitan-jobs", rows=(StJob,))
def jobs(record: Any, _context: TransformContext[ServiceTitanQuery]) -> list[StJob]:
    """Transform a job into its row.

    Raises: as `customers`.
    """
    decoded: Record[Job] = Record.read("jobs", record)
    body = decoded.body
    return [
        StJob(
            st_id=body.id,
            active=body.active,
            job_number=body.job_number,
            status=_text(body.job_status),
            priority=_text(body.priority),
            summary=body.summary,
            customer_id=body.customer_id,
            location_id=body.location_id,
            project_id=body.project_id,
            business_unit_id=body.business_unit_id,
            job_type_id=body.job_type_id,
            campaign_id=body.campaign_id,
            invoice_id=body.invoice_id,
            booking_id=body.booking_id,
            lead_call_id=body.lead_call_id,
            sold_by_id=body.sold_by_id,
            recall_for_id=body.recall_for_id,
            warranty_id=body.warranty_id,
            appointment_count=body.appointment_count,
            first_appointment_id=body.first_appointment_id,
            last_appointment_id=body.last_appointment_id,
            no_charge=body.no_charge,
            total=_amount(body.total, "total"),
            created_by_id=body.created_by_id,
            created_on=timestamp(body.created_on, "createdOn"),
            modified_on=timestamp(body.modified_on, "modifiedOn"),
            completed_on=timestamp(body.completed_on, "completedOn"),
            full_data=decoded.raw,
        )
    ]


@transform_method("servicetitan-invoices", rows=(StInvoice,))
def invoices(record: Any, _context: TransformContext[ServiceTitanQuery]) -> list[StInvoice]:
    """Transform an invoice into its row; the API writes its amounts as texts.

    Raises: as `customers`.
    """
    decoded: Record[Invoice] = Record.read("invoices", record)
    body = decoded.body
    customer = body.customer or _NOBODY
    business_unit = body.business_unit or _NOBODY
    job = body.job or _NO_JOB
    return [
        StInvoice(
            st_id=body.id,
            active=body.active,
            reference_number=body.reference_number,
            invoice_type=_text(body.invoice_type),
            sync_status=body.sync_status,
            review_status=_text(body.review_status),
            summary=body.summary,
            customer_id=customer.id,
            customer_name=customer.name,
            location_id=(body.location or _NOBODY).id,
            business_unit_id=business_unit.id,
            business_unit_name=business_unit.name,
            job_id=job.id,
            job_number=job.number,
            job_type=job.type,
            project_id=body.project_id,
            batch_id=(body.batch or _NOBODY).id,
            adjustment_to_id=body.adjustment_to_id,
            term_name=body.term_name,
            sub_total=_amount(body.sub_total, "subTotal"),
            sales_tax=_amount(body.sales_tax, "salesTax"),
            tax_rate=_amount((body.sales_tax_code or _NO_TAX).tax_rate, "salesTaxCode.taxRate"),
            discount_total=_amount(body.discount_total, "discountTotal"),
            total=_amount(body.total, "total"),
            balance=_amount(body.balance, "balance"),
            invoice_date=timestamp(body.invoice_date, "invoiceDate"),
            due_date=timestamp(body.due_date, "dueDate"),
            paid_on=timestamp(body.paid_on, "paidOn"),
            created_by=body.created_by,
            created_on=timestamp(body.created_on, "createdOn"),
            modified_on=timestamp(body.modified_on, "modifiedOn"),
            full_data=decoded.raw,
        )
    ]


@transform_method("servicetitan-estimates", rows=(StEstimate,))
def estimates(record: Any, _context: TransformContext[ServiceTitanQuery]) -> list[StEstimate]:
    """Transform an estimate into its row.

    Raises: as `customers`.
    """
    decoded: Record[Estimate] = Record.read("estimates", record)
    body = decoded.body
    return [
        StEstimate(
            st_id=body.id,
            active=body.active,
            name=body.name,
            status=_text(body.status),
            review_status=_text(body.review_status),
            summary=body.summary,
            job_id=body.job_id,
            job_number=body.job_number,
            project_id=body.project_id,
            customer_id=body.customer_id,
            location_id=body.location_id,
            business_unit_id=body.business_unit_id,
            business_unit_name=body.business_unit_name,
            subtotal=_amount(body.subtotal, "subtotal"),
            tax=_amount(body.tax, "tax"),
            sold_by_id=body.sold_by,
            sold_on=timestamp(body.sold_on, "soldOn"),
            created_on=timestamp(body.created_on, "createdOn"),
            modified_on=timestamp(body.modified_on, "modifiedOn"),
            full_data=decoded.raw,
        )
    ]


def _text(name: Name | None) -> str | None:
    return name.name if isinstance(name, Named) else name


def _amount(amount: Decimal | None, field: str) -> Decimal | None:
    if amount is not None and not amount.is_finite():
        raise RecordError(f"{field} is no amount: {amount}")
    return amount
