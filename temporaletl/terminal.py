r"""Text from outside, fit to be shown: what it holds is seen, and nothing of it is obeyed.

A record, or a server's error, may hold the escape sequences of terminals, and marks that turn the
order of a line around. Those are shown as `\x1b`, and never sent.
"""

import re
import sys
import threading
import traceback
from types import TracebackType

from temporaletl.secrets import redacted

#: C0 but tab and line end, DEL, C1, and what changes the direction or the lines of a text.
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]"
)
_BYTE = 0xFF


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


def print_tracebacks_safely() -> None:
    """Have exceptions that nobody catches printed without secrets and control characters."""
    sys.excepthook = _print_exception
    threading.excepthook = lambda told: (
        None if told.exc_value is None else _print_exception(*told[:2], told.exc_traceback)  # type: ignore[arg-type]
    )


def _print_exception(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    text = "".join(traceback.format_exception(kind, error, trace))
    print(fit_to_print(text), end="", file=sys.stderr)  # noqa: T201 - as Python itself does
