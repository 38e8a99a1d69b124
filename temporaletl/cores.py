"""Cores that this process may use: those of its machine, or of its container's share."""

import math
import os
from pathlib import Path

_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def usable_cores(quota: Path = _QUOTA) -> int:
    """How many there are, at least one; a container's part of a core counts as one.

    `quota` is the file of the control group: microseconds of CPU in a period of so many.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    try:
        allowed, period = quota.read_text(encoding="ascii").split()
    except (OSError, ValueError):  # no such control group
        return cores
    if allowed == "max":
        return cores
    return max(1, min(cores, math.ceil(int(allowed) / int(period))))


def number_of_processes(wanted: object) -> int:
    """The number that `auto` stands for, one for each core, or that is given.

    Raises:
        ValueError: it is neither `auto` nor a number from 1.
    """
    if wanted == "auto":
        return usable_cores()
    text = str(wanted)
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ValueError("must be auto, or a number from 1")
    return int(text)
