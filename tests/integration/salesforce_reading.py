"""Reading the fake org through the source's own registered functions, as the platform does."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from temporaletl import ETLInput, RetryableError
from temporaletl.external.salesforce import refusals
from temporaletl.external.salesforce.org import close_orgs
from temporaletl.messages import Mode
from temporaletl.queuer.sources.salesforce.inputs import expand_backlog
from temporaletl.queuer.sources.salesforce.params import describe_backlog
from temporaletl.worker.sources.salesforce import employees, extract, transform
from tests.fakes.salesforce import Org, expected_counts, serve
from tests.fakes.salesforce.service import OWN_FAULTS
from tests.integration.job_reading import NO_TIMEOUT, Read, Serve, plan_of, serving

#: Importing them registers the strategies.
REGISTERED = (employees, transform)

_PLANNINGS = 8
STREAMS = ("cases", "opportunities", "tasks", "events")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Serve]:
    """Serve an org, and set the environment so that the source reads it."""
    monkeypatch.setattr(refusals, "_CONCURRENCY_PAUSE", timedelta(0))
    monkeypatch.setattr(refusals, "DAILY_LIMIT_PAUSE", timedelta(0))
    monkeypatch.setattr(extract, "_FIRST_POLL_SECONDS", 0.001)

    def variables(_org: Org, url: str) -> dict[str, str]:
        return {
            "SF_INSTANCE_URL": url,
            "SF_CONSUMER_KEY": "app",
            "SF_CONSUMER_SECRET": "secret",
            "SF_READ_TIMEOUT_SECONDS": NO_TIMEOUT,
            # Small, so that few rows already need every kind of paging.
            "SF_PAGE_SIZE": "20",
        }

    with serving(monkeypatch, tmp_path, serve, OWN_FAULTS, variables) as start:
        yield start
        close_orgs()


def jobs_of(mode: Mode = "full", **more: Any) -> list[ETLInput]:
    """Plan the jobs of a run; as the platform does, once more after what passes."""
    plan = plan_of("salesforce", more.pop("streams", STREAMS), mode, **more)
    with ThreadPoolExecutor(1) as threads:  # also where an event loop runs
        for left in reversed(range(_PLANNINGS)):
            try:
                backlog = threads.submit(asyncio.run, describe_backlog(plan)).result()
            except RetryableError as error:
                if not left or getattr(error, "delay", None):
                    raise
            else:
                return list(expand_backlog(plan, backlog))
    raise AssertionError


def holds(found: Read, org: Org) -> bool:
    """Whether exactly the events there are were found."""
    counted = expected_counts(org)
    events = counted.pop("events")
    counted.pop("employees", None)
    return len(found.events) == events and dict(found.types) == counted
