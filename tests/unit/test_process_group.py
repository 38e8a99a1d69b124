import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from temporaletl.cores import number_of_processes, usable_cores
from temporaletl.service.process_group import MISCONFIGURED
from temporaletl.service.restart_delay import RestartDelay

_GROUP = """
import os, select, signal, sys
from temporaletl.telemetry.logs import configure_logs
from temporaletl.service.process_group import MISCONFIGURED, ProcessGroup

configure_logs()
how, status = sys.argv[1], int(sys.argv[2])

def say(what):
    # In one piece: others write to the same pipe.
    os.write(1, f"{what} {os.getpid()}\\n".encode())

def serve(member):
    read, write = os.pipe()
    os.set_blocking(write, False)
    if how == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(write)
    member.serves_at(9464)
    say("serves")
    if how == "one fails" and "worker-2" in member.others():
        while not all(member.others().values()):
            select.select([], [], [], 0.01)
        return MISCONFIGURED
    if how != "fails":
        select.select([read] if how == "stubborn" else [read, member.lifeline], [], [])
    say(f"sees {member.others()} and")
    say("ends")
    return status

sys.exit(ProcessGroup("worker", 2, serve).run())
"""
_WITHIN_SECONDS = 180


class Group:
    """A group of two in a process of its own; `said` is all that it has said so far."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said = ""

    def hear(self, words: str, times: int = 1) -> None:
        """Read until it has said that so many times."""
        assert self.process.stdout is not None
        while self.said.count(words) < times:
            line = self.process.stdout.readline()
            assert line, self.said
            self.said += line

    def end(self) -> int:
        out, _ = self.process.communicate(timeout=_WITHIN_SECONDS)
        self.said += out
        return self.process.returncode

    @property
    def pids(self) -> list[int]:
        """The processes that have served, in the order in which they began."""
        lines = [line.split() for line in self.said.splitlines()]
        return [int(words[1]) for words in lines if words[0] == "serves"]


@contextmanager
def group(how: str = "obeys", status: int = 0) -> Iterator[Group]:
    command = [sys.executable, "-c", _GROUP, how, str(status)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        running = Group(process)
        try:
            yield running
        finally:
            process.kill()
            for pid in running.pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_has_all_processes_end_what_they_do(number: signal.Signals) -> None:
    with group() as running:
        running.hear("serves", 2)
        running.process.send_signal(number)
        assert running.end() == 0
        assert running.said.count("ends") == 2


def test_a_process_that_dies_is_told_of_and_started_again() -> None:
    with group() as running:
        running.hear("serves", 2)
        os.kill(running.pids[0], signal.SIGKILL)
        running.hear("serves", 3)
        assert "killed by SIGKILL" in running.said
        running.process.send_signal(signal.SIGTERM)
        assert running.end() == 0
        assert running.said.count("ends") == 2


def test_a_second_signal_ends_them_at_once_and_is_what_the_group_dies_of() -> None:
    with group("stubborn") as running:
        running.hear("serves", 2)
        running.process.send_signal(signal.SIGTERM)
        running.hear("processes_stopping")
        running.process.send_signal(signal.SIGINT)
        assert running.end() == -signal.SIGINT
        assert not any(Path(f"/proc/{pid}").exists() for pid in running.pids)


def test_processes_end_with_a_group_that_is_killed() -> None:
    with group() as running:
        running.hear("serves", 2)
        running.process.kill()
        running.end()  # they hold its output open
        assert running.said.count("ends") == 2


@pytest.mark.parametrize(("how", "status", "told"), [("obeys", 3, 1), ("fails", 2, 2)])
def test_the_exit_status_says_how_they_ended(how: str, status: int, told: int) -> None:
    """And one that is refused its settings is not started again: the others end, too."""
    with group(how, status) as running:
        running.hear("serves", 1)
        if how == "obeys":
            running.hear("serves", 2)
            running.process.send_signal(signal.SIGTERM)
        assert running.end() == told
        assert "restart_in_seconds" not in running.said


def test_members_know_where_to_ask_the_others_and_of_the_dead_nowhere() -> None:
    with group() as running:
        running.hear("serves", 2)
        running.process.send_signal(signal.SIGTERM)
        running.hear("ends", 1)
        first = running.said
        running.end()
    assert "sees {'worker-1': 9464}" in first or "sees {'worker-2': 9464}" in first
    with group("one fails") as running:
        assert running.end() == MISCONFIGURED
    assert "sees {'worker-1': 0}" in running.said


@pytest.mark.parametrize(
    ("quota", "cores"), [("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1)]
)
def test_no_more_cores_are_counted_than_the_container_may_use(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, cores: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: range(8))
    file = tmp_path / "cpu.max"
    for text, expected in ((quota, cores), ("max 100000", 8), ("", 8)):
        file.write_text(text)
        assert usable_cores(file) == expected


def test_auto_is_one_process_for_each_core() -> None:
    assert number_of_processes("auto") == usable_cores() >= 1
    assert number_of_processes("3") == number_of_processes(3) == 3


@pytest.mark.parametrize("wanted", ["0", "-1", "many", "", "1.5"])
def test_what_is_no_number_of_processes_is_refused(wanted: str) -> None:
    with pytest.raises(ValueError, match="auto, or a number from 1"):
        number_of_processes(wanted)


def test_delays_grow_to_a_bound_and_begin_anew_after_a_steady_run() -> None:
    delay = RestartDelay()
    assert [delay.after(1).total_seconds() for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]
    assert delay.after(61) == timedelta(seconds=1)
