"""Processor priority of what loads: those who ask, and are answered from memory, go first."""

import contextlib
import os
from pathlib import Path

_NICENESS = 10


def lower_priority(process: int) -> None:
    """Let others go first, as `nice` does; safe to repeat, and for one that has ended.

    Where Linux groups processes by session, one process's niceness counts within its session alone:
    the group's is lowered, too. (sched(7), "The autogroup feature")
    """
    with contextlib.suppress(OSError):  # it has ended already
        os.setpriority(os.PRIO_PROCESS, process, _NICENESS)
    with contextlib.suppress(OSError):  # no such groups here
        Path(f"/proc/{process}/autogroup").write_text(str(_NICENESS))
