"""Watchdog: ends the children of a stack that was killed and cannot end them itself.

The stack runs this as a process of its own and reports to it, over a pipe, the process groups it
has: `+GROUP SIGNAL SECONDS` when one starts, `-GROUP` when it has ended. The end of the pipe is
the end of the stack: what is then left gets its signal, in the reverse order of its start, has
so many seconds to end, and is killed. The stack's lock is inherited, so the data folder counts as
in use until then.

Only the standard library is imported: this process must be small and start at once.
"""

import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

_LOOK_AGAIN_SECONDS = 0.05


def watch(lines: Iterable[str]) -> None:
    """Follow `lines` to their end, then end every group that was not reported as ended."""
    groups: dict[int, tuple[int, float]] = {}
    for line in lines:
        words = line.split()
        group = int(words[0][1:])
        if words[0].startswith("-"):
            groups.pop(group, None)
        else:
            groups[group] = (int(words[1]), float(words[2]))
    for group, (ending, seconds) in reversed(groups.items()):
        _end(group, ending, seconds)


def _end(group: int, ending: int, seconds: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(group, ending)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not _is_dead(group):
            os.kill(group, 0)
            time.sleep(_LOOK_AGAIN_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _is_dead(process: int) -> bool:
    """Whether a process is a zombie: it has ended, and nobody has read its exit status yet.

    Some containers' first process never does. Without /proc, this cannot be known.
    """
    try:
        stat = Path(f"/proc/{process}/stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] == b"Z"


if __name__ == "__main__":
    # A terminal's Ctrl-C is the stack's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watch(sys.stdin)
