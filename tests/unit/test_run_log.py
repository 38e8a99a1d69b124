"""The log of runs as it is kept: who logs waits for nothing, and nothing fails by it."""

import threading
from collections.abc import Sequence
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import structlog

from temporaletl.messages import ETLInput, QueuerInput, Window
from temporaletl.telemetry import run_log
from temporaletl.telemetry.logs import get_logger
from temporaletl.telemetry.run_log import DROPPED, Line, RunLog, kept_in, run_of

log = get_logger("temporaletl.test")


class Target:
    """What lines are written to; it fails as often as it is told, and waits while it is shut."""

    def __init__(self, failures: int = 0) -> None:
        self.lines: list[Line] = []
        self.failures = failures
        self.open = threading.Event()
        self.open.set()

    def write(self, lines: Sequence[Line]) -> None:
        self.open.wait(120)
        if self.failures:
            self.failures -= 1
            raise OSError("no warehouse")
        self.lines += lines


def test_what_names_a_batch_is_kept_with_the_ids_of_its_context() -> None:
    target = Target()
    with kept_in(RunLog(target.write)):
        log.info("service_started")
        with structlog.contextvars.bound_contextvars(batch_id="b", job_id="j", attempt=2):
            log.info("page_loaded", rows=3, job_id="k")
        log.warning("batch_lost", batch_id="c", reason="no sign of life")
    log.info("page_loaded", batch_id="b")
    assert [(line.batch_id, line.job_id, line.level, line.event) for line in target.lines] == [
        ("b", "k", "info", "page_loaded"),
        ("c", None, "warning", "batch_lost"),
    ]
    assert target.lines[0].fields == {"rows": 3, "attempt": 2}


def test_what_is_not_taken_is_tried_again_and_what_is_too_much_is_counted(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(run_log, "_BUFFERED", 3)
    target = Target()
    target.open.clear()
    with kept_in(RunLog(target.write)):
        for number in range(10):
            log.info("page_loaded", batch_id="b", number=number)
        target.open.set()
    shown = [
        (line.event, line.fields.get("number", line.fields.get("count"))) for line in target.lines
    ]
    assert shown[:3] == [("page_loaded", 0), ("page_loaded", 1), ("page_loaded", 2)]
    assert shown[-1] == (DROPPED, 7)


def test_a_warehouse_that_does_not_answer_costs_lines_and_fails_nothing() -> None:
    target = Target(failures=1_000)
    told: list[tuple[str, int, int]] = []
    with kept_in(RunLog(target.write, lambda error, *counts: told.append((str(error), *counts)))):
        log.info("page_loaded", batch_id="b")
    assert target.lines == []
    assert told == [("no warehouse", 1, 0)]


def test_lines_that_are_refused_for_good_hold_up_no_others_and_are_told_of_once(
    monkeypatch: Any,
) -> None:
    monkeypatch.setattr(run_log, "_EVERY", timedelta(milliseconds=5))
    told: list[tuple[str, int, int]] = []
    target = Target()
    refusing = threading.Event()
    refusing.set()

    def write(lines: Sequence[Line]) -> None:
        if refusing.is_set() and told:
            refusing.clear()
            raise ValueError("refused again")
        if refusing.is_set():
            raise ValueError("no such column")
        target.write(lines)

    with kept_in(RunLog(write, lambda error, *counts: told.append((str(error), *counts)))):
        log.info("first", batch_id="b")
        deadline = threading.Event()
        while refusing.is_set() and not deadline.wait(0.005):
            pass
        log.info("second", batch_id="b")
    assert {(line.event, line.fields.get("count")) for line in target.lines} == {
        ("second", None),
        (DROPPED, 1),
    }
    assert told == [("no such column", 0, 1)]


def test_a_line_that_was_not_taken_comes_with_the_next_ones(monkeypatch: Any) -> None:
    monkeypatch.setattr(run_log, "_EVERY", timedelta(milliseconds=5))
    target = Target(failures=1)
    kept = RunLog(target.write)
    with kept_in(kept):
        log.info("first", batch_id="b")
        deadline = threading.Event()
        while target.failures and not deadline.wait(0.005):
            pass
        log.info("second", batch_id="b")
    assert [line.event for line in target.lines] == ["first", "second"]


def test_a_message_names_its_batch_job_and_connection_wherever_it_has_them() -> None:
    job = ETLInput(
        batch_id="b", seq=0, job_id="j", source="s", stream="t", mode="full", window=Window()
    )
    of_source = {"source": "s", "connection": "default"}
    named = {"batch_id": "b", "job_id": "j", **of_source}
    assert run_of(job) == run_of(SimpleNamespace(job=job)) == named
    assert run_of(SimpleNamespace(input=QueuerInput(source="s"))) == of_source
    assert run_of(SimpleNamespace(metadata=SimpleNamespace(batch_id="b"))) == {"batch_id": "b"}
    assert run_of(None) == run_of(SimpleNamespace(batch_id="", job_id=None)) == {}
