"""The expected counts of a tenant: the records that a complete load holds."""

from dataclasses import dataclass, field
from decimal import Decimal

from tests.fakes.servicetitan.tenant import Tenant


@dataclass
class ExpectedCounts:
    """The number of records of each kind: all, and those that are inactive."""

    records: dict[str, int] = field(default_factory=dict)
    inactive: dict[str, int] = field(default_factory=dict)
    #: Sum of all invoices' totals.
    invoiced: Decimal = Decimal(0)

    def as_dict(self) -> dict[str, object]:
        """Return all numbers by name, as JSON can hold them."""
        return {
            "records": self.records,
            "inactive": self.inactive,
            "invoiced": str(self.invoiced),
            "rows": sum(self.records.values()),
        }


def expected_counts(tenant: Tenant) -> ExpectedCounts:
    """Count a tenant's records. Looks at every invoice."""
    counts = ExpectedCounts()
    with tenant.lock:
        for stream, collection in tenant.collections.items():
            rows = collection.rows.values()
            counts.records[stream] = len(rows)
            counts.inactive[stream] = sum(row.deleted or not row.active for row in rows)
        invoices = tenant.collections["invoices"]
        for row in invoices.rows.values():
            counts.invoiced += Decimal(str(invoices.record(row).get("total") or 0))
    return counts
