"""A run of source `jira` that a test signals, and the events that it loads and should load."""

import json
import logging
from collections import Counter
from dataclasses import dataclass
from time import monotonic
from typing import Any

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client

from temporaletl.messages import BatchSummary
from tests.acceptance.platform import Platform
from tests.fakes.jira import Site, expected_counts
from tests.fakes.jira.expected_counts import edited
from tests.fakes.jira.timestamps import parse
from tests.waiting import until

log = logging.getLogger(__name__)

#: The time within which pause and cancel take effect, as the documentation promises.
PROMISED_SECONDS = 20
#: A run that loads no row for so long is paused.
_SILENCE_SECONDS = 3
_RUNNING_JOBS = "WorkflowType = 'ETLFlow' AND ExecutionStatus = 'Running'"


def count_events(platform: Platform) -> int:
    [(present,)] = platform.rows("SELECT to_regclass('events') IS NOT NULL")
    if not present:
        return 0
    [(count,)] = platform.rows("SELECT count(*)::int FROM events")
    return int(count)


def stored_kinds(platform: Platform) -> Counter[str]:
    return Counter(
        dict(
            platform.rows(
                "SELECT CASE WHEN event_type LIKE '%_changed' THEN 'changed' ELSE event_type END, "
                "count(*)::int FROM events GROUP BY 1"
            )
        )
    )


def expected_kinds(site: Site) -> Counter[str]:
    found = expected_counts(site)
    return +Counter(
        {
            "issue_created": found.issues_created,
            "changed": found.changelog_items,
            "comment_created": found.comments_created,
            "comment_updated": found.comments_edited,
            "worklog_created": found.worklogs_created,
            "worklog_updated": found.worklogs_edited,
        }
    )


def events_by_id(platform: Platform) -> dict[str, tuple[Any, ...]]:
    found = platform.rows("SELECT event_id, event_type, parent_item_id, event_time_utc FROM events")
    return {event_id: tuple(rest) for event_id, *rest in found}


def timestamps(site: Site) -> list[tuple[int, str]]:
    """Timestamps in ms and kinds of all events that a site holds, in order."""
    found: list[tuple[int, str]] = []
    for row in site.rows:
        issue = site.issue(row)
        found.append((parse(issue.fields["created"]), "issue_created"))
        for history in issue.histories:
            found += [(parse(history["created"]), "changed")] * len(history["items"])
        for name, entries in (("comment", issue.comments), ("worklog", issue.worklogs)):
            found += [(parse(each["created"]), f"{name}_created") for each in entries]
            found += [
                (parse(each["updated"]), f"{name}_updated") for each in filter(edited, entries)
            ]
    return sorted(found)


@dataclass(frozen=True)
class Run:
    platform: Platform
    client: Client
    workflow_id: str

    @classmethod
    async def begin(cls, platform: Platform, client: Client) -> "Run":
        """Start a full load by command; return when it has loaded something."""
        begun = platform.etl("run", "jira", "--mode", "full", "--json")
        assert begun.returncode == 0, begun.stderr
        run = cls(platform, client, json.loads(begun.stdout)["workflow_id"])
        await until(lambda: count_events(platform) > 0)
        return run

    def signal(self, command: str) -> None:
        ended = self.platform.etl(command, self.workflow_id)
        assert (ended.returncode, ended.stderr) == (0, "")
        assert self.workflow_id in ended.stdout

    def state(self) -> str:
        shown = self.platform.etl("status", self.workflow_id, "--json")
        return str(json.loads(shown.stdout)["run"]["state"])

    async def is_at_rest(self) -> bool:
        """Whether all jobs are paused: no activity or workflow task is pending or about to be."""
        jobs = [job async for job in self.client.list_workflows(_RUNNING_JOBS)]
        for job in jobs:
            handle = self.client.get_workflow_handle(job.id)
            described = (await handle.describe()).raw_description
            if described.pending_activities or described.HasField("pending_workflow_task"):
                return False
            if (await handle.query("status"))["state"] != "paused":
                return False
        return bool(jobs)

    async def waits_in_timer(self) -> bool:
        """Whether the only running job waits in a Temporal timer, and holds no worker."""
        [job] = [job async for job in self.client.list_workflows(_RUNNING_JOBS)]
        handle = self.client.get_workflow_handle(job.id)
        described = (await handle.describe()).raw_description
        if described.pending_activities or described.HasField("pending_workflow_task"):
            return False
        timers = Counter([event.event_type async for event in handle.fetch_history_events()])
        ended = (
            timers[EventType.EVENT_TYPE_TIMER_FIRED] + timers[EventType.EVENT_TYPE_TIMER_CANCELED]
        )
        return timers[EventType.EVENT_TYPE_TIMER_STARTED] > ended

    async def pause(self) -> None:
        """Pause the run; check that it is at rest in time, and stays so."""
        began = monotonic()
        self.signal("pause")
        await until(self.is_at_rest, within_seconds=PROMISED_SECONDS)
        log.info("the run rested %.1f s after the pause", monotonic() - began)
        rows = count_events(self.platform)
        with pytest.raises(TimeoutError):
            await until(
                lambda: count_events(self.platform) != rows, within_seconds=_SILENCE_SECONDS
            )
        assert await self.is_at_rest()
        assert self.state() == "paused"

    async def summary(self) -> BatchSummary:
        handle = self.client.get_workflow_handle(self.workflow_id, result_type=BatchSummary)
        summary: BatchSummary = await handle.result()
        return summary
