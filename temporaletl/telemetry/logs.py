"""Logs: one event a line, past facts with their ids; JSON unless a person is watching.

    log = get_logger("temporaletl.engine")
    log.warning("attempt_failed", attempt=1, error=str(error), exception=unexpected(error))

The services configure structlog with `configure_logs`; commands log nothing (`quiet_logs`), and
import it only where they run an engine. A program that uses the engine as a library may have its
own configuration, or none: so secrets are removed here, before structlog is handed anything, and
it never gets an exception, whose locals it may print.
"""

from __future__ import annotations

import copy
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, TextIO

from temporaletl.errors import PermanentError, RetryableError
from temporaletl.secrets import cleaned, redacted
from temporaletl.telemetry.run_log import note
from temporaletl.terminal import fit_to_print, print_faults_safely, printable_json

if TYPE_CHECKING:
    import structlog


class Logger:
    """Logger of the platform: no value holds a secret that this process knows.

    What is about a run is kept in its log, too: see `temporaletl.telemetry.run_log`. Where the
    host program has not configured structlog, warnings and above are lines on standard error, and
    standard output is left alone. A value of None is left out.
    """

    #: Of this process: nothing is written, see `quiet_logs`.
    quiet: ClassVar[bool] = False

    def __init__(self, name: str) -> None:
        self._name = name
        self._configured: Any = None

    def info(self, event: str, **values: Any) -> None:
        note("info", self._name, event, values)
        if not self.quiet and (log := self._of_program()):
            log.info(event, **_safe(values))

    def warning(self, event: str, **values: Any) -> None:
        note("warning", self._name, event, values)
        if not self.quiet:
            log = self._of_program() or _unconfigured(self._name)
            log.warning(event, **_safe(values))

    def _of_program(self) -> Any:
        """The logger that the program has configured; None where it has configured none."""
        import structlog

        if not structlog.is_configured():
            return None
        if self._configured is None:
            self._configured = structlog.get_logger(self._name)
        return self._configured


#: Of this process: what names the present trace, where there are traces.
_trace_ids: Callable[[], Mapping[str, Any]] | None = None


def name_trace_by(ids: Callable[[], Mapping[str, Any]] | None) -> None:
    """Have all that is logged from here on carry these ids as well; None: no more."""
    global _trace_ids  # noqa: PLW0603 - of a process, as its logs
    _trace_ids = ids


def _with_trace(
    _logger: object, _name: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    if _trace_ids is not None:
        event.update(_trace_ids())
    return event


def get_logger(name: str) -> Logger:
    """The logger of a module, for its whole life."""
    return Logger(name)


def bound(**ids: Any) -> AbstractContextManager[None]:
    """Have all that this context logs carry these ids, while it lasts."""
    import structlog

    return structlog.contextvars.bound_contextvars(**ids)


def unexpected(error: BaseException) -> str | None:
    """The traceback of an error that nobody raised on purpose, for the log's `exception`.

    Plain text without values of variables, and without secrets; None for the platform's own
    errors, whose message is enough.
    """
    if isinstance(error, PermanentError | RetryableError):
        return None
    return redacted("".join(traceback.format_exception(error)).rstrip())


def _safe(values: dict[str, Any]) -> dict[str, Any]:
    return {name: _redacted(value) for name, value in values.items() if value is not None}


def _redacted(value: Any) -> Any:
    """A value of the same type, unless there is a secret in it."""
    text = str(value)
    return value if redacted(text) == text else cleaned(value)


def _unconfigured(name: str) -> Any:
    """A logger to what is standard error now: notebooks replace it."""
    import structlog

    return structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _fit_to_print,
            _console(colors=sys.stderr.isatty()),
        ],
        wrapper_class=structlog.BoundLogger,
    ).bind(logger=name)


def _console(*, colors: bool = True) -> structlog.dev.ConsoleRenderer:
    import structlog

    return structlog.dev.ConsoleRenderer(
        colors=colors, exception_formatter=structlog.dev.plain_traceback
    )


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


class _ToldOnce(logging.Filter):
    """Leaves the text of a failed activity's error to our own line, which knows what to leave out.

    The SDK logs it as it is, whatever it quotes.
    """

    def filter(self, record: logging.LogRecord) -> logging.LogRecord:
        if not record.exc_info or not record.name.startswith("temporalio.activity"):
            return record
        record = copy.copy(record)
        if isinstance(record.exc_info, tuple) and record.exc_info[0] is not None:
            record.error_type = record.exc_info[0].__name__
        record.exc_info = record.exc_text = None
        return record


def _printable(_logger: object, _name: str, line: Any) -> str:
    return printable_json(str(line))


def configure_logs(*, level: int = logging.INFO, stream: TextIO | None = None) -> None:
    """Send structlog's and the standard library's records to one stream in one form.

    Readable lines on a terminal, JSON elsewhere. Call once, at start-up.
    """
    _import_without_rich()
    import structlog

    target = stream or sys.stderr
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _with_trace,
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
    handler.addFilter(_ToldOnce())
    Logger.quiet = False
    logging.getLogger().handlers[:] = [handler]
    _set_level(level)


def _import_without_rich() -> None:
    """Import structlog without rich, which takes a twentieth of a service's start.

    It would import it for tracebacks, which are never drawn here.
    """
    if "structlog" in sys.modules or "rich" in sys.modules:
        return
    sys.modules["rich"] = None  # type: ignore[assignment]  # how an import is made to fail
    try:
        import structlog  # noqa: F401
    finally:
        del sys.modules["rich"]


def quiet_logs() -> None:
    """Keep logs off a command's terminal; what libraries log as errors are plain lines.

    Call once, at start-up, instead of `configure_logs`.
    """
    Logger.quiet = True
    _set_level(logging.ERROR)


def _set_level(level: int) -> None:
    logging.getLogger().setLevel(level)
    logging.captureWarnings(capture=True)
    print_faults_safely()
    # Each refused poll of a Temporal server that is down would be a line of its own.
    logging.getLogger("temporalio").setLevel(max(level, logging.WARNING))
    logging.getLogger("psycopg.pool").setLevel(logging.ERROR)
