"""A ServiceTitan with one tenant, its lists and export feeds, its limits and its faults."""

from tests.fakes.servicetitan.expected_counts import ExpectedCounts, expected_counts
from tests.fakes.servicetitan.generate import generate
from tests.fakes.servicetitan.load import load
from tests.fakes.servicetitan.service import ServiceTitanService, serve
from tests.fakes.servicetitan.tenant import Tenant

__all__ = [
    "ExpectedCounts",
    "ServiceTitanService",
    "Tenant",
    "expected_counts",
    "generate",
    "load",
    "serve",
]
