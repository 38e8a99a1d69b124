import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from temporaletl.embedded.processes import Child, StackError, Stop, StoppedError, Watchdog

SOON = timedelta(seconds=20)
OBEYS = "import time; print('ready', flush=True); time.sleep(60)"
STUBBORN = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {OBEYS}"


@pytest.fixture
def stop() -> Iterator[Stop]:
    flag = Stop()
    yield flag
    flag.close()


@pytest.fixture
def watchdog(tmp_path: Path) -> Iterator[Watchdog]:
    with (tmp_path / "lock").open("a") as lock:
        dog = Watchdog(lock)
        yield dog
        dog.close()


def make_child(code: str, folder: Path, watchdog: Watchdog, *, patience: float = 10) -> Child:
    return Child(
        "part",
        [sys.executable, "-c", code],
        logs=folder,
        watchdog=watchdog,
        patience=timedelta(seconds=patience),
    )


def says_ready(child: Child) -> bool:
    return child.log is not None and b"ready" in child.log.read_bytes()


def is_gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet counts as ended."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return True
    return state == "Z"


def test_a_child_that_dies_is_told_with_its_last_words(
    tmp_path: Path, watchdog: Watchdog, stop: Stop
) -> None:
    child = make_child("import sys; print('disk full'); sys.exit(3)", tmp_path, watchdog)
    child.start()
    with pytest.raises(StackError, match=r"part ended with exit status 3[\s\S]*disk full"):
        child.wait_until(lambda: False, within=SOON, stop=stop)
    child.end()


def test_last_words_are_those_since_the_last_start(
    tmp_path: Path, watchdog: Watchdog, stop: Stop
) -> None:
    (tmp_path / "part.log").write_text("from yesterday\n")
    child = make_child(OBEYS, tmp_path, watchdog)
    child.start()
    child.wait_until(lambda: says_ready(child), within=SOON, stop=stop)
    assert child.last_words() == "    ready"
    child.end()


def test_a_child_that_is_not_ready_in_time_is_an_error(
    tmp_path: Path, watchdog: Watchdog, stop: Stop
) -> None:
    child = make_child(OBEYS, tmp_path, watchdog)
    child.start()
    with pytest.raises(StackError, match="part was not ready within 0 s"):
        child.wait_until(lambda: False, within=timedelta(0), stop=stop)
    child.end()


def test_waiting_ends_when_told_to_stop(tmp_path: Path, watchdog: Watchdog, stop: Stop) -> None:
    child = make_child(OBEYS, tmp_path, watchdog)
    child.start()
    stop.set()
    with pytest.raises(StoppedError):
        child.wait_until(lambda: False, within=SOON, stop=stop)
    child.end()


def test_a_child_that_does_not_end_is_killed(
    tmp_path: Path, watchdog: Watchdog, stop: Stop
) -> None:
    child = make_child(STUBBORN, tmp_path, watchdog, patience=0.1)
    child.start()
    child.wait_until(lambda: says_ready(child), within=SOON, stop=stop)
    pid = child.pid
    child.end()
    assert is_gone(pid)
    assert not child.running


def test_the_watchdog_ends_what_a_killed_process_leaves(tmp_path: Path) -> None:
    code = (
        "import sys, time; from datetime import timedelta; from pathlib import Path\n"
        "from temporaletl.embedded.processes import Child, Watchdog\n"
        "folder = Path(sys.argv[1])\n"
        "dog = Watchdog((folder / 'lock').open('a'))\n"
        f"command = [sys.executable, '-c', {STUBBORN!r}]\n"
        "child = Child('part', command, logs=folder, watchdog=dog,\n"
        "              patience=timedelta(seconds=0.2))\n"
        "child.start(); print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + SOON.total_seconds()
    while not is_gone(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert is_gone(pid)


def test_a_flag_stays_set_and_outlives_its_closing() -> None:
    flag = Stop()
    assert not flag.wait(timedelta(0))
    flag.set()
    flag.set()
    assert flag.wait(timedelta(0))
    assert flag.wait(None)
    flag.close()
    flag.set()
