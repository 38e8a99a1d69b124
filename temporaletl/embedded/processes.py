"""Child processes: started in groups of their own, logged to files, and never left behind."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import IO

from temporaletl.embedded.priority import lower_priority
from temporaletl.errors import ConfigurationError

_LOOK_AGAIN = timedelta(milliseconds=50)
#: For what hangs: a death is seen at once, and a busy machine takes minutes for a start of seconds.
_READY_WITHIN = timedelta(minutes=5)
#: A log longer than this is set aside, as `NAME.log.1`.
_LONGEST_LOG_BYTES = 10_000_000

#: The exit status with which our services refuse a bad setting.
_MISCONFIGURED = 2


class StackError(ConfigurationError):
    """A part of the stack did not start, or died; the message has its last log lines.

    `configuration` is set where a person must correct a setting first.
    """

    def __init__(self, message: str, *, configuration: bool = False) -> None:
        super().__init__(message)
        self.configuration = configuration


class StoppedError(Exception):
    """The stack was stopped while it waited for something."""


class Stop:
    """A flag that any thread and any signal handler may set.

    Unlike `threading.Event` it takes no lock, so a handler cannot meet its own thread's.
    """

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._bell: tuple[int, Path] | None = None

    def listen(self, path: Path) -> None:
        """Count as set, too, when another process writes to the FIFO `path`; see `ring`.

        It is made here, in the place of one that a killed process left, and goes with `close`.
        """
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        # For writing, too: the end of another writer must not count.
        self._bell = os.open(path, os.O_RDWR | os.O_NONBLOCK), path

    def set(self) -> None:
        with contextlib.suppress(OSError):  # full: it is set; closed: there is nothing to stop
            os.write(self._write, b".")

    def wait(self, timeout: timedelta | None) -> bool:
        """Whether it was set, at once or within `timeout` (None: wait for ever)."""
        poll = select.poll()
        poll.register(self._read, select.POLLIN)
        if self._bell is not None:
            poll.register(self._bell[0], select.POLLIN)
        return bool(poll.poll(None if timeout is None else timeout.total_seconds() * 1000))

    def close(self) -> None:
        read, write = self._read, self._write
        self._read = self._write = -1  # the numbers may soon be another file's
        os.close(write)
        os.close(read)
        if self._bell is not None:
            (bell, path), self._bell = self._bell, None
            path.unlink(missing_ok=True)
            os.close(bell)


def ring(path: Path) -> bool:
    """Set the flag of the process that listens to a FIFO; False where none does."""
    try:
        bell = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:  # there is none, or nobody has it open
        return False
    try:
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # it is full; it just ended
            os.write(bell, b".")
    finally:
        os.close(bell)
    return True


class Watchdog:
    """Ends the children when this process is killed; see `temporaletl.embedded.watchdog`.

    `keep` is a file that stays open in the watchdog: the lock that it inherits.
    """

    def __init__(self, keep: IO[str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "temporaletl.embedded.watchdog"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=() if keep is None else (keep.fileno(),),
            text=True,
        )

    def started(self, group: int, ending: signal.Signals, patience: timedelta) -> None:
        self._tell(f"+{group} {ending.value} {patience.total_seconds()}")

    def ended(self, group: int) -> None:
        self._tell(f"-{group}")

    def close(self) -> None:
        """Release the watchdog; it first ends what was not reported as ended."""
        with contextlib.suppress(BrokenPipeError):
            self._pipe.close()
        self._process.wait()

    @property
    def _pipe(self) -> IO[str]:
        assert self._process.stdin is not None  # noqa: S101 - Popen was given PIPE
        return self._process.stdin

    def _tell(self, line: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._pipe.write(f"{line}\n")
            self._pipe.flush()


class Child:
    """Child process of the stack. `ending` is the signal to end it; after `patience` it is killed.

    Its output goes to a file in `logs`, to this process's standard error where that is None. Runs
    as `owner` (user, group) where one is given, which only root may do.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        logs: Path | None,
        watchdog: Watchdog,
        environment: Mapping[str, str] | None = None,
        owner: tuple[int, int] | None = None,
        ending: signal.Signals = signal.SIGTERM,
        patience: timedelta = timedelta(seconds=15),
        lets_others_first: bool = False,
    ) -> None:
        self.name = name
        self.log = None if logs is None else logs / f"{name}.log"
        self._lets_others_first = lets_others_first
        self._command = [str(word) for word in command]
        self._environment = environment
        self._owner = owner
        self._ending = ending
        self._patience = patience
        self._watchdog = watchdog
        self._process: subprocess.Popen[bytes] | None = None
        self._log_began = 0

    def start(self) -> None:
        """Start it, or start it again; its output is added to the log."""
        with self._output() as output:
            self._process = subprocess.Popen(  # noqa: S603
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A terminal's Ctrl-C is the stack's to answer: it ends its children in order.
                start_new_session=True,
                # Another user may not be let into the folder where we are.
                cwd="/" if self._owner else None,
                umask=0o077,
                user=self._owner and self._owner[0],
                group=self._owner and self._owner[1],
                extra_groups=[] if self._owner else None,
            )
        if self._lets_others_first:
            lower_priority(self._process.pid)
        self._watchdog.started(self._process.pid, self._ending, self._patience)

    @contextlib.contextmanager
    def _output(self) -> Iterator[IO[bytes] | int]:
        if self.log is None:
            yield sys.stderr.fileno()
            return
        self.rotate_log()
        with open(self.log, "ab", opener=_private) as log:
            self._log_began = log.tell()
            yield log

    def rotate_log(self) -> None:
        """Set a long log aside, also while the process goes on writing to it.

        What it writes between the copy and the cut, some microseconds, is lost.
        """
        if self.log is None or not self.log.exists():
            return
        with self.log.open("r+b") as log:
            if log.seek(0, os.SEEK_END) <= _LONGEST_LOG_BYTES:
                return
            log.seek(0)
            # Where the disk is full, there is no copy, and room again.
            with (
                contextlib.suppress(OSError),
                open(self.log.with_name(f"{self.log.name}.1"), "wb", opener=_private) as aside,
            ):
                shutil.copyfileobj(log, aside)
            log.truncate(0)
            self._log_began = 0

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"  # noqa: S101
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """None while it runs, and before it was started."""
        return None if self._process is None else self._process.poll()

    def output(self) -> str:
        """What it logged since it was last started."""
        if self.log is None:
            return ""
        with self.log.open("rb") as log:
            log.seek(self._log_began)
            return log.read().decode(errors="replace")

    def last_words(self, count: int = 8) -> str:
        """The last lines it logged since it was last started, indented."""
        if self.log is None:
            return ""
        with contextlib.suppress(OSError), self.log.open("rb") as log:
            log.seek(self._log_began)
            lines = deque(log, maxlen=count)
            return "\n".join(f"    {line.decode(errors='replace').rstrip()}" for line in lines)
        return ""

    def died(self) -> str:
        """The error of a process that ended by itself."""
        status = self.exit_status
        how = (
            f"was killed by {signal.Signals(-status).name}"
            if status is not None and status < 0
            else f"ended with exit status {status}"
        )
        if self.log is None:
            return f"{self.name} {how}"
        words = self.last_words() or "    (nothing)"
        return f"{self.name} {how}. The last it logged, in {self.log}:\n{words}"

    def death(self) -> StackError:
        return StackError(self.died(), configuration=self.exit_status == _MISCONFIGURED)

    def ask_to_end(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self._ending)

    def end(self) -> None:
        """Signal it to end, wait, and kill the rest of its group; return when it has ended."""
        if self._process is None:
            return
        self.ask_to_end()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(self._patience.total_seconds())
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._watchdog.ended(self._process.pid)
        self._process = None

    def wait_until(
        self,
        ready: Callable[[], bool],
        *,
        stop: Stop,
        within: timedelta = _READY_WITHIN,
        every: timedelta = _LOOK_AGAIN,
    ) -> None:
        """Wait until `ready()`, which is called `every` so often.

        Raises:
            StackError: it died first, or was not ready within that time.
            StoppedError: `stop` was set first.
        """
        deadline = time.monotonic() + within.total_seconds()
        while not ready():
            if self.exit_status is not None:
                raise self.death()
            if time.monotonic() > deadline:
                raise StackError(
                    f"{self.name} was not ready within {within.total_seconds():.0f} s. "
                    f"The last it logged, in {self.log}:\n{self.last_words() or '    (nothing)'}"
                )
            if stop.wait(every):
                raise StoppedError


def _private(path: str, flags: int) -> int:
    """Open a file that none but its owner may read."""
    return os.open(path, flags, 0o600)
