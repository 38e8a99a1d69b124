"""Progress shown while somebody waits: a bar on a terminal, lines elsewhere."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from temporaletl.control.cli.output import count, err, note
from temporaletl.control.operations.progress import Snapshot
from temporaletl.messages import RowCounts
from temporaletl.terminal import fit_to_print

_LINE_EVERY = timedelta(seconds=5)
_RATE_OVER = timedelta(seconds=15)


class Rate:
    """Rows a second over the last snapshots."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def update(self, rows: int, now: float) -> float | None:
        """Take note of the rows so far; None while there is nothing to compare them with."""
        if not rows:
            self._seen.clear()  # the time it takes to plan says nothing about the loading
        self._seen.append((now, rows))
        while len(self._seen) > 2 and now - self._seen[0][0] > _RATE_OVER.total_seconds():  # noqa: PLR2004
            self._seen.popleft()
        then, before = self._seen[0]
        return (rows - before) / (now - then) if now > then else None


def rows_line(rows: RowCounts, rate: float | None = None) -> str:
    """Rows by outcome in one line; outcomes without rows are left out."""
    parts = [f"{number:,} {name}" for name, number in rows.model_dump().items() if number] or [
        "no rows yet"
    ]
    if rate:
        parts.append(f"{rate:,.0f} rows/s")
    return ", ".join(parts)


class _Bar:
    """A bar of jobs with the rows below it, for a terminal."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._rate = Rate()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("jobs"),
            TimeElapsedColumn(),
            console=err(),
            expand=True,
        )
        self._task = self._bar.add_task(title, total=None)
        self._below = Text()

    def render(self) -> Group:
        return Group(self._bar, self._below)

    def show(self, snapshot: Snapshot) -> None:
        rate = self._rate.update(snapshot.loaded, time.monotonic())
        state = "" if snapshot.state == "running" else f" {snapshot.state}"
        self._bar.update(
            self._task,
            description=f"{self._title}{state}",
            total=snapshot.planned,
            completed=snapshot.done,
        )
        lines = []
        if snapshot.rows is not None:
            lines.append(Text(rows_line(snapshot.rows, rate), style="dim"))
        if snapshot.failed:
            lines.append(Text(f"{count(snapshot.failed, 'job')} failed", style="bold red"))
        if snapshot.trouble:
            lines.append(Text(f"waiting: {fit_to_print(snapshot.trouble)}", style="yellow"))
        self._below = Text("\n").join(lines)


class _Lines:
    """A line every few seconds, for logs and pipes."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._rate = Rate()
        self._due = time.monotonic()

    def show(self, snapshot: Snapshot) -> None:
        now = time.monotonic()
        rate = self._rate.update(snapshot.loaded, now)
        if now < self._due:
            return
        self._due = now + _LINE_EVERY.total_seconds()
        line = f"{self._title} {snapshot.state}"
        if snapshot.planned is not None:
            line += f": {snapshot.done:,} of {count(snapshot.planned, 'job')}"
        if snapshot.failed:
            line += f", {snapshot.failed:,} failed"
        if snapshot.rows is not None:
            line += f"; {rows_line(snapshot.rows, rate)}"
        if snapshot.trouble:
            line += f"; waiting: {snapshot.trouble}"
        note(line)


@contextmanager
def display(title: str) -> Iterator[Callable[[Snapshot], None]]:
    """Show snapshots on standard error, in the form that fits where it goes."""
    if not err().is_terminal:
        yield _Lines(title).show
        return
    bar = _Bar(title)
    with Live(get_renderable=bar.render, console=err(), transient=True):
        yield bar.show
