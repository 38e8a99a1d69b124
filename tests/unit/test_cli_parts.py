"""Values the command line reads, and how it shows things."""

import asyncio
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from temporalio.client import Schedule, ScheduleActionStartWorkflow, ScheduleSpec
from temporalio.exceptions import ActivityError, ApplicationError, CancelledError, RetryState
from temporalio.service import RPCError, RPCStatusCode

from temporaletl.control.cli.commands.arguments import read_params, read_timestamp
from temporaletl.control.cli.output import count, show_span, show_window
from temporaletl.control.cli.views import executions
from temporaletl.control.cli.views.progress import Rate, rows_line
from temporaletl.control.operations import following, progress
from temporaletl.control.operations.following import (
    LostSightError,
    Run,
    TemporalRun,
    explain,
    is_misconfiguration,
)
from temporaletl.control.operations.progress import find_local_trouble
from temporaletl.control.operations.schedule_reports import show_ranges
from temporaletl.control.operations.schedules import due_times
from temporaletl.errors import ConfigurationError, WarehouseUnavailableError
from temporaletl.messages import BatchStatus, BatchSummary, QueuerInput, RowCounts, Window
from temporaletl.queuer.scheduling import calendar, parse_ranges
from temporaletl.settings.platform import TemporalSettings
from tests.waiting import until


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2025-01-31", datetime(2025, 1, 31, tzinfo=UTC)),
        ("2025-01-31T06:30", datetime(2025, 1, 31, 6, 30, tzinfo=UTC)),
        ("2025-01-31 06:30:15", datetime(2025, 1, 31, 6, 30, 15, tzinfo=UTC)),
        ("2025-01-31T06:30Z", datetime(2025, 1, 31, 6, 30, tzinfo=UTC)),
        ("2025-01-31T06:30+02:00", datetime(2025, 1, 31, 4, 30, tzinfo=UTC)),
    ],
)
def test_a_moment_without_a_zone_is_utc(text: str, moment: datetime) -> None:
    read = read_timestamp(text, "--from")
    assert read == moment
    assert read is not None
    assert read.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text", ["", "today", "31.01.2025", "2025-02-30", "0001-01-01T00:00+14:00"]
)
def test_a_bad_moment_is_named_with_its_option(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--to .* is no ISO date") as told:
        read_timestamp(text, "--to")
    assert repr(text) in str(told.value)


def test_parameters_are_json_or_texts() -> None:
    texts = ["size=3", 'jql="project = X"', "flags=[true, null]", 'deep={"a": "b=c"}']
    assert read_params([*texts, "project=ABC = x", "none=", "odd=NaN", 'digits="3"']) == {
        "project": "ABC = x",
        "none": "",
        "odd": "NaN",
        "digits": "3",
        "size": 3,
        "jql": "project = X",
        "flags": [True, None],
        "deep": {"a": "b=c"},
    }
    with pytest.raises(ConfigurationError, match=r"--param size: .* nested too deep"):
        read_params([f"size={'[' * 100_000}"])


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (42, "42 s"), (61, "1 min 1 s"), (7_260, "2 h 1 min")],
)
def test_spans_are_shown_as_people_say_them(seconds: float, shown: str) -> None:
    assert show_span(seconds) == shown


def test_counts_and_windows_are_words() -> None:
    assert [count(0, "job"), count(1, "job"), count(1_234, "job")] == [
        "0 jobs",
        "1 job",
        "1,234 jobs",
    ]
    start, end = datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 2, 1, tzinfo=UTC)
    assert show_window(Window(end=end)) == "the beginning to 2025-02-01 00:00:00Z"
    assert show_window(Window(start=start)) == "2025-01-01 00:00:00Z to now"


def test_outcomes_without_rows_are_left_out() -> None:
    assert rows_line(RowCounts()) == "no rows yet"
    assert rows_line(RowCounts(inserted=1_200, rejected=3), 450.4) == (
        "1,200 inserted, 3 rejected, 450 rows/s"
    )


def test_the_rate_counts_from_the_first_row_on() -> None:
    rate = Rate()
    assert rate.update(0, 0) is None
    rate.update(0, 30)
    assert rate.update(100, 31) == 100
    assert rate.update(300, 32) == 150


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("ConfigurationError", True),
        ("CredentialsError", True),
        ("UnknownSourceError", True),
        ("UnknownNamespaceError", True),
        ("TemporalUnavailableError", False),
        ("TooManyRejectsError", False),
        ("SourceUnavailableError", False),
        ("KeyError", False),
        ("", False),
    ],
)
def test_errors_of_configuration_are_known_by_their_name(kind: str, expected: bool) -> None:
    assert is_misconfiguration(kind) is expected


def test_the_first_cause_explains_a_failure() -> None:
    failed = ActivityError(
        "activity failed",
        scheduled_event_id=1,
        started_event_id=2,
        identity="",
        activity_type="get_metadata",
        activity_id="1",
        retry_state=RetryState.NON_RETRYABLE_FAILURE,
    )
    failed.__cause__ = ApplicationError("JIRA_URL is not set", type="ConfigurationError")
    assert explain(failed) == ("JIRA_URL is not set", "ConfigurationError")
    assert explain(CancelledError("x")) == ("cancelled from outside", "")


@pytest.mark.parametrize(
    ("day", "hour", "shown"),
    [("1-5", "3", ("Mon-Fri", "3")), ("*", "*", ("every", "every")), ("6,7", "0-23/6", None)],
)
def test_ranges_are_shown_as_they_were_asked_for(
    day: str, hour: str, shown: tuple[str, str] | None
) -> None:
    spec = calendar(day, hour)
    days = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")
    assert (show_ranges(spec.day_of_week, days), show_ranges(spec.hour)) == (
        shown or ("Sat,Sun", "0-23/6")
    )


def schedule(day: str, hour: str, zone: str = "UTC") -> Schedule:
    action = ScheduleActionStartWorkflow("QueuerFlow", id="x", task_queue="x")
    return Schedule(
        action=action, spec=ScheduleSpec(calendars=[calendar(day, hour)], time_zone_name=zone)
    )


def test_due_runs_are_counted_with_the_first_moment_and_without_the_last() -> None:
    mondays = schedule("1", "2")
    first = datetime(2025, 1, 6, 2, tzinfo=UTC)  # a Monday
    week = timedelta(days=7)
    assert list(due_times(mondays, first, first + week)) == [first]
    assert list(due_times(mondays, first, first + 3 * week)) == [
        first,
        first + week,
        first + 2 * week,
    ]
    assert list(due_times(mondays, first + timedelta(seconds=1), first + week)) == []


def test_due_runs_keep_to_the_schedules_own_clock() -> None:
    kathmandu = schedule("*", "6", "Asia/Kathmandu")  # 5:45 ahead of UTC
    start = datetime(2025, 1, 1, tzinfo=UTC)
    due = list(due_times(kathmandu, start, start + timedelta(days=2)))
    assert due == [start + timedelta(minutes=15), start + timedelta(days=1, minutes=15)]


def test_an_endless_span_of_due_runs_is_cut_short() -> None:
    hourly = schedule("*", "*")
    start = datetime(2000, 1, 1, tzinfo=UTC)
    assert sum(1 for _ in due_times(hourly, start, start + timedelta(days=9_000))) < 1_100


def test_ranges_of_one_number_need_no_end() -> None:
    assert show_ranges(parse_ranges("3", what="hour", least=0, most=23)) == "3"


class Handle:
    """Double of a workflow's handle; its results are these, the last one again and again."""

    id = "etl-shop-full-1"

    def __init__(self, *results: Any) -> None:
        self.results = list(results)

    async def result(self) -> Any:
        found = self.results.pop(0) if len(self.results) > 1 else self.results[0]
        if isinstance(found, RPCError):
            raise found
        return found

    async def query(self, *_: object, **__: object) -> BatchStatus:
        return BatchStatus(state="running", jobs=1)


def refusal(message: str, status: RPCStatusCode = RPCStatusCode.UNAVAILABLE) -> RPCError:
    return RPCError(message, status, b"")


def run_of(*results: Any, **options: Any) -> TemporalRun:
    request, settings = QueuerInput(source="shop"), TemporalSettings()
    handle = cast("Any", Handle(*results))
    return TemporalRun(cast("Any", None), handle, request, settings, **options)


COMPLETED = BatchSummary(batch_id="b", workflow_id=Handle.id, state="completed", seconds=1)


async def test_a_server_that_forgot_a_run_ends_it_as_lost() -> None:
    run = run_of(refusal("workflow not found for ID", RPCStatusCode.NOT_FOUND))
    summary = (await run.ending).summary
    assert summary.state == "failed"
    assert summary.error is not None
    assert summary.error.startswith("lost: Temporal no longer knows the workflow etl-shop-full-1")


async def test_a_server_that_goes_away_is_one_line_that_names_the_run() -> None:
    run = run_of(refusal("tcp connect error"), silence=timedelta())
    with pytest.raises(
        LostSightError, match=r"unavailable: tcp connect error.*etl-shop-full-1"
    ) as told:
        await run.ending
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    "status",
    [
        RPCStatusCode.UNAVAILABLE,
        RPCStatusCode.UNKNOWN,
        RPCStatusCode.DEADLINE_EXCEEDED,
        RPCStatusCode.INTERNAL,
        RPCStatusCode.RESOURCE_EXHAUSTED,
        RPCStatusCode.CANCELLED,
    ],
)
async def test_a_server_that_is_restarted_ends_nobodys_wait(status: RPCStatusCode) -> None:
    outage = refusal("transport error", status)
    run = run_of(outage, outage, COMPLETED)
    assert (await run.ending).summary == COMPLETED
    code = status.name.replace("_", " ").lower()
    assert run.silent == f"Temporal does not answer ({code}: transport error)"
    run.status = BatchStatus(state="running", jobs=1)
    await run.refresh()
    assert run.silent is None


async def test_a_server_that_comes_back_elsewhere_ends_a_wait_by_the_books() -> None:
    asked: list[str] = []

    async def books(run: TemporalRun) -> BatchSummary | None:
        asked.append(run.workflow_id)
        return COMPLETED if len(asked) > 1 else None

    run = run_of(refusal("tcp connect error"), books=books)
    assert (await run.ending).summary == COMPLETED
    assert asked == ["etl-shop-full-1"] * 2


async def test_a_server_that_is_frozen_is_named_and_the_books_end_the_wait(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "_LONGEST_PAUSE", timedelta(milliseconds=10))

    class Frozen(Handle):
        async def result(self) -> Any:
            await asyncio.Event().wait()

    class Health:
        async def check_health(self, **_: object) -> bool:
            raise refusal("deadline", RPCStatusCode.DEADLINE_EXCEEDED)

    class Client:
        service_client = Health()

    async def unanswered(*_: object, **__: object) -> BatchStatus:
        raise refusal("deadline", RPCStatusCode.DEADLINE_EXCEEDED)

    async def books(_: TemporalRun) -> BatchSummary:
        return COMPLETED

    handle = Frozen()
    handle.query = unanswered  # type: ignore[method-assign]
    request, settings = QueuerInput(source="shop"), TemporalSettings()
    client = cast("Any", Client())
    run = TemporalRun(client, cast("Any", handle), request, settings, books=books)
    run.status = BatchStatus(state="running", jobs=1)
    await run.refresh()
    assert run.silent == "Temporal does not answer"
    assert (await run.ending).summary == COMPLETED


async def test_a_look_that_takes_long_is_not_waited_for_and_answers_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress, "_ANSWERS_WITHIN", timedelta())
    answers = asyncio.Event()
    ending = asyncio.ensure_future(asyncio.Event().wait())

    async def look() -> int:
        await answers.wait()
        return 7

    async with progress._Look(look) as slow:
        assert not await slow.renew(cast("Any", ending))
        assert slow.latest is None
        answers.set()
        await until(lambda: slow._task is not None and slow._task.done())
        assert await slow.renew(cast("Any", ending))
        assert slow.latest == 7
    ending.cancel()


class _Silent:
    """A session whose server does not answer the first calls."""

    def __init__(self, faults: int) -> None:
        self.faults = faults

    async def call(self, *_: object) -> Any:
        self.faults -= 1
        if self.faults >= 0:
            raise WarehouseUnavailableError("the warehouse did not answer: away")
        return SimpleNamespace(nodes=(), execution=SimpleNamespace(state="completed"))


async def test_an_execution_is_waited_for_over_an_outage_that_is_said_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executions, "_BETWEEN_LOOKS_SECONDS", 0)
    session = cast("Any", _Silent(3))
    await executions._ended(session, "e", quiet=False)
    assert capsys.readouterr().err == "waiting: the warehouse did not answer: away\n"
    with pytest.raises(LostSightError, match=r"away; that does not end .* pipeline status e`"):
        await executions._ended(cast("Any", _Silent(9)), "e", quiet=True, silence=timedelta())


async def test_who_may_no_longer_look_is_told_at_once() -> None:
    run = run_of(refusal("unauthorized", RPCStatusCode.PERMISSION_DENIED))
    with pytest.raises(LostSightError, match="permission denied: unauthorized"):
        await run.ending


@pytest.mark.parametrize("driven", [True, False])
async def test_of_a_run_that_this_command_drives_nobody_else_is_missed(driven: bool) -> None:
    class Slow:
        """Its engine has not said yet that it is there."""

        async def is_attended(self) -> bool:
            return False

    trouble = await find_local_trouble(cast("Run", Slow()), None, driven=driven)
    assert (trouble is None) == driven
