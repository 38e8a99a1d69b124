r"""Text from outside, fit to be shown: what it holds is seen, and nothing of it is obeyed.

A record, or a server's error, may hold the escape sequences of terminals, and marks that turn the
order of a line around. Those are shown as `\x1b`, and never sent.
"""

import contextlib
import logging
import re
import sys
import threading
import traceback
import warnings
from types import TracebackType
from typing import TextIO

from temporaletl.secrets import redacted

#: C0 but tab and line end, DEL, C1, and what changes the direction or the lines of a text.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)
_BYTE = 0xFF
#: Another one has its reasons: logs take warnings, tests make errors of them.
_BY_PYTHON = warnings.showwarning


def printable(text: str) -> str:
    """Return a text with its control characters in a form that a terminal shows."""
    return _CONTROLS.sub(_visible, text)


def printable_json(text: str) -> str:
    """Return JSON with its control characters escaped as JSON escapes them."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def fit_to_print(text: str) -> str:
    """Return a text without secrets, and with its control characters visible."""
    return printable(redacted(text))


def _visible(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code <= _BYTE else f"\\u{code:04x}"


class _Sign:
    columns = 0


def show_sign(text: str) -> None:
    """Say on a terminal's standard error what goes on, until `erase_sign`; elsewhere nothing."""
    if sys.stderr.isatty():
        sign = f"{text} ..."
        _Sign.columns = len(sign)
        sys.stderr.write(sign)
        sys.stderr.flush()


def erase_sign() -> None:
    """Erase what `show_sign` shows, before anything else is written to the terminal."""
    if _Sign.columns:
        # Not every terminal knows how to erase a line.
        sys.stderr.write(f"\r{' ' * _Sign.columns}\r")
        sys.stderr.flush()
        _Sign.columns = 0


def print_faults_safely() -> None:
    """Have exceptions that nobody catches, warnings and stray log lines printed fit to print."""
    sys.excepthook = _print_exception
    sys.unraisablehook = lambda found: _print_exception(
        found.exc_type, found.exc_value, found.exc_traceback, found.err_msg or ""
    )
    threading.excepthook = lambda found: _print_exception(
        found.exc_type, found.exc_value, found.exc_traceback
    )
    if warnings.showwarning is _BY_PYTHON:
        warnings.showwarning = _print_warning
    if logging.lastResort is not None:
        # What says something where nobody has set up logs.
        logging.lastResort.setFormatter(_FitToPrint())


class _FitToPrint(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return fit_to_print(super().format(record))


def _print_exception(
    kind: type[BaseException],
    error: BaseException | None,
    trace: TracebackType | None,
    about: str = "",
) -> None:
    erase_sign()
    text = "".join(traceback.format_exception(kind, error, trace))
    _print(f"{about}\n{text}" if about else text)


def _print_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    _print(warnings.formatwarning(message, category, filename, lineno, line), file)


def _print(text: str, file: TextIO | None = None) -> None:
    with contextlib.suppress(OSError, ValueError):  # nobody reads it
        print(fit_to_print(text), end="", file=file or sys.stderr)
