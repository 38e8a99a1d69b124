import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from temporaletl.logs import configure_logs


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("temporalio", "psycopg.pool")}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def configured(stream: io.StringIO | None = None) -> io.StringIO:
    target = stream or io.StringIO()
    configure_logs(stream=target)
    return target


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_with_its_ids() -> None:
    stream = configured()
    with structlog.contextvars.bound_contextvars(workflow_id="w1"):
        structlog.get_logger("temporaletl.worker.segment").info("page_loaded", rows=3)
    [line] = lines(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "page_loaded",
        "level": "info",
        "logger": "temporaletl.worker.segment",
        "rows": 3,
        "workflow_id": "w1",
    }


def test_the_standard_librarys_records_look_the_same() -> None:
    stream = configured()
    logging.getLogger("jira").warning("retrying %s", "search", extra={"attempt": 2})
    [line] = lines(stream)
    assert (line["event"], line["level"], line["logger"]) == ("retrying search", "warning", "jira")
    assert line["attempt"] == 2


def test_a_traceback_stays_within_its_line() -> None:
    stream = configured()
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        structlog.get_logger("x").exception("activity_failed")
    [line] = lines(stream)
    assert "ZeroDivisionError: division by zero" in line["exception"]


def test_a_person_at_a_terminal_gets_readable_lines() -> None:
    stream = configured(Terminal())
    structlog.get_logger("x").info("page_loaded", rows=3)
    [line] = stream.getvalue().splitlines()
    assert "page_loaded" in line
    assert not line.startswith("{")


def test_details_are_left_out_and_so_is_the_chatter_of_drivers() -> None:
    stream = configured()
    structlog.get_logger("x").debug("detail")
    logging.getLogger("temporalio.worker").info("poll refused")
    logging.getLogger("psycopg.pool").warning("reconnecting")
    assert lines(stream) == []


def test_configuring_again_does_not_write_each_line_twice() -> None:
    configured()
    stream = configured()
    logging.getLogger("x").info("once")
    assert len(lines(stream)) == 1


def test_a_command_keeps_the_temporal_clients_warnings_to_itself() -> None:
    stream = io.StringIO()
    configure_logs(level=logging.ERROR, stream=stream)
    logging.getLogger("temporalio.core").warning("a poll was refused")
    assert stream.getvalue() == ""
    configure_logs(stream=stream)
    logging.getLogger("temporalio.core").warning("a poll was refused")
    assert [line["event"] for line in lines(stream)] == ["a poll was refused"]
