"""Reading the fake org through the source's own registered functions, as the platform does."""

import contextlib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from temporaletl import (
    ETLInput,
)
from temporaletl.external import http
from temporaletl.external.salesforce import refusals
from temporaletl.external.salesforce.org import close_orgs
from temporaletl.messages import Mode
from temporaletl.queuer.sources.salesforce.inputs import expand_backlog
from temporaletl.queuer.sources.salesforce.params import describe_backlog
from temporaletl.worker.sources.salesforce import employees, extract, transform
from tests.fakes.faults import TRANSPORT, Faults
from tests.fakes.salesforce import Org, expected_counts, serve
from tests.fakes.salesforce.service import OWN_FAULTS
from tests.fakes.server import FakeServer
from tests.integration.job_reading import Read, plan_of

#: Importing them registers the strategies.
REGISTERED = (employees, transform)

Serve = Callable[..., FakeServer]
STREAMS = ("cases", "opportunities", "tasks", "events")


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Serve]:
    """Serve an org, and set the environment so that the source reads it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(http, "_FIRST_PAUSE_SECONDS", 0.001)
    monkeypatch.setattr(refusals, "_CONCURRENCY_PAUSE", timedelta(0))
    monkeypatch.setattr(refusals, "DAILY_LIMIT_PAUSE", timedelta(0))
    monkeypatch.setattr(extract, "_FIRST_POLL_SECONDS", 0.001)
    with contextlib.ExitStack() as stack:

        def start(org: Org, *faults: str, seed: int = 7, **settings: str) -> FakeServer:
            known = {**TRANSPORT, **OWN_FAULTS}
            injected = Faults(faults, known=known, seed=seed, retry_after=timedelta(0))
            server = stack.enter_context(serve(org, faults=injected))
            variables = {
                "SF_INSTANCE_URL": server.url,
                "SF_CONSUMER_KEY": "app",
                "SF_CONSUMER_SECRET": "secret",
                "SF_READ_TIMEOUT_SECONDS": "0.5",
                # Small, so that few rows already need every kind of paging.
                "SF_PAGE_SIZE": "20",
            }
            for name, value in (variables | settings).items():
                monkeypatch.setenv(name, value)
            return server

        yield start
        close_orgs()


def jobs_of(mode: Mode = "full", **more: Any) -> list[ETLInput]:
    plan = plan_of("salesforce", more.pop("streams", STREAMS), mode, **more)
    return list(expand_backlog(plan, describe_backlog(plan)))


def holds(found: Read, org: Org) -> bool:
    """Whether exactly the events there are were found."""
    counted = expected_counts(org)
    events = counted.pop("events")
    counted.pop("employees", None)
    return len(found.events) == events and dict(found.types) == counted
