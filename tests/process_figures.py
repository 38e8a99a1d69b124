"""What processes used, as Linux tells in /proc."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: What is counted as nothing and as one: the resolution of `cpu_seconds`.
TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pids: Iterable[int]) -> float:
    """CPU time of these processes and of those of their children that have ended."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks * TICK_SECONDS


def peak_memory_bytes(pid: int) -> int:
    """The most memory that a process held since it began, or since `forget_peak_memory`."""
    lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    [peak] = [line for line in lines if line.startswith("VmHWM:")]
    return int(peak.split()[1]) * 1024


def forget_peak_memory(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


@dataclass(frozen=True)
class Held:
    """What a process holds at a moment."""

    memory_bytes: int
    descriptors: int
    threads: int


def held_by(pid: int) -> Held:
    told = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
    )
    return Held(
        memory_bytes=int(told["VmRSS"].split()[0]) * 1024,
        descriptors=sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        threads=int(told["Threads"]),
    )
