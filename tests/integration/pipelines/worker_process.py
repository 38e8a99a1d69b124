"""Workers' processes, to be killed; and records that are held back until one is."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

from temporaletl.warehouse.connection import Warehouse
from tests.integration.command_line import CommandLine

WITHIN_SECONDS = 180


@asynccontextmanager
async def worker(commands: CommandLine) -> AsyncGenerator[asyncio.subprocess.Process]:
    """A worker's process, which is killed when the block ends."""
    process = await _started(commands)
    try:
        yield process
        assert process.returncode is None, (commands.folder / "worker.log").read_text()
    finally:
        _kill(process)
        await process.wait()


class Workers:
    """One worker's process after the other: each is followed by another when it is killed."""

    def __init__(self) -> None:
        self.killed = 0
        self._process: asyncio.subprocess.Process | None = None

    def kill(self) -> None:
        """Kill the present one; safe to call from another thread."""
        assert self._process is not None
        self.killed += 1
        _kill(self._process)

    async def keep_up(self, commands: CommandLine) -> None:
        try:
            while True:
                self._process = await _started(commands)
                await self._process.wait()
        finally:
            if self._process is not None:
                _kill(self._process)
                await self._process.wait()


@asynccontextmanager
async def workers(commands: CommandLine) -> AsyncGenerator[Workers]:
    """Workers that follow each other until the block ends."""
    following = Workers()
    keeping = asyncio.create_task(following.keep_up(commands))
    try:
        yield following
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def _started(commands: CommandLine) -> asyncio.subprocess.Process:
    with (commands.folder / "worker.log").open("ab") as log:
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "temporaletl.worker"),
            cwd=commands.folder,
            env=commands.environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _kill(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        os.killpg(process.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Held:
    """Rows of the warehouse that a transaction is about to write: whoever writes them, too, waits.

    `hold` is safe to call from another thread.
    """

    _holding: psycopg.Connection[Any]
    _watching: psycopg.Connection[Any]

    def hold(self, table: str, **row: object) -> None:
        self._holding.execute(
            sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
                sql.Identifier(table),
                sql.SQL(", ").join(map(sql.Identifier, row)),
                sql.SQL(", ").join(sql.Placeholder() * len(row)),
            ),
            list(row.values()),
        )

    def lock(self, table: str, id_: int) -> None:
        """Hold a row that is there."""
        statement = sql.SQL("SELECT FROM {} WHERE id = %s FOR UPDATE").format(sql.Identifier(table))
        self._holding.execute(statement, [id_])

    def is_waited_for(self) -> bool:
        pid = self._holding.info.backend_pid
        found = self._watching.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))", [pid]
        ).fetchone()
        return found is not None and found[0] > 0


@contextmanager
def holding(url: str, warehouse: Warehouse) -> Iterator[Held]:
    """Holds rows until the block ends."""
    options = f"-csearch_path={warehouse.schema}"
    with (
        psycopg.connect(url, options=options) as holder,
        psycopg.connect(url, autocommit=True) as watcher,
    ):
        try:
            yield Held(holder, watcher)
        finally:
            holder.rollback()
