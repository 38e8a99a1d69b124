"""What the tests of source `launchpad` share: serving an archive, and reading it as a worker."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from temporaletl import (
    ETLInput,
    Event,
)
from temporaletl.external.launchpad.site import close_sites
from temporaletl.messages import Mode
from temporaletl.queuer.scans import scan_jobs
from temporaletl.queuer.sources.launchpad.inputs import expand_backlog
from temporaletl.queuer.sources.launchpad.params import describe_backlog
from temporaletl.worker.sources.launchpad import bugs, proposals, questions
from temporaletl.worker.sources.launchpad.extract import (
    bugs as extract_bugs,
    deletions as extract_deletions,
    merge_proposals as extract_merge_proposals,
    questions as extract_questions,
)
from tests.fakes.launchpad import Archive, serve
from tests.fakes.launchpad.service import OWN_FAULTS, LaunchpadService
from tests.integration.job_reading import NO_TIMEOUT, Serve, plan_of, serving

#: The modules register the strategies under test.
REGISTERED = (
    bugs,
    proposals,
    questions,
    extract_bugs,
    extract_deletions,
    extract_merge_proposals,
    extract_questions,
)
STREAMS = ("bugs", "merge_proposals", "questions")
LONG_AGO = datetime(2023, 1, 1, tzinfo=UTC)
TOKEN = {
    "LP_CONSUMER_KEY": "a-consumer",
    "LP_ACCESS_TOKEN_KEY": "a-token-key",
    "LP_ACCESS_TOKEN_SECRET": "a-token-secret",
}
ACCEPTED = ":".join(TOKEN.values())


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Serve]:
    """Serve an archive, and set the environment so that the source reads it."""

    def variables(archive: Archive, url: str) -> dict[str, str]:
        return {
            "LP_SERVICE_ROOT": url,
            "LP_MEMBERS": " ".join(archive.people),
            "LP_READ_TIMEOUT_SECONDS": NO_TIMEOUT,
            "LP_PAGE_SIZE": "20",
            # Jobs that load are what most tests look at.
            "LP_FIND_DELETED": "never",
        }

    monkeypatch.setattr(LaunchpadService, "brief", True)
    with serving(monkeypatch, tmp_path, serve, OWN_FAULTS, variables) as start:
        yield start
        close_sites()


async def jobs_of(stream: str, mode: Mode = "full", **more: Any) -> list[ETLInput]:
    plan = plan_of("launchpad", [stream], mode, **more)
    backlog = describe_backlog(plan)
    return [*expand_backlog(plan, backlog), *scan_jobs(plan, backlog)]


def events_in(rows: list[Any]) -> dict[str, Event]:
    return {event.event_id: event for event in rows if isinstance(event, Event)}
