"""Full loads of the fake Jira that tests disturb, and what must be stored all the same."""

import asyncio
import json
from collections.abc import Callable, Mapping

from temporaletl.messages import BatchSummary
from tests.acceptance.platform import Platform
from tests.fakes.jira import Site, expected_counts
from tests.waiting import until

_DATA = (
    "source_kind_id, event_id, parent_item_id, event_type, relation_type, person, employee_id, "
    "event_time_utc, week, timezone, event_time, event_properties, relation_properties, metrics, "
    "version, specific_version, row_hash"
)
_INTERRUPTIONS = 3


def load_undisturbed(platform: Platform, site: Site) -> int:
    """Load the site undisturbed, and copy the rows for `assert_same_rows`; return their number."""
    summary = platform.load("jira", "--mode", "full")
    assert summary.state == "completed"
    platform.execute(
        f"DROP TABLE IF EXISTS expected; CREATE TABLE expected AS SELECT {_DATA} FROM events"
    )
    [(count,)] = platform.rows("SELECT count(*) FROM expected")
    assert count == summary.rows.inserted == expected_counts(site).events
    return int(count)


def disturbed(
    platform: Platform,
    disturb: Callable[[], None],
    *,
    times: int = _INTERRUPTIONS,
    environment: Mapping[str, str] | None = None,
) -> BatchSummary:
    """Load the site, and disturb the run whenever it has loaded more.

    The command runs in the services' environment unless another is given.
    """
    load = ("run", "jira", "--mode", "full", "--wait", "--json")
    with platform.etl_running(*load, environment=environment) as command:
        for _ in range(times):
            loaded = inserted(platform)
            wait_until_more(platform, loaded)
            assert command.poll() is None, "the run was over before it could be disturbed"
            disturb()
        answer, errors = command.communicate(timeout=120)
    assert command.returncode == 0, errors
    return BatchSummary.model_validate(json.loads(answer))


_INSERTED = "SELECT count(*) FROM events"


def inserted(platform: Platform, counted: str = _INSERTED) -> int:
    [(count,)] = platform.rows(counted)
    return int(count)


def wait_until_more(platform: Platform, than: int, *, counted: str = _INSERTED) -> None:
    asyncio.run(until(lambda: inserted(platform, counted) > than))


def assert_same_rows(platform: Platform, summary: BatchSummary, expected: int) -> None:
    assert summary.state == "completed"
    assert summary.rows.inserted == expected
    assert inserted(platform) == expected
    for first, second in (("events", "expected"), ("expected", "events")):
        [(different,)] = platform.rows(
            f"SELECT count(*) FROM (SELECT {_DATA} FROM {first} "
            f"EXCEPT ALL SELECT {_DATA} FROM {second}) AS difference"
        )
        assert different == 0
