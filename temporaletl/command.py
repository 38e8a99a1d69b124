"""What all commands have in common: one clear line for an error, and the exit status."""

import contextlib
import io
import os
import sys
from typing import NoReturn

import typer

from temporaletl.errors import ConfigurationError, CredentialsError, ETLError
from temporaletl.terminal import fit_to_print, print_faults_safely
from temporaletl.validation import without_prefix

# typer carries its own click; this is the base of all its usage errors.
_ClickError: type[Exception] = typer.BadParameter.__mro__[2]

#: 0 done; 1 it failed, is not there or does not answer; 2 wrong usage or configuration.
FAILED, MISUSED = 1, 2


def run_command(app: typer.Typer, name: str) -> NoReturn:
    """Run a command line; every platform error and usage error is one line on stderr.

    Exit status: 0 done; 1 the work failed, nothing has that name, or a server does not answer; 2
    wrong usage or configuration; 130 interrupted.
    """
    try:
        status = app(standalone_mode=False)
    except _ClickError as error:
        message = error.format_message() if hasattr(error, "format_message") else str(error)
        if not message:  # called without arguments: typer has shown the help instead
            sys.exit(MISUSED)
        # Pydantic's words, by which typer checks choices: they help nobody.
        message = without_prefix(message)
        _print(f"{name}: {message} (--help says more)")
        sys.exit(MISUSED)
    except (typer.Abort, KeyboardInterrupt):
        _print(f"{name}: interrupted")
        sys.exit(130)
    except ETLError as error:
        _print(f"{name}: {error}")
        sys.exit(MISUSED if isinstance(error, ConfigurationError | CredentialsError) else FAILED)
    sys.exit(status if isinstance(status, int) else 0)


def be_command(app: typer.Typer, name: str) -> NoReturn:
    """Run a command line as all that this process does; see `run_command`."""
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
    except Exception:  # noqa: BLE001 - printed as Python does, but for secrets
        sys.excepthook(*sys.exc_info())
        status = FAILED
    _leave(status)


def _print(line: str) -> None:
    print(fit_to_print(line), file=sys.stderr)  # noqa: T201 - one line, for a person


def _leave(status: int) -> NoReturn:
    """End without Python's own shutdown.

    The threads of Temporal's SDK may still be at work, and crash an interpreter that ends around
    them.
    """
    for stream in (sys.stdout, sys.stderr):
        # The reader may have ended.
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)
