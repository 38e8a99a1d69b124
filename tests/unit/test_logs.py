import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from temporaletl.errors import ConfigurationError
from temporaletl.secrets import REDACTED, forget_secrets, remember_secret
from temporaletl.telemetry.logs import configure_logs, get_logger, unexpected


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


def _failed() -> Exception:
    token = "canary-in-a-local"  # what a traceback with locals would show
    found: dict[str, str] = {}
    try:
        found[token[:6]]
    except KeyError as error:
        return error
    raise AssertionError


def test_without_a_configuration_warnings_go_to_standard_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    structlog.reset_defaults()
    log = get_logger("temporaletl.engine")
    with structlog.contextvars.bound_contextvars(workflow_id="w1"):
        log.info("batch_planned", jobs=1)
        log.warning("attempt_failed", attempt=1, exception=unexpected(_failed()))
    told = capsys.readouterr()
    assert told.out == ""
    assert "batch_planned" not in told.err
    for part in ("attempt_failed", "w1", "temporaletl.engine", "KeyError: 'canary'"):
        assert part in told.err
    assert not structlog.is_configured(), "the host's own loggers are as they were"


@pytest.mark.parametrize("configured", [False, True])
def test_no_value_of_an_event_holds_a_secret_or_a_local_whoever_configures(
    capsys: pytest.CaptureFixture[str], *, configured: bool
) -> None:
    structlog.reset_defaults()
    if configured:
        structlog.configure(processors=structlog.get_config()["processors"])
    remember_secret("canary")
    try:
        get_logger("x").warning(
            "attempt_failed",
            error="no canary",
            of={"the": ["canary"]},
            exception=unexpected(_failed()),
        )
    finally:
        forget_secrets()
    told = capsys.readouterr()
    assert "canary" not in told.out + told.err
    assert (told.out + told.err).count(REDACTED) == 3
    assert f"KeyError: '{REDACTED}'" in told.out + told.err


def test_the_platforms_own_errors_need_no_traceback() -> None:
    stream = configured()
    get_logger("x").warning("failed", exception=unexpected(ConfigurationError("no URL")))
    [line] = lines(stream)
    assert "exception" not in line


def test_a_values_type_stays_where_it_holds_no_secret() -> None:
    with structlog.testing.capture_logs() as told:
        get_logger("x").warning("loaded", rows=3, of=(1, 2))
    assert told == [{"event": "loaded", "log_level": "warning", "rows": 3, "of": (1, 2)}]
