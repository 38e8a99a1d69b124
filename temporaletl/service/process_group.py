"""A service in several processes: forked from one, started again when one dies, ended together."""

import contextlib
import gc
import mmap
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from temporaletl.service.restart_delay import RestartDelay
from temporaletl.telemetry.logs import get_logger

log = get_logger("temporaletl.service.process_group")

#: The exit status with which a service refuses what a person must change first.
MISCONFIGURED = 2
_PORT_BYTES = 2
_STOPPING = (signal.SIGTERM, signal.SIGINT)
_HEEDED = (*_STOPPING, signal.SIGCHLD)


class Membership:
    """A process's place in its group.

    `lifeline` is a file that is ready for reading once the parent is gone; `names` are those of all
    processes. Each enters the port of its endpoint into `ports`, memory that all share.
    """

    def __init__(
        self, lifeline: int, index: int, names: Sequence[str], ports: "memoryview[int]"
    ) -> None:
        self.lifeline = lifeline
        self.names = names
        self._index = index
        self._ports = ports

    def serves_at(self, port: int) -> None:
        """Say at which port this process can be asked."""
        self._ports[self._index] = port

    def others(self) -> dict[str, int]:
        """The ports of the other processes; 0 for one that serves none yet, or has died."""
        ports = dict(zip(self.names, self._ports, strict=True))
        del ports[self.names[self._index]]
        return ports


class ProcessGroup:
    """So many processes of one service.

    `serve` returns the exit status; it must end cleanly at SIGTERM, and once the lifeline of its
    membership tells of the parent's end. Each process is forked, so that all share the memory of
    what was imported before: `run` must be called in the main thread, and while there is no other.
    """

    def __init__(self, name: str, number: int, serve: Callable[[Membership], int]) -> None:
        self._serve = serve
        self._members = [_Member(index, f"{name}-{index + 1}") for index in range(number)]
        shared = memoryview(mmap.mmap(-1, number * _PORT_BYTES))
        self._ports: memoryview[int] = shared.cast("H")
        self._status = 0
        self._stopping = False

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; return the exit status once all processes have ended.

        The first signal has all end as `serve` does at SIGTERM. A second one kills them, and is
        what this process then dies of. One that dies is started again, with growing delays; one
        that refuses its configuration ends the others, too.
        """
        gc.collect()
        gc.freeze()  # the collector would write to memory that is shared otherwise
        self._lifeline = os.pipe()
        with _heeded_signals() as self._signals:
            for member in self._members:
                self._start(member)
            while not self._stopping or self._running:
                for number in self._next_signals():
                    self._heed(number)
                self._reap()
                self._start_again()
        for end in self._lifeline:
            os.close(end)
        return self._status

    @property
    def _running(self) -> "list[_Member]":
        return [member for member in self._members if member.pid is not None]

    def _next_signals(self) -> bytes:
        """The numbers of the signals that came, until the next process is due."""
        due = [member.due for member in self._members if member.due is not None]
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        ready, _, _ = select.select([self._signals[0]], [], [], timeout)
        return os.read(self._signals[0], 1024) if ready else b""

    def _heed(self, number: int) -> None:
        if number not in _STOPPING:
            return
        if self._stopping:
            self._die(number)
        log.info("processes_stopping", signal=signal.Signals(number).name)
        self._stop()

    def _stop(self) -> None:
        self._stopping = True
        for member in self._members:
            member.due = None
        for member in self._running:
            member.send(signal.SIGTERM)

    def _die(self, number: int) -> NoReturn:
        for member in self._running:
            member.send(signal.SIGKILL)
        for member in self._running:
            member.wait()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.pause()
        raise AssertionError  # it has not lived to see this

    def _reap(self) -> None:
        for member in self._running:
            if (status := member.ended()) is None:
                continue
            self._ports[member.index] = 0
            if status == MISCONFIGURED:
                self._status = MISCONFIGURED
                self._stop()
            elif self._stopping:
                # One that a signal met before it could heed it had nothing to end.
                if status not in (0, -signal.SIGTERM, -signal.SIGINT):
                    self._status = self._status or 1
                    log.warning("process_ended_badly", process=member.name, reason=_how(status))
            else:
                delay = member.delay.after(time.monotonic() - member.began)
                member.due = time.monotonic() + delay.total_seconds()
                log.warning(
                    "process_died",
                    process=member.name,
                    reason=_how(status),
                    restart_in_seconds=delay.total_seconds(),
                )

    def _start_again(self) -> None:
        for member in self._members:
            if member.due is not None and member.due <= time.monotonic():
                self._start(member)

    def _start(self, member: "_Member") -> None:
        member.due, member.began = None, time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        # What comes in between must not be heeded by the child in this process's stead.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _HEEDED)
        try:
            pid = os.fork()
        except OSError as error:  # no memory, no process: there may be later
            pid = None
            delay = member.delay.after(0.0)
            member.due = member.began + delay.total_seconds()
            log.warning("process_not_started", process=member.name, reason=error.strerror)
        if pid == 0:
            self._be_child(member, before)
        member.pid = pid
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if pid is not None:
            log.info("process_started", process=member.name, pid=pid)

    def _be_child(self, member: "_Member", signals: Iterable[int]) -> NoReturn:
        status = 1
        try:
            os.setsid()  # a terminal's Ctrl-C is the parent's to answer
            signal.set_wakeup_fd(-1)
            for number in _HEEDED:
                signal.signal(number, signal.SIG_DFL)
            for end in self._signals:
                os.close(end)
            # Otherwise held open by this child, it would never tell of the parent's end.
            os.close(self._lifeline[1])
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
            names = [each.name for each in self._members]
            status = self._serve(Membership(self._lifeline[0], member.index, names, self._ports))
        except BaseException:  # noqa: BLE001 - it ends here
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)


class _Member:
    """One of the processes; `due` is when to start it, by the monotonic clock."""

    def __init__(self, index: int, name: str) -> None:
        self.index = index
        self.name = name
        self.pid: int | None = None
        self.began = 0.0
        self.due: float | None = None
        self.delay = RestartDelay()

    def send(self, number: signal.Signals) -> None:
        assert self.pid is not None  # noqa: S101 - it runs
        os.kill(self.pid, number)  # not reaped yet, so that the number is nobody else's

    def ended(self) -> int | None:
        """Its exit status, a signal's number below 0; None while it runs."""
        assert self.pid is not None  # noqa: S101 - it runs
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if pid == 0:
            return None
        self.pid = None
        return os.waitstatus_to_exitcode(status)

    def wait(self) -> None:
        assert self.pid is not None  # noqa: S101 - it runs
        os.waitpid(self.pid, 0)


def _how(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


@contextmanager
def _heeded_signals() -> Iterator[tuple[int, int]]:
    """A pipe from which the numbers of signals can be read that come meanwhile."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    before = {number: signal.signal(number, lambda *_: None) for number in _HEEDED}
    signal.set_wakeup_fd(write)
    try:
        yield read, write
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)
