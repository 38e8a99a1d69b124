"""Logs: one event a line, past facts with their ids; JSON unless a person is watching."""

import logging
import sys
from typing import Any, TextIO

import structlog

from temporaletl.secrets import cleaned
from temporaletl.terminal import fit_to_print, print_faults_safely, printable_json


def _console() -> structlog.dev.ConsoleRenderer:
    return structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)


def _fit_to_print(
    _logger: object, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Clean every value before it is coloured."""
    return {
        fit_to_print(str(name)): value
        if isinstance(value, bool | int | float | None)
        else fit_to_print(str(value))
        for name, value in event.items()
    }


def _without_secrets(
    _logger: object, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    return {str(name): value for name, value in cleaned(event).items()}


def _printable(_logger: object, _name: str, line: Any) -> str:
    return printable_json(str(line))


def configure_logs(*, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's records to one stream in one form.

    Readable lines on a terminal, JSON elsewhere. Call once, at start-up.
    """
    target = stream or sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    final: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, _fit_to_print, _console()]
        if target.isatty()
        else [
            structlog.processors.format_exc_info,
            _without_secrets,
            structlog.processors.JSONRenderer(),
            _printable,
        ]
    )
    handler = logging.StreamHandler(target)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *final],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    logging.captureWarnings(capture=True)
    print_faults_safely()
    # Each refused poll of a Temporal server that is down would be a line of its own.
    logging.getLogger("temporalio").setLevel(max(level, logging.WARNING))
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
