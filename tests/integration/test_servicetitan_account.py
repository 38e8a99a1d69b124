"""As which app ServiceTitan knows us, and what of the tenant that app may read."""

from typing import Any

import pytest

from temporaletl import CredentialsError
from temporaletl.external.servicetitan.account import servicetitan_account
from tests.fakes.servicetitan import generate
from tests.integration.job_reading import Serve, hold_until_in_flight
from tests.integration.servicetitan_reading import STREAMS, served

__all__ = ["served"]


def test_the_account_is_the_tenant_with_the_scopes_of_the_app(served: Serve) -> None:
    tenant = generate(3)
    together = hold_until_in_flight(served(tenant), len(STREAMS), passing=("token",))
    view = servicetitan_account()
    assert together.is_set()
    assert view.account == f"tenant {tenant.number}"
    assert view.containers == set(STREAMS)
    assert "tn.crm.customers:r" in view.permissions


def test_a_scope_that_is_withdrawn_is_missing_at_once(served: Serve) -> None:
    server = served(generate(3))
    before = servicetitan_account()
    service: Any = server.service
    service.scopes.remove("invoices")
    after = servicetitan_account()
    assert before.containers - after.containers == {"invoices"}
    assert before.permissions - after.permissions == {"tn.accounting.invoices:r"}


def test_an_app_that_may_read_nothing_is_refused(served: Serve) -> None:
    server = served(generate(3))
    service: Any = server.service
    service.scopes.clear()
    with pytest.raises(CredentialsError, match="read scope"):
        servicetitan_account()
