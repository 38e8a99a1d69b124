"""A ServiceTitan with one tenant, its lists and export feeds, its limits and its faults."""

from tests.fakes.servicetitan.generate import generate
from tests.fakes.servicetitan.load import load
from tests.fakes.servicetitan.service import ServiceTitanService, serve
from tests.fakes.servicetitan.tenant import Tenant
from tests.fakes.servicetitan.truth import Truth, truth

__all__ = ["ServiceTitanService", "Tenant", "Truth", "generate", "load", "serve", "truth"]
