"""The bodies of generated records, derived from their index in a series."""

from decimal import Decimal
from typing import Any

import xxhash

from tests.fakes.servicetitan.timestamps import SECOND, text

Json = dict[str, Any]

_NAMES = ("Ada", "Bjørn", "Chloé", "Dmitri", "Eun-ji", "Fatima", "Giulia", "Håkon")
_FAMILIES = ("Smith", "Núñez", "O'Brien", "Müller", "Kowalski", "Tanaka", "García", "Ivanov")
_STREETS = ("Main St", "Oak Ave", "2nd St", "Mill Rd", "Hill Ln")
_CITIES = (("Phoenix", "AZ", "85001"), ("Austin", "TX", "73301"), ("Reno", "NV", "89501"))
_UNITS = ("HVAC", "Plumbing", "Electrical")
_STATUSES = ("Scheduled", "InProgress", "Hold", "Completed", "Canceled")
_DAY = 86_400 * SECOND


class Draw:
    """Pseudo-random numbers that depend on a seed and an index only."""

    def __init__(self, *index: object) -> None:
        self._bits = xxhash.xxh3_128_intdigest("|".join(map(str, index)).encode())

    def below(self, limit: int) -> int:
        self._bits, drawn = divmod(self._bits, limit)
        return drawn


def customer(draw: Draw, number: int, created: int) -> Json:
    city, state, zip_ = _CITIES[draw.below(3)]
    return {
        "name": f"{_NAMES[draw.below(8)]} {_FAMILIES[draw.below(8)]} {number}",
        "type": ("Residential", "Commercial")[draw.below(2)],
        "address": {
            "street": f"{1 + draw.below(9000)} {_STREETS[draw.below(5)]}",
            "unit": f"#{draw.below(40)}" if draw.below(3) == 0 else None,
            "city": city,
            "state": state,
            "zip": zip_,
            "country": "USA",
            "latitude": 33 + draw.below(1000) / 1000,
            "longitude": -112 - draw.below(1000) / 1000,
        },
        "customFields": [{"typeId": 7, "name": "Source", "value": "Web"}],
        "balance": _money(draw.below(200_000) - 20_000),
        "taxExempt": draw.below(20) == 0,
        "doNotMail": draw.below(9) == 0,
        "doNotService": False,
        "createdById": 100 + draw.below(20),
        "mergedToId": None,
        "creditLimit": None if draw.below(2) else _money(500_000),
        "externalData": [],
        "createdOn": text(created),
    }


def job(draw: Draw, number: int, created: int) -> Json:
    status = _STATUSES[draw.below(5)]
    done = created + draw.below(20) * _DAY
    return {
        "jobNumber": str(20_000 + number),
        "projectId": None,
        "customerId": 1_000 + draw.below(1 + number),
        "locationId": 5_000 + draw.below(1 + number),
        "jobStatus": status,
        "completedOn": text(done) if status == "Completed" else None,
        "businessUnitId": 1 + draw.below(3),
        "jobTypeId": 30 + draw.below(6),
        "priority": ("Normal", "High", "Urgent")[draw.below(3)],
        "campaignId": 60 + draw.below(4),
        "summary": f"<p>No heat on floor {draw.below(9)}</p>",
        "customFields": [],
        "appointmentCount": 1 + draw.below(3),
        "firstAppointmentId": 700_000 + number,
        "lastAppointmentId": 700_000 + number,
        "recallForId": None,
        "warrantyId": None,
        "jobGeneratedLeadSource": None,
        "noCharge": draw.below(30) == 0,
        "notificationsEnabled": True,
        "createdById": 100 + draw.below(20),
        "tagTypeIds": [draw.below(9), 10 + draw.below(9)],
        "leadCallId": None,
        "bookingId": None,
        "soldById": 300 + draw.below(5) if draw.below(2) else None,
        "invoiceId": 900_000 + number,
        "total": _money(draw.below(900_000)),
        "externalData": [],
        "createdOn": text(created),
    }


def invoice(draw: Draw, number: int, created: int) -> Json:
    unit = draw.below(3)
    items = [_invoice_item(draw, number * 10 + n, created) for n in range(draw.below(4))]
    total = draw.below(900_000)
    day = created // _DAY * _DAY
    return {
        "syncStatus": ("Pending", "Posted", "Exported")[draw.below(3)],
        "summary": None,
        "referenceNumber": f"INV-{number}",
        "invoiceDate": text(day),
        "dueDate": text(day + 30 * _DAY),
        # Amounts of invoices are texts, with four digits.
        "subTotal": f"{_money(total)}00",
        "salesTax": "0.0000",
        "salesTaxCode": {"id": 3, "name": "AZ", "taxRate": Decimal("0.0860")},
        "total": f"{_money(total)}00",
        "balance": "0.00",
        "invoiceType": None,
        "customer": {"id": 1_000 + draw.below(1 + number), "name": f"Customer {number}"},
        "customerAddress": {"street": "1 Main St", "city": "Reno", "state": "NV", "zip": "89501"},
        "location": {"id": 5_000 + number, "name": "Home"},
        "locationAddress": None,
        "businessUnit": {"id": 1 + unit, "name": _UNITS[unit]},
        "termName": "Due on receipt",
        "createdBy": "admin",
        "batch": {"id": 40, "number": "40", "name": "May"} if draw.below(2) else None,
        "adjustmentToId": None,
        "job": {"id": 20_000 + number, "number": str(20_000 + number), "type": "Service"},
        "projectId": None,
        "royalty": {"status": "Pending", "date": None, "sentOn": None, "memo": None},
        "employeeInfo": None,
        "items": items,
        "customFields": None,
        "paidOn": None,
        "reviewStatus": "NeedsReview",
        "createdOn": text(created),
    }


def estimate(draw: Draw, number: int, created: int) -> Json:
    sold = draw.below(2) == 0
    total = draw.below(900_000)
    unit = draw.below(3)
    return {
        "jobId": 20_000 + number,
        "projectId": None,
        "locationId": 5_000 + number,
        "customerId": 1_000 + draw.below(1 + number),
        "name": f"Option {draw.below(4)}",
        "jobNumber": str(20_000 + number),
        "status": {"value": 1, "name": "Sold"} if sold else {"value": 0, "name": "Open"},
        "reviewStatus": "None",
        "summary": "Replace unit",
        "soldOn": text(created + _DAY) if sold else None,
        "soldBy": 300 + draw.below(5) if sold else None,
        "items": [_estimate_item(draw, number * 10 + n, created) for n in range(draw.below(3))],
        "externalLinks": [],
        "subtotal": _money(total),
        "tax": _money(total // 12),
        "businessUnitId": 1 + unit,
        "businessUnitName": _UNITS[unit],
        "createdOn": text(created),
    }


def _invoice_item(draw: Draw, id_: int, created: int) -> Json:
    return {
        "id": id_,
        "description": "Labour",
        "quantity": "1.0000",
        "cost": "10.5000",
        "totalCost": "10.5000",
        "price": "99.9900",
        "type": ("Service", "Material", "Equipment", "PriceModifier")[draw.below(4)],
        "skuName": f"SKU{draw.below(50)}",
        "skuId": 50 + draw.below(50),
        "total": "99.9900",
        "inventory": False,
        "taxable": True,
        "membershipTypeId": 0,
        "modifiedOn": text(created),
        "order": 1,
    }


def _estimate_item(draw: Draw, id_: int, created: int) -> Json:
    return {
        "id": id_,
        "sku": {"id": 50 + draw.below(50), "name": "SKU", "displayName": "Unit", "type": "Service"},
        "skuAccount": "4000",
        "description": "Unit",
        "qty": Decimal("1.0000"),
        "unitRate": Decimal("99.99"),
        "total": Decimal("99.99"),
        "itemGroupName": "",
        "modifiedOn": text(created),
    }


def _money(cents: int) -> Decimal:
    return Decimal(cents).scaleb(-2)


MAKERS = {"customers": customer, "jobs": job, "invoices": invoice, "estimates": estimate}
STREAMS = tuple(MAKERS)
