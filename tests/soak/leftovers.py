"""What nobody has ended, though every run has: processes, and executions in Temporal."""

import asyncio
import contextlib
from collections.abc import Collection
from datetime import timedelta
from pathlib import Path
from time import monotonic

from temporaletl.temporal.connect import open_client
from temporaletl.temporal.endpoint import Endpoint

_CONNECTS_WITHIN = timedelta(seconds=30)
_BETWEEN_LOOKS_SECONDS = 0.5


def stray_processes(folder: Path, known: Collection[int]) -> list[str]:
    """Processes of the platform in that folder that are neither known nor a known one's child."""
    mark, found = str(folder).encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        # Another user's, or one that has just ended.
        with contextlib.suppress(PermissionError, FileNotFoundError, ProcessLookupError):
            command = (process / "cmdline").read_bytes()
            if mark not in command + (process / "environ").read_bytes():
                continue
            status = (process / "stat").read_text("utf-8").rpartition(")")[2].split()
            if not {int(process.name), int(status[1])} & set(known):
                words = command.replace(b"\0", b" ").decode(errors="replace")
                found.append(f"process {process.name} was left behind: {words}")
    return found


async def open_executions(endpoint: Endpoint, *, within_seconds: float = 60) -> list[str]:
    """Executions that Temporal still lists as running then: it lists an end some time after it."""
    client = await open_client(endpoint, within=_CONNECTS_WITHIN)
    deadline = monotonic() + within_seconds
    while True:
        listed = client.list_workflows("ExecutionStatus = 'Running'")
        running = [f"{each.id} goes on in Temporal" async for each in listed]
        if not running or monotonic() > deadline:
            return running
        await asyncio.sleep(_BETWEEN_LOOKS_SECONDS)
