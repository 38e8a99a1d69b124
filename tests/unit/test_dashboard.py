"""Parts of the dashboard without a server: findings, charts, filters, paths, and its templates."""

import asyncio
import hashlib
import json
import re
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from temporaletl.control.operations.connection_settings import connection_settings_of
from temporaletl.control.operations.freshness import FreshnessReport
from temporaletl.control.operations.health import Health, Part
from temporaletl.control.operations.observation import Observations
from temporaletl.control.operations.reports import RunReport
from temporaletl.control.operations.status import Runs
from temporaletl.control.web import rendering, sights as sights_module
from temporaletl.control.web.access import safe_next
from temporaletl.control.web.charts import HEIGHT, WIDTH, events_chart, throughput_chart
from temporaletl.control.web.filters import (
    one_line,
    show_count,
    show_field,
    show_prose,
    show_span,
    show_time,
)
from temporaletl.control.web.findings import cause_of, find, path_of_run
from temporaletl.control.web.forms import parse_date, parse_object
from temporaletl.control.web.sights import Sights
from temporaletl.errors import ConfigurationError, WarehouseUnavailableError
from temporaletl.messages import JobFailure
from temporaletl.secrets import remember_secret
from temporaletl.warehouse.figures import EventCount, PageCount

_AT = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
_WEB = Path(rendering.__file__).parent


def run(state: str, *, ended: bool = True, minutes: int = 0, **more: object) -> RunReport:
    return RunReport.model_validate(
        {
            "workflow_id": f"etl-{state}",
            "run_id": "r",
            "source": "jira",
            "mode": "full",
            "state": state,
            "started_at": _AT,
            "ended_at": _AT + timedelta(minutes=minutes) if ended else None,
            **more,
        }
    )


HEALTHY = Health(verdict="ok", parts=(Part(name="warehouse", verdict="ok", detail="answers"),))
NO_STREAMS = FreshnessReport(as_of=_AT, entries=())


@pytest.mark.parametrize(
    ("runs", "found"),
    [
        ([run("completed")], []),
        ([run("failed")], ["last full run of jira failed"]),
        # What ended last decides, whatever goes on, and a replay says nothing of what is loaded.
        ([run("running", ended=False), run("failed")], ["last full run of jira failed"]),
        ([run("failed"), run("completed", minutes=5)], []),
        (
            [run("failed"), run("completed", minutes=5, mode="replay")],
            ["last full run of jira failed"],
        ),
        ([run("lost", ended=False)], ["run of jira is lost"]),
        ([run("cancelled")], []),
        # Of a connection that is declared no longer, only what goes on is wrong.
        ([run("failed", connection="deleted")], []),
        ([run("lost", connection="deleted", ended=False)], ["run of jira@deleted is lost"]),
    ],
)
def test_findings_name_what_is_wrong_with_runs(runs: list[RunReport], found: list[str]) -> None:
    def is_declared(_source: str, name: str) -> bool:
        return name != "deleted"

    seen = Runs(runs, ["jira is rate-limited"])
    named = [one.what for one in find(HEALTHY, NO_STREAMS, seen, {}, is_declared=is_declared)]
    assert named == [*found, "jira is rate-limited"]


def test_findings_name_the_part_that_is_down_and_since_when() -> None:
    part = Part(name="temporal", verdict="down", detail="does not answer")
    health = Health(verdict="down", parts=(part,))
    [one] = find(health, None, Runs([], []), {"temporal": _AT}, is_declared=lambda *_: True)
    assert (one.what, one.weight, one.since) == ("temporal is down", "bad", _AT)


def test_a_cause_is_one_line() -> None:
    failures = tuple(JobFailure(job=f"job-{n}", error="no\nsuch thing") for n in range(3))
    assert cause_of(run("failed", failures=failures)) == "job-0: no (and 2 more)"
    assert cause_of(run("failed", error="first\nsecond")) == "first"
    assert cause_of(run("completed")) is None
    assert one_line("x" * 500) == "x" * 199 + "…"


def test_bars_fit_the_drawing_and_their_numbers_are_all_there() -> None:
    counts = [
        EventCount(date(2026, 11, 26 + day % 2), f"type_{kind}", 10 * kind + 1)
        for day in range(2)
        for kind in range(12)
    ]
    chart = events_chart(counts, date(2026, 11, 27), days=14)
    assert len(chart.kinds) == 8
    assert chart.kinds[-1] == "all others"
    assert chart.total == sum(one.events for one in counts)
    assert [name for name, _ in chart.rows][-1] == "2026-11-27"
    for bar in chart.bars:
        assert 0 <= bar.x <= bar.x + bar.width <= WIDTH
        assert 0 <= bar.y <= HEIGHT
    assert events_chart([], date(2026, 11, 27), days=14).total == 0


def test_throughput_shows_spans_without_a_page() -> None:
    step = timedelta(seconds=10)
    pages = [PageCount(_AT, 1, 5, 5, 0, 0, 0), PageCount(_AT + 3 * step, 1, 5, 0, 2, 2, 1)]
    chart = throughput_chart(pages, step)
    assert [sum(numbers) for _, numbers in chart.rows] == [5, 0, 0, 5]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3_725, "1 h 2 min"),
        (180_000, "2 d 2 h"),
        (-5, "0 s"),
    ],
)
def test_spans_have_two_units(seconds: int, shown: str) -> None:
    assert show_span(timedelta(seconds=seconds)) == shown


def test_times_say_their_zone_and_counts_their_number() -> None:
    assert "2026-11-27 03:00:00 UTC" in show_time(_AT)
    assert 'datetime="2026-11-27T03:00:00Z"' in show_time(_AT)
    assert (show_count(1, "job"), show_count(2_000, "job")) == ("1 job", "2,000 jobs")


def test_commands_in_sentences_are_code_and_nothing_else_is_markup() -> None:
    remember_secret("hunter2-hunter2")
    assert show_prose("`etl up` & hunter2-hunter2") == "<code>etl up</code> &amp; [redacted]"
    assert show_prose("<b> `open") == "&lt;b&gt; `open"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("/runs?mode=full", "/runs?mode=full"),
        (None, "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("/a\nb", "/"),
        ("javascript:alert(1)", "/"),
        ("/log-in?next=/log-in", "/"),
        ("/" + "x" * 3_000, "/"),
    ],
)
def test_a_log_in_leads_to_a_path_of_the_dashboard_alone(given: str | None, kept: str) -> None:
    assert safe_next(given) == kept


def test_a_connection_is_asked_first_for_what_its_own_source_needs() -> None:
    main = {one.name: one for one in connection_settings_of("jira") if one.main}
    assert {"JIRA_URL", "JIRA_EMAIL", "JIRA_API_TOKEN"} <= main.keys()
    assert main["JIRA_API_TOKEN"].secret
    assert not [name for name in main if not name.startswith("JIRA_")]


def test_ids_with_slashes_are_paths() -> None:
    assert path_of_run("job/jira?x") == "/runs/job/jira%3Fx"


def test_fields_of_forms_are_dates_and_objects() -> None:
    assert parse_date("from", "2026-11-27T03:00") == _AT
    assert parse_date("from", "2026-11-27T04:00+01:00") == _AT
    assert parse_date("from", "") is None
    assert parse_object("params", '{"size": 3}') == {"size": 3}
    for wrong in ("[1]", "{", "3"):
        with pytest.raises(ConfigurationError, match="params"):
            parse_object("params", wrong)
    with pytest.raises(ConfigurationError, match="from: 'x' is no date"):
        parse_date("from", "x")


async def test_what_was_seen_outlives_an_outage_and_says_since_when() -> None:
    sights = Sights(Observations(fresh=timedelta(0), stale=timedelta(0)))
    answers = [1]

    async def observe() -> int:
        if not answers:
            raise WarehouseUnavailableError("away")
        return answers.pop()

    seen = await sights.see("x", observe)
    assert (seen.value, seen.fault) == (1, None)
    first, second = await sights.see("x", observe), await sights.see("x", observe)
    assert (first.value, first.as_of, first.fault) == (1, seen.as_of, "away")
    assert first.since == second.since is not None
    answers.append(2)
    again = await sights.see("x", observe)
    assert (again.value, again.fault, again.since) == (2, None, None)
    with pytest.raises(WarehouseUnavailableError):
        await sights.see("never seen", observe)


async def test_what_comes_after_its_page_was_given_is_taken_for_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PATIENCE", "SHORT_PATIENCE"):
        monkeypatch.setattr(sights_module, name, timedelta(milliseconds=1))
    sights = Sights(Observations(fresh=timedelta(0), stale=timedelta(0)))
    there, answered = asyncio.Event(), asyncio.Event()

    async def observe() -> int:
        await there.wait()
        answered.set()
        return 2

    async def away() -> int:
        raise WarehouseUnavailableError("away")

    assert (await sights.see("x", partial(asyncio.sleep, 0, 1))).value == 1
    assert (await sights.see("x", observe)).value == 1
    there.set()
    await answered.wait()
    for _ in range(5):
        await asyncio.sleep(0)
    late = await sights.see("x", away)
    assert (late.value, late.fault) == (2, "away")


def test_vendored_scripts_are_those_that_were_published() -> None:
    listed = json.loads((_WEB / "static" / "vendored.json").read_text())
    for name, facts in listed.items():
        content = (_WEB / "static" / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == facts["sha256"]
    scripts = {path.name for path in (_WEB / "static").glob("*.js")}
    assert scripts == {*listed, "dashboard.js"}


def test_templates_hold_no_inline_code() -> None:
    """The policy would forbid it; what htmx evaluates is forbidden here as well."""
    for path in (_WEB / "templates").glob("*.html"):
        text = path.read_text()
        for wrong in (
            r"\son\w+=",
            r"hx-on",
            r"\bjs:",
            r"javascript:",
            r"<style",
            r"\sstyle=",
            r"https?://",
        ):
            assert not re.search(wrong, text), (path.name, wrong)
        assert not re.search(r"<script(?! src=)", text), path.name
        assert not re.search(r"hx-trigger=\"[^\"]*\[", text), path.name
        assert "|safe" not in text.replace('{{ "<br>"|safe', ""), path.name

        for value in re.findall(r'<(?!progress)[^<]* value="\{\{ (.*?) \}\}"', text):
            assert value.endswith("|field"), (path.name, value)


def test_texts_are_escaped_secrets_taken_out_and_marks_that_turn_a_line_around_seen() -> None:
    remember_secret("hunter2-hunter2")
    answer = rendering.render(
        "notice.html", {"notice": "<script>hunter2-hunter2</script>\r\n\u202egnp", "failed": True}
    )
    assert b"<script>" not in answer.body
    assert b"hunter2" not in answer.body
    assert rb"\u202egnp" in answer.body
    assert b"\\x0d" not in answer.body
    assert show_prose("see \u202e`x`") == r"see \u202e<code>x</code>"
    assert show_field("\u202e<hunter2-hunter2") == "\u202e&lt;[redacted]"
    assert "unsafe" not in rendering.POLICY
