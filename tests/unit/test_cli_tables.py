"""What the commands that read print, on terminals of 80 and 140 columns, and into a pipe."""

import io
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

from temporaletl.control.cli import output
from temporaletl.control.cli.views import (
    access,
    connections,
    identities,
    rejects,
    run_log,
    schedules,
    sources,
    status,
    watch,
)
from temporaletl.control.operations.connections import ConnectionReport, Connections
from temporaletl.control.operations.details import Details
from temporaletl.control.operations.freshness import FreshnessReport, StreamFreshness
from temporaletl.control.operations.health import Health, Part
from temporaletl.control.operations.reports import RunReport
from temporaletl.control.operations.schedule_reports import ScheduleReport
from temporaletl.control.operations.schedules import Schedules
from temporaletl.control.operations.sources import Source, Stream
from temporaletl.control.operations.status import Runs
from temporaletl.messages import RowCounts, Window
from temporaletl.warehouse.audit import AuditEntry, AuditPage, AuditPosition
from temporaletl.warehouse.identities import KnownPerson, PeoplePage
from temporaletl.warehouse.notifications import Notification, NotificationPage
from temporaletl.warehouse.rejects import Rejects, StoredReject
from temporaletl.warehouse.reports import JobReport
from temporaletl.warehouse.run_log import LogLine, RunLogTail
from temporaletl.warehouse.tally import JobTally
from temporaletl.warehouse.tokens import Token

#: Bold and dim; with colours it would be longer.
ANSI = re.compile(r"\x1b\[[012]m")
NOW = datetime(2026, 11, 28, 1, 30, tzinfo=UTC)
HOUR = timedelta(hours=1)
ERROR = (
    "jira: https://jira.example.com answered 503 Service Unavailable to GET "
    "/rest/api/3/search/jql, 20 attempts in a row: it may be in maintenance; try again later"
)
RUN_ID = "jira@customer_portal-incremental-20261128T000000Z-1a2b3c4d"
RUNS = [
    RunReport(
        workflow_id="etl-jira@customer_portal-2026-11-28T00:00:00Z",
        run_id="0199f3a2-7b1c-7d43-9a51-3f0c2b7d9e10",
        batch_id=RUN_ID,
        source="jira",
        connection="customer_portal",
        mode="incremental",
        state=state,
        started_at=NOW - HOUR,
        ended_at=None if state in ("running", "paused") else NOW,
        windows={"issues": Window(start=NOW - 2 * HOUR, end=NOW - HOUR)},
        jobs=JobTally(planned=1_234, completed=1_200, running=10, paused=2, failed=3, skipped=4),
        rows=RowCounts(inserted=1_234_567, updated=89_012, unchanged=3_456_789, rejected=12),
        deleted=7,
        error=ERROR if state == "failed" else None,
    )
    for state in ("running", "paused", "failed", "skipped", "completed")
]
JOB = JobReport(
    job_id="jira@customer_portal-issues-incremental-0123456789abcdef",
    stream="issues",
    state="failed",
    pages=12,
    records=9_000,
    rows=RowCounts(inserted=8_000, updated=900, rejected=100),
    error=ERROR,
)
SCHEDULES = [
    ScheduleReport(
        source="jira",
        connection="customer_portal",
        name=name,
        schedule_id=f"etl-schedule-jira@customer_portal:{name}",
        mode="incremental",
        streams=("issues",),
        params={"jql": "project = ABC"},
        times="cron */15 8-18 * * 1-5 Europe/London, up to 2m later",
        timezone="Europe/London",
        overlap="skip",
        catchup_window_minutes=60,
        paused=paused,
        note=None,
        running=(),
        last_run=NOW - HOUR,
        next_run=None if paused else NOW + HOUR,
        num_actions_missed_catchup_window=3,
        num_skipped_for_others=14,
    )
    for name, paused in (("often", False), ("weekly_full", True))
]
ENTRY = StreamFreshness(
    source="servicetitan",
    connection="customer_portal",
    stream="merge_proposals",
    state="never loaded",
    late=True,
    loaded_until=NOW - 3 * HOUR,
    last_loaded_at=NOW - HOUR,
    fresh_within=HOUR,
    origin="the schedule",
    due_at=NOW - HOUR,
    cause=f"what is loaded is 3.0 h old; it may be 60 min old; its last run failed: {ERROR}",
)
AUDIT = AuditEntry(
    audit_id=1,
    at=NOW,
    actor="token:night-shift-operator",
    action="source-connection.replace",
    target="jira@customer_portal-incremental-20261128T000000Z-1a2b3c4d",
    reason="the customer moved to another site over the weekend",
    outcome="refused",
    request_id="r",
    details={"settings": ["JIRA_URL", "JIRA_EMAIL"], "version": 3},
)
TOKEN = Token(
    token_id="0123456789ab",
    name="grafana-dashboards-of-operations",
    scope="operate",
    created_at=NOW,
    created_by="cli:alice@workstation-of-alice",
    expires_at=NOW + HOUR,
    last_used_at=NOW,
    revoked_at=None,
)
PERSON = KnownPerson(
    "5b10a2844c20165700ede21g", "E000042", "ada.lovelace@research.example.com", "Ada Lovelace"
)
REJECT = StoredReject.model_construct(
    reject_id=12_345,
    stream="merge_proposals",
    stage="transform",
    key="PROJ-1234567",
    reason=ERROR,
    times=17,
    last_seen=NOW,
    source="launchpad",
    payload={},
    first_seen=NOW,
    batch_id="b",
    job_id=JOB.job_id,
    workflow_id="w",
    run_id="r",
)
NOTIFICATION = Notification(
    event_key="finished:jira-1",
    destination="NOTIFY_URLS[1] slack",
    kind="finished",
    source="jira",
    connection="default",
    event={"text": f"jira@customer_portal incremental failed: {ERROR}"},
    state="failed",
    attempts=5,
    repeated=False,
    error="the destination answered 404 Not Found",
    created_at=NOW,
    next_attempt_at=NOW,
    sent_at=None,
)
SOURCE = Source(
    "servicetitan",
    tuple(
        Stream(name, (f"st_{name}",), f"temporaletl.worker.sources.servicetitan.extract.{name}:88")
        for name in ("customers", "estimates")
    ),
    "12",
    "12.34",
    "temporaletl.queuer.sources.servicetitan.params:50",
)
LINE = LogLine(
    at=NOW,
    level="warning",
    logger="temporaletl.temporal.interceptor",
    event="activity_failed",
    job_id=JOB.job_id,
    fields={"attempt": 3, "error": ERROR},
)
CONNECTION = ConnectionReport(
    name="customer_portal",
    source="jira",
    settings=("JIRA_API_TOKEN", "JIRA_EMAIL", "JIRA_JQL", "JIRA_URL", "ETL_FRESH_WITHIN_HOURS"),
    origin="warehouse",
)
#: A command, what its operation returns, and what must be on the screen whatever its width.
PAGES: dict[str, tuple[Any, Callable[[], object], object, tuple[str, ...]]] = {
    "status": (
        status,
        lambda: status.print_recent(20, source=None, connection=None, state=None, as_json=False),
        Runs(RUNS, []),
        (RUN_ID, "running", "paused", "failed", "skipped", "1,200/1,234", "1,234,567 inserted"),
    ),
    "status RUN": (
        status,
        lambda: status.print_one("x", as_json=False),
        Details(run=RUNS[2], jobs=(JOB,)),
        (RUN_ID, JOB.job_id, "8,000 inserted", "503 Service Unavailable", RUNS[2].workflow_id),
    ),
    "schedules": (
        schedules,
        lambda: schedules.print_schedules(as_json=False),
        Schedules(SCHEDULES, []),
        (
            *("jira@customer_portal", "often", "weekly_full", "*/15 8-18 * * 1-5", "paused"),
            *("3 missed, 14 skipped", "2026-11-28 02:30:00Z", "issues", "jql=project = ABC"),
        ),
    ),
    "freshness": (
        watch,
        lambda: watch.print_freshness(as_json=False),
        FreshnessReport(as_of=NOW, entries=(ENTRY,)),
        (
            *("servicetitan@customer_portal", "merge_proposals", "never loaded"),
            *("2026-11-27 22:30:00Z", "2026-11-28 00:30:00Z", "60 min old", "503 Service"),
        ),
    ),
    "health": (
        watch,
        lambda: watch.print_health(as_json=False),
        Health(
            verdict="down",
            parts=(
                Part(name="warehouse", verdict="ok", detail="answers"),
                Part(name="oldest waiting job", verdict="degraded", detail=ERROR, since=NOW),
            ),
        ),
        ("warehouse", "ok", "oldest waiting job", "degraded", "2026-11-28 01:30:00Z", "later"),
    ),
    "notify list": (
        watch,
        lambda: watch.print_notifications(20, None, as_json=False),
        NotificationPage([NOTIFICATION], None),
        ("NOTIFY_URLS[1] slack", "failed", "5", "404 Not Found", "503 Service"),
    ),
    "audit list": (
        access,
        lambda: access.print_audit(20, as_json=False),
        AuditPage([AUDIT], AuditPosition(NOW, 1)),
        (
            *("2026-11-28 01:30:00Z", "token:night-shift-operator", "source-connection.replace"),
            *(AUDIT.target, "refused", "another site", "settings=JIRA_URL,JIRA_EMAIL"),
        ),
    ),
    "token list": (
        access,
        lambda: access.print_tokens(as_json=False),
        [TOKEN],
        (TOKEN.name, "operate", "2026-11-28 02:30:00Z", "cli:alice@workstation-of-alice"),
    ),
    "identities list": (
        identities,
        lambda: identities.print_people("jira", "default", 20, as_json=False),
        PeoplePage([PERSON], 1, 0),
        (PERSON.person, "E000042", "ada.lovelace@research.example.com", "Ada Lovelace"),
    ),
    "rejects list": (
        rejects,
        lambda: rejects.print_rejects("jira", (), "default", 20, as_json=False),
        Rejects([REJECT], 1),
        ("12345", "merge_proposals", "PROJ-1234567", "17", "503 Service"),
    ),
    "connections list": (
        connections,
        lambda: connections.print_connections(as_json=False),
        Connections([CONNECTION], Path("connections.toml")),
        ("customer_portal", "jira", "warehouse", *CONNECTION.settings),
    ),
    "sources": (
        sources,
        lambda: sources.print_sources(as_json=False),
        [SOURCE],
        ("servicetitan", "customers", "st_customers", "estimates", "st_estimates"),
    ),
    "logs": (
        run_log,
        lambda: run_log.print_log("x", 20, as_json=False),
        RunLogTail(lines=(LINE,), earlier=True, dropped=0),
        ("activity_failed", JOB.job_id, "attempt=3", "503 Service"),
    ),
}


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, page: str, stream: io.StringIO, columns: int) -> str:
    """What a page prints to a terminal of that width."""
    module, command, answer, _ = PAGES[page]
    for cached in (output.out, output.err):
        cached.cache_clear()
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    monkeypatch.setattr(module, "call", lambda *_args, **_kwargs: answer)
    command()
    for cached in (output.out, output.err):
        cached.cache_clear()
    return ANSI.sub("", stream.getvalue())


@pytest.mark.parametrize("columns", [80, 140])
@pytest.mark.parametrize("page", PAGES)
def test_no_line_is_longer_than_the_terminal_and_no_fact_is_lost(
    monkeypatch: pytest.MonkeyPatch, page: str, columns: int
) -> None:
    text = shown(monkeypatch, page, Terminal(), columns)
    assert "\x1b" not in text, "no colours where NO_COLOR is set"
    assert {line for line in text.splitlines() if cell_len(line) > columns} == set()
    # A text may be wrapped between words, and a word at no place.
    words = " ".join(text.split())
    assert [fact for fact in PAGES[page][3] if fact not in words] == []


@pytest.mark.parametrize("page", PAGES)
def test_in_a_pipe_a_row_is_a_line_with_all_columns(
    monkeypatch: pytest.MonkeyPatch, page: str
) -> None:
    text = shown(monkeypatch, page, io.StringIO(), 80)
    assert "\x1b" not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    facts = PAGES[page][3]
    assert [fact for fact in facts if fact not in text] == []
    if page not in ("status RUN", "status", "schedules", "health", "sources"):
        assert any(all(fact in line for fact in facts) for line in text.splitlines())


def test_a_table_with_too_wide_words_is_folded_and_a_wide_letter_counts_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", stream := Terminal())
    monkeypatch.setenv("COLUMNS", "40")
    output.out.cache_clear()
    table = output.make_table("name", "text", right=("text",))
    output.add_row(table, "z" * 60, "日本")
    assert output.print_table(table) == []
    output.out.cache_clear()
    lines = ANSI.sub("", stream.getvalue()).splitlines()
    assert all(cell_len(line) <= 40 for line in lines)
    assert "".join(lines).count("z") == 60


def test_a_text_that_the_terminal_has_no_letters_for_ends_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="latin-1", errors="backslashreplace")
    monkeypatch.setattr(sys, "stdout", stream)
    output.out.cache_clear()
    output.say("état 日本 …")
    output.print_json({"text": "é日"})
    assert output.cut_off("abcdef", 4) == "abc~"
    output.out.cache_clear()
    stream.flush()
    assert raw.getvalue().decode("latin-1").startswith("état \\u65e5\\u672c \\u2026\n")
    assert '"\\u00e9\\u65e5"' in raw.getvalue().decode("ascii", "replace")
