"""The preview: the same strategies as a load, and no warehouse anywhere."""

import asyncio
import dataclasses
import json
import threading
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import pytest

import tests.integration.flows.numbers  # noqa: F401 - registers the source
from temporaletl.checks import sources as source_checks
from temporaletl.control.cli import session
from temporaletl.control.cli.views.preview import print_preview
from temporaletl.control.operations import checks, preview as operation
from temporaletl.control.operations.platform import Platform
from temporaletl.control.operations.preview import StreamPreview, preview
from temporaletl.errors import ConfigurationError, SourceUnavailableError
from temporaletl.extraction import Page
from temporaletl.messages import QueuerInput
from temporaletl.queuer.planning import check_request
from temporaletl.rows import Row
from temporaletl.strategies import (
    Planner,
    Transformer,
    expanders,
    extractors,
    planners,
    transformers,
)
from tests.integration.flows.numbers import EPOCH, outages


@pytest.fixture(autouse=True)
def no_warehouse(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("DATABASE_URL", "WPE_DB_HOST", "TEMPORAL_ADDRESS", "TEMPORAL_HOST"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ETL_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(session, "quiet_logs", lambda: None)


def asked(**params: Any) -> QueuerInput:
    return QueuerInput(source="numbers", mode="full", params=params)


async def previewed(request: QueuerInput, **given: Any) -> list[StreamPreview]:
    async with session.open_platform() as platform:
        return await preview(platform, request, **given)


async def test_the_first_rows_are_taken_and_no_more_is_read_than_they_need() -> None:
    [found] = await previewed(asked(jobs=3, pages=4, size=5), limit=7)
    assert [row.event_id for row in found.rows] == [f"0:{value}" for value in range(7)]  # type: ignore[attr-defined]
    assert (found.records, found.jobs, found.complete) == (7, 1, False)


async def test_all_there_is_is_known_as_such() -> None:
    [found] = await previewed(asked(jobs=2, pages=1, size=3), limit=100)
    assert (len(found.rows), found.jobs, found.complete) == (6, 2, True)


async def test_records_that_would_be_rejected_are_told_with_their_reason() -> None:
    [found] = await previewed(asked(size=5, bad_every=2), limit=100)
    assert len(found.rows) == 2
    assert [reject.key for reject in found.rejects] == ["0:0", "0:2", "0:4"]
    assert found.rejects[0].reason == "0 is a bad number"


async def test_what_is_not_ready_yet_is_waited_for() -> None:
    [found] = await previewed(asked(size=3, unready=True), limit=100)
    assert [row.event_id for row in found.rows] == ["0:0", "0:1", "0:2"]  # type: ignore[attr-defined]
    assert found.complete


async def test_the_sources_errors_are_its_own() -> None:
    with pytest.raises(ConfigurationError, match="job 0 is poisoned"):
        await previewed(asked(poisoned=0), limit=1)
    outages.add("preview")
    try:
        with pytest.raises(SourceUnavailableError):
            await previewed(asked(outage="preview"), limit=1)
    finally:
        outages.discard("preview")


@pytest.fixture
def refusal() -> Iterator[dict[str, Any]]:
    """Parameters of a source that refuses connections."""
    outages.add("refused")
    yield {"refusal": "refused"}
    outages.discard("refused")


WITHIN = timedelta(minutes=1)


@pytest.fixture
async def time_passes(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes the time that a preview has pass at once."""
    loop, passed = asyncio.get_running_loop(), timedelta(0)
    now = loop.time
    monkeypatch.setattr(loop, "time", lambda: now() + passed.total_seconds())

    def pass_by() -> None:
        nonlocal passed
        passed += WITHIN

    return pass_by


async def test_what_is_tried_again_is_told_at_once_and_given_up_in_the_end(
    refusal: dict[str, Any], time_passes: Callable[[], None]
) -> None:
    notices: list[str] = []

    def notice(text: str) -> None:
        notices.append(text)
        time_passes()

    with pytest.raises(SourceUnavailableError) as given_up:
        await previewed(asked(**refusal), limit=1, within=WITHIN, notice=notice)
    assert notices == ["the source refuses connections; it is tried again"]
    assert str(given_up.value) == "nothing was read within 60 s: the source refuses connections"


async def test_a_slow_preview_ends_in_time_with_what_it_has_read(
    monkeypatch: pytest.MonkeyPatch, time_passes: Callable[[], None]
) -> None:
    """No request fails: the second job is planned for longer than anybody waits."""

    async def expand(plan: Any, _backlog: Any) -> AsyncGenerator[Any]:
        yield plan.job("all", plan.windows["all"], job=0)
        time_passes()
        await asyncio.Event().wait()

    with monkeypatch.context() as patched:
        patched.setitem(expanders._entries, "numbers", (expand, ""))
        [found] = await previewed(asked(size=3), limit=100, within=WITHIN)
    assert (len(found.rows), found.jobs, found.complete) == (3, 1, False)
    assert found.stopped == "stopped after 60 s"
    request = asked(size=3, plan_seconds=60)
    with pytest.raises(SourceUnavailableError, match=r"^nothing was read within 0.1 s$"):
        await previewed(request, limit=100, within=timedelta(seconds=0.1))


def test_a_command_does_not_wait_for_what_it_has_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A planner that hangs in its thread."""
    answered = threading.Event()
    planner = planners.get("numbers")
    hanging = dataclasses.replace(planner, describe=lambda _plan: answered.wait(60))
    monkeypatch.setitem(planners._entries, "numbers", (hanging, ""))
    within = timedelta(seconds=0.2)
    began = time.monotonic()
    try:
        with pytest.raises(SourceUnavailableError, match=r"within 0\.2 s"):
            print_preview(asked(), limit=1, within=within, as_json=True)
        assert time.monotonic() - began < 30
    finally:
        answered.set()


async def test_streams_that_a_preview_did_not_reach_say_so(
    refusal: dict[str, Any], monkeypatch: pytest.MonkeyPatch, time_passes: Callable[[], None]
) -> None:
    async def reads(
        platform: Platform, request: QueuerInput, found: StreamPreview, *, limit: int
    ) -> None:
        if found.stream == "read":
            found.complete = True
            return
        found.stream = "all"
        await read_stream(platform, request, found, limit=limit)

    read_stream = operation.read_stream
    monkeypatch.setattr(operation, "read_stream", reads)
    monkeypatch.setattr(operation, "check_request", check_streams)
    request = asked(**refusal).model_copy(update={"streams": ("read", "refused", "behind")})
    found = await previewed(request, limit=9, within=WITHIN, notice=lambda _text: time_passes())
    why = "60 s: the source refuses connections"
    assert [each.stopped for each in found] == [
        None,
        f"stopped after {why}",
        f"not reached within {why}",
    ]


def check_streams(request: QueuerInput) -> Planner:
    """The planner, whatever streams are requested."""
    return check_request(request.model_copy(update={"streams": ()}))


async def test_a_backfill_shows_the_events_of_its_window_alone() -> None:
    request = QueuerInput(
        source="numbers",
        mode="backfill",
        date_start=EPOCH + timedelta(seconds=2),
        date_end=EPOCH + timedelta(seconds=4),
        params={"size": 9},
    )
    [found] = await previewed(request, limit=100)
    assert [row.event_id for row in found.rows] == ["0:2", "0:3"]  # type: ignore[attr-defined]
    assert found.records == 9


async def test_rows_that_no_run_would_load_are_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class TicketRow(Row, frozen=True, kw_only=True):
        table: ClassVar[str] = "tickets"
        key: ClassVar[tuple[str, ...]] = ("number",)
        number: int

    async def yielding(yielded: Any) -> None:
        numbers = transformers.get("numbers")
        other = Transformer(lambda _record, _context: [yielded], numbers.rows)
        monkeypatch.setitem(transformers._entries, "numbers", (other, ""))
        await previewed(asked(size=1), limit=1)

    with pytest.raises(ConfigurationError, match=r"TicketRow, .*rows=\(Event, TicketRow\)\)$"):
        await yielding(TicketRow(number=1))
    with pytest.raises(ConfigurationError, match=r"numbers yields dict, which is no row: it yiel"):
        await yielding({"number": 1})


async def test_a_check_notes_what_a_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a field that no record has."""

    async def pages(_request: Any) -> AsyncGenerator[Page]:
        yield Page([1], cursor=None, note="no record has a time")

    async def none(_request: Any) -> AsyncGenerator[Page]:
        nothing: list[Page] = []
        for page in nothing:
            yield page

    found = []
    for extract in (pages, none):
        monkeypatch.setitem(extractors._entries, "numbers-all", (extract, ""))
        async with session.open_platform() as platform:
            checks_of_streams = await checks.check_source(platform, "numbers")
        found += [check for check in checks_of_streams if check.name == "stream all"]
    noted, quiet = found
    assert noted.verdict == "note"
    assert noted.detail.endswith("1 record on the first page of the last day; no record has a time")
    assert quiet.verdict == "ok"
    assert quiet.detail == "answers; no record of the last day, and older ones are not looked for"


@pytest.mark.usefixtures("refusal")
async def test_a_check_says_what_it_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source_checks, "ANSWER_WITHIN", timedelta(seconds=1))
    monkeypatch.setattr(checks, "_read_stream", refused)
    notices: list[str] = []
    async with session.open_platform() as platform:
        found = await checks.check_source(platform, "numbers", notice=notices.append)
    [stream] = [check for check in found if check.name == "stream all"]
    assert notices == ["stream all: the source refuses connections; it is tried again"]
    assert stream.verdict == "wrong"
    assert stream.detail == "no answer within 1 s: the source refuses connections"


async def refused(platform: Platform, *_: object) -> str:
    """The stream of a source that is down."""
    await operation.read_stream(platform, asked(refusal="refused"), StreamPreview("all"), limit=1)
    return "answers"


async def test_an_unknown_parameter_is_named() -> None:
    with pytest.raises(ConfigurationError, match="colour"):
        await previewed(asked(colour="red"), limit=1)


def test_the_document_is_a_list_of_rows(capsys: pytest.CaptureFixture[str]) -> None:
    print_preview(asked(size=3, bad_every=2), limit=10, as_json=True)
    captured = capsys.readouterr()
    [row] = json.loads(captured.out)
    assert row["event_id"] == "0:1"
    assert row["event_time_utc"] == "2024-01-01T00:00:01Z"
    assert "would be rejected: 0:0: 0 is a bad number" in captured.err
    assert "nothing was written" in captured.err


def test_people_get_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    print_preview(asked(size=2), limit=10, as_json=False)
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["event_id", "event_type", "event_time_utc"]
    assert first.split()[:3] == ["0:0", "number_counted", "2024-01-01"]
    assert second.startswith("0:1")
