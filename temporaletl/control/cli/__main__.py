"""`etl`, and `python -m temporaletl.control.cli`: Ctrl-C ends it in one line at any time."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

from temporaletl.control.cli.signs import show_sign_of


def main() -> NoReturn:
    """Run the command line; see `temporaletl.command.run_command` for the exit status."""
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if heeded:
        signal.signal(signal.SIGINT, _leave)
    show_sign_of(sys.argv[1:])
    # It takes most of the time of a short command, and leaves nothing to be ended.
    from temporaletl.control.cli.main import main as run  # noqa: PLC0415

    if heeded:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    os.write(2, b"\netl: interrupted\n" if os.isatty(2) else b"etl: interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    main()
