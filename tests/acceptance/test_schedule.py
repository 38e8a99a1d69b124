"""`python schedule.py`, run as the documentation shows it, against a real Temporal server.

No service runs here: a schedule that becomes due by chance starts nothing.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio
from temporalio.client import (
    Client,
    ScheduleActionStartWorkflow,
    ScheduleDescription,
    ScheduleOverlapPolicy,
)
from temporalio.service import RPCError, RPCStatusCode

from temporaletl.embedded.processes import Stop, Watchdog
from temporaletl.embedded.temporal_server import EmbeddedTemporal
from temporaletl.temporal.connect import open_client
from tests.etl_process import run_etl
from tests.far_times import FAR_DAYS, FAR_DAYS_NAME
from tests.integration.temporal_server import require_temporal

_QUEUER = Path(__file__).parents[2] / "queuer"
_ID = "etl-schedule-jira"
_UPCOMING = 8


@dataclass(frozen=True)
class Commands:
    """Runs commands in an environment that holds Temporal's address only."""

    client: Client
    environment: dict[str, str]

    def schedule(self, *words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        return self._run(["python", "schedule.py", *words], _QUEUER, settings)

    def etl(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return run_etl(*words, environment=self.environment, folder=Path(self.environment["HOME"]))

    def done(self, *words: str) -> str:
        """Create or change the schedule successfully; return the output."""
        ended = self.schedule(*words)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout

    def listed(self) -> list[dict[str, Any]]:
        ended = self.etl("schedules", "--json")
        assert (ended.returncode, ended.stderr) == (0, "")
        found: list[dict[str, Any]] = json.loads(ended.stdout)
        return found

    async def described(self) -> ScheduleDescription:
        return await self.client.get_schedule_handle(_ID).describe()

    async def exists(self) -> bool:
        try:
            await self.described()
        except RPCError as error:
            if error.status == RPCStatusCode.NOT_FOUND:
                return False
            raise
        return True

    def _run(
        self, command: list[str], folder: Path, settings: dict[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            command,
            env=self.environment | settings,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )


@pytest.fixture(scope="module")
def temporal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedTemporal]:
    require_temporal()
    folder = tmp_path_factory.mktemp("temporal")
    with contextlib.ExitStack() as exits:
        lock = exits.enter_context((folder / "lock").open("w"))
        watchdog = Watchdog(lock)
        exits.callback(watchdog.close)
        stop = Stop()
        exits.callback(stop.close)
        server = EmbeddedTemporal(
            folder / "temporal.db", logs=folder, watchdog=watchdog, namespace="default"
        )
        exits.callback(server.end)
        server.start(lambda _line: None)
        server.wait(stop)
        yield server


@pytest_asyncio.fixture
async def commands(temporal: EmbeddedTemporal, tmp_path: Path) -> AsyncGenerator[Commands]:
    """A server without schedules, before and afterwards."""
    client = await open_client(temporal.endpoint)
    programs = Path(sys.executable).parent
    environment = {
        "PATH": os.pathsep.join([str(programs), os.environ.get("PATH", "")]),
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "PYTHONWARNINGS": "error",
        "ETL_DATA_DIR": str(tmp_path / "none"),
        "TEMPORAL_ADDRESS": temporal.endpoint.address,
    }
    commands = Commands(client, environment)
    yield commands
    if await commands.exists():
        await client.get_schedule_handle(_ID).delete()


def upcoming(found: ScheduleDescription) -> list[datetime]:
    times = list(found.info.next_action_times)[:_UPCOMING]
    assert len(times) == _UPCOMING
    return times


async def test_mondays_at_three(commands: Commands) -> None:
    assert commands.done("jira", "1", "3") == f"created {_ID}: incremental, Mon at 03:00 UTC\n"
    found = await commands.described()
    assert {(t.astimezone(UTC).strftime("%A %H:%M:%S")) for t in upcoming(found)} == {
        "Monday 03:00:00"
    }
    assert {b - a for a, b in pairwise(upcoming(found))} == {timedelta(weeks=1)}
    action = found.schedule.action
    assert isinstance(action, ScheduleActionStartWorkflow)
    assert (action.workflow, action.id) == ("QueuerFlow", "etl-jira")
    assert action.task_queue == "etl-queuer-queue"
    [argument] = await commands.client.data_converter.decode([action.args[0]])
    assert (argument["source"], argument["mode"]) == ("jira", "incremental")
    assert found.schedule.policy.overlap == ScheduleOverlapPolicy.SKIP
    assert found.schedule.policy.catchup_window == timedelta(hours=1)
    assert not found.schedule.state.paused


async def test_run_again_it_updates_the_schedule(commands: Commands) -> None:
    commands.done("jira", "1", "3")
    changed = commands.done("jira", "1-5", "4")
    assert changed == f"updated {_ID}: incremental, Mon-Fri at 04:00 UTC\n"
    times = upcoming(await commands.described())
    assert {t.astimezone(UTC).strftime("%H:%M:%S") for t in times} == {"04:00:00"}
    assert {t.astimezone(UTC).isoweekday() for t in times} == {1, 2, 3, 4, 5}
    assert len(commands.listed()) == 1


async def test_a_paused_schedule_stays_paused(commands: Commands) -> None:
    commands.done("jira", "1", "3")
    await commands.client.get_schedule_handle(_ID).pause(note="the source moves house")
    printed = commands.done("jira", "1-5", "4")
    assert printed.endswith("UTC; still paused until `etl schedule-resume jira`\n")
    found = await commands.described()
    assert found.schedule.state.paused
    assert found.schedule.state.note == "the source moves house"
    assert {t.astimezone(UTC).hour for t in upcoming(found)} == {4}


@pytest.mark.parametrize(
    ("words", "days", "hours"),
    [
        (("1,3", "2,14"), {1, 3}, {2, 14}),
        (("*", "5"), {1, 2, 3, 4, 5, 6, 7}, {5}),
        (("7", "*"), {7}, set(range(_UPCOMING))),
        (("0", "6"), {7}, {6}),
        ((), {1, 2, 3, 4, 5, 6, 7}, {0}),
    ],
    ids=["lists", "every day", "every hour", "sunday as 0", "nothing said"],
)
async def test_days_and_hours(
    commands: Commands, words: tuple[str, ...], days: set[int], hours: set[int]
) -> None:
    commands.done("jira", *words)
    found = await commands.described()
    times = [t.astimezone(UTC) for t in upcoming(found)]
    assert {t.isoweekday() for t in times} == days
    assert {(t.minute, t.second) for t in times} == {(0, 0)}
    if words[1:] == ("*",):
        assert {b - a for a, b in pairwise(times)} <= {
            timedelta(hours=1),
            timedelta(days=6, hours=1),
        }
    else:
        assert {t.hour for t in times} == hours


async def test_overlap_catch_up_time_zone_and_mode(commands: Commands) -> None:
    commands.done(
        *("jira", "*", "3", "--timezone", "America/New_York", "--overlap", "buffer-one"),
        *("--catchup-window-minutes", "30", "--mode", "full"),
    )
    found = await commands.described()
    here = ZoneInfo("America/New_York")
    assert {t.astimezone(here).strftime("%H:%M") for t in upcoming(found)} == {"03:00"}
    assert found.schedule.policy.overlap == ScheduleOverlapPolicy.BUFFER_ONE
    assert found.schedule.policy.catchup_window == timedelta(minutes=30)
    [listed] = commands.listed()
    assert (listed["mode"], listed["timezone"]) == ("full", "America/New_York")
    assert (listed["overlap"], listed["catchup_window_minutes"]) == ("buffer-one", 30)


@pytest.mark.parametrize(
    ("words", "settings", "message"),
    [
        (("jira", "8", "3"), {}, "day of week '8'"),
        (("jira", "1", "3"), {"TEMPORAL_NAMESPACE": "elsewhere"}, "namespace 'elsewhere'"),
    ],
)
async def test_what_a_person_must_correct_is_one_line(
    commands: Commands, words: tuple[str, ...], settings: dict[str, str], message: str
) -> None:
    await assert_one_line(commands, commands.schedule(*words, **settings), 2, message)


async def test_a_temporal_that_does_not_answer_is_one_line(commands: Commands) -> None:
    ended = commands.schedule("jira", "1", "3", TEMPORAL_ADDRESS="127.0.0.1:1")
    await assert_one_line(commands, ended, 1, "127.0.0.1:1")


async def assert_one_line(
    commands: Commands, ended: "subprocess.CompletedProcess[str]", status: int, message: str
) -> None:
    assert (ended.returncode, ended.stdout) == (status, "")
    assert ended.stderr.startswith("schedule.py: ")
    assert message in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.endswith("\n")
    assert not await commands.exists()


async def test_schedules_are_listed_paused_resumed_and_deleted(commands: Commands) -> None:
    commands.done("jira", FAR_DAYS, "4")
    shown = commands.etl("schedules")
    assert shown.returncode == 0
    assert FAR_DAYS_NAME in shown.stdout
    [listed] = commands.listed()
    assert (listed["source"], listed["days"], listed["hours"]) == (
        "jira",
        FAR_DAYS_NAME,
        "4",
    )
    [first, *_] = upcoming(await commands.described())
    assert datetime.fromisoformat(listed["next_run"]) == first

    assert commands.etl("schedule-pause", "jira").returncode == 0
    assert (await commands.described()).schedule.state.paused
    [listed] = commands.listed()
    assert (listed["paused"], listed["next_run"]) == (True, None)

    resumed = commands.etl("schedule-resume", "jira")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert f"{first:%Y-%m-%d %H:%M}" in resumed.stdout
    assert not (await commands.described()).schedule.state.paused

    assert commands.etl("schedule-delete", "jira").returncode == 0
    assert not await commands.exists()
    assert commands.listed() == []
    again = commands.etl("schedule-delete", "jira")
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.count("\n") == 1
    assert "has no schedule" in again.stderr
