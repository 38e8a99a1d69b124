"""Keepers of child processes, on a machine that can start none for a while."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from temporaletl.embedded.services import Service
from temporaletl.engine import process
from temporaletl.engine.process import EngineProcess
from temporaletl.service import restart_delay
from tests.waiting import until


def start_after(failures: int, starts: list[str]) -> Callable[[], None]:
    def start() -> None:
        starts.append("start")
        if len(starts) <= failures:
            raise BlockingIOError(11, "Resource temporarily unavailable")

    return start


class DeadChild:
    """A process that has died, and can be started again after one failure."""

    name = "worker"
    exit_status: int | None = 1
    running = False

    def __init__(self) -> None:
        self.starts: list[str] = []
        self.start = start_after(1, self.starts)

    def died(self) -> str:
        return "worker ended with exit status 1"

    def end(self) -> None:
        self.exit_status = None


async def test_a_service_that_cannot_be_started_is_started_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(restart_delay, "_FIRST", timedelta(milliseconds=1))
    child, reports = DeadChild(), list[str]()
    service = Service(child)  # type: ignore[arg-type]

    def report(line: str) -> None:
        reports.append(line)
        raise BrokenPipeError  # who reads it has ended

    def started() -> bool:
        service.look_after(report)
        return reports[-1] == "worker was started again"

    await until(started)
    assert len(child.starts) == 2
    assert reports[-2].startswith("worker could not be started again: Resource temporarily")


async def test_an_engine_that_cannot_be_started_is_started_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts: list[str] = []
    start = start_after(1, starts)

    async def start_engine(*_: str) -> asyncio.subprocess.Process:
        start()
        return await asyncio.create_subprocess_exec("true", stdin=asyncio.subprocess.PIPE)

    async def waits() -> bool:
        return len(starts) < 2

    monkeypatch.setattr(process, "start_engine", start_engine)
    monkeypatch.setattr(process, "_FIRST_PAUSE", timedelta(milliseconds=1))
    async with EngineProcess(waits):
        await until(lambda: len(starts) == 2)
