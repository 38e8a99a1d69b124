"""What all commands have in common: one clear line for an error, and the exit status."""

import contextlib
import errno
import io
import os
import shutil
import sys
import textwrap
from typing import Any, NoReturn

import typer
from typer.core import TyperOption

from temporaletl.errors import ConfigurationError, CredentialsError, ETLError
from temporaletl.terminal import erase_sign, fit_to_print, print_faults_safely
from temporaletl.validation import without_prefix

# typer carries its own click; this is the base of all its usage errors.
_ClickError: type[Exception] = typer.BadParameter.__mro__[2]


def _show_no_type_of_flags() -> None:
    """Have the help show a type only where an option takes a value: typer has <bool> for flags."""
    shown = TyperOption.display_type_rich

    def type_of(option: TyperOption, ctx: Any) -> str | None:
        return None if option.is_flag and option.metavar is None else shown(option, ctx)

    TyperOption.display_type_rich = type_of  # type: ignore[method-assign, assignment]


_show_no_type_of_flags()

#: 0 done; 1 it failed, is not there or does not answer; 2 wrong usage or configuration; Ctrl-C.
FAILED, MISUSED, INTERRUPTED = 1, 2, 130
#: Why an output cannot be written: a full disk, or a terminal that is gone.
_UNWRITABLE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})


def run_command(app: typer.Typer, name: str) -> NoReturn:
    """Run a command line; every platform error and usage error is one line on stderr.

    Exit status: 0 done; 1 the work failed, nothing has that name, or a server does not answer; 2
    wrong usage or configuration; 130 interrupted.
    """
    try:
        status = app(standalone_mode=False)
    except _ClickError as error:
        message = _usage_error(error)
        if not message:  # called without arguments: typer has shown the help instead
            sys.exit(MISUSED)
        # Pydantic's words, by which typer checks choices: they help nobody.
        message = without_prefix(message)
        _print(f"{name}: {message} (--help says more)")
        sys.exit(MISUSED)
    except (typer.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except ETLError as error:
        _print(f"{name}: {error}")
        sys.exit(MISUSED if isinstance(error, ConfigurationError | CredentialsError) else FAILED)
    if status == INTERRUPTED:  # typer's own word for Ctrl-C, too
        print_interrupted(f"{name}: interrupted")
    sys.exit(status if isinstance(status, int) else 0)


def _usage_error(error: Exception) -> str:
    if possible := getattr(error, "possibilities", None):
        return f"{getattr(error, 'message', error)}; did you mean {' or '.join(sorted(possible))}?"
    return error.format_message() if hasattr(error, "format_message") else str(error)


def print_interrupted(line: str) -> None:
    """Print the line of a command that Ctrl-C ends; a terminal has shown that as `^C`."""
    if sys.stderr.isatty():
        erase_sign()
        sys.stderr.write("\n")
    _print(line)


def be_command(app: typer.Typer, name: str) -> NoReturn:
    """Run a command line as all that this process does; see `run_command`."""
    _open_what_is_closed()
    print_faults_safely()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal may have fewer characters than a text.
            stream.reconfigure(errors="backslashreplace")
    try:
        run_command(app, name)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else FAILED
    except BrokenPipeError:
        status = FAILED
    except Exception as error:  # noqa: BLE001 - printed as Python does, but for secrets
        if isinstance(error, OSError) and error.filename is None and error.errno in _UNWRITABLE:
            with contextlib.suppress(OSError):
                _print(f"{name}: the output cannot be written: {error.strerror}")
        else:
            sys.excepthook(*sys.exc_info())
        status = FAILED
    _leave(status)


def _open_what_is_closed() -> None:
    """Have what is written to a closed stream go nowhere: not to a file that gets its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number
    sys.stdout = sys.stdout or os.fdopen(1, "w", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", closefd=False)


def _print(line: str) -> None:
    """Print a line; a terminal gets it wrapped between words."""
    erase_sign()
    line = fit_to_print(line)
    if sys.stderr.isatty():
        width = shutil.get_terminal_size().columns
        line = textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
    print(line, file=sys.stderr)  # noqa: T201 - for a person


def _leave(status: int) -> NoReturn:
    """End without Python's own shutdown.

    The threads of Temporal's SDK may still be at work, and crash an interpreter that ends around
    them.
    """
    erase_sign()
    for stream in (sys.stdout, sys.stderr):
        # The reader may have ended.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
