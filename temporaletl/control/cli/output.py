"""Output of the commands: tables for people, one JSON document for programs.

Results go to standard output, everything else to standard error. Texts from outside are never
taken for markup.
"""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from temporaletl.secrets import cleaned
from temporaletl.terminal import fit_to_print, printable, printable_json

if TYPE_CHECKING:
    from pydantic import SecretStr

    from temporaletl.messages import Window

#: Wide enough that nothing is cut where no terminal sets the width.
_UNBOUNDED_WIDTH = 10_000

STATE_STYLES = {
    "completed": "green",
    "running": "cyan",
    "pausing": "yellow",
    "paused": "yellow",
    "cancelling": "magenta",
    "planning": "cyan",
    "waiting": "yellow",
    "failed": "bold red",
    "lost": "bold red",
    "cancelled": "magenta",
    "skipped": "yellow",
}


@cache
def out() -> Console:
    return _console(stderr=False)


@cache
def err() -> Console:
    return _console(stderr=True)


class _SafeConsole(Console):
    """A console to which no text's control characters go."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            text, style, control = segment
            yield segment if control else Segment(printable(text), style)


def _console(*, stderr: bool) -> Console:
    console = _SafeConsole(
        stderr=stderr, highlight=False, markup=False, emoji=False, soft_wrap=False
    )
    if not console.is_terminal:
        console.width = _UNBOUNDED_WIDTH
    return console


def say(line: str | Text, style: str | None = None) -> None:
    """A line of the result."""
    out().print(_fit(line), style=style, soft_wrap=True)
    out().file.flush()


def note(line: str | Text, style: str | None = None) -> None:
    """A line beside the result."""
    err().print(_fit(line), style=style, soft_wrap=True)


def _fit(line: str | Text) -> Text:
    if isinstance(line, str):
        return Text(fit_to_print(line))
    fit = fit_to_print(line.plain)
    # Its colours are of other places then.
    return line if fit == line.plain else Text(fit, style=line.style)


def print_json(document: Any, *, secrets: "Mapping[str, SecretStr] | None" = None) -> None:
    """Print the one document of a `--json` command.

    `secrets` are fields of it that are printed as they are: what the command is there to show.
    """
    shown = {name: secret.get_secret_value() for name, secret in (secrets or {}).items()}
    document = cleaned(document) | shown if shown else cleaned(document)
    text = printable_json(json.dumps(document, indent=2, ensure_ascii=False))
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_secret(secret: "SecretStr") -> None:
    """Print a secret as a line of the result: what the command is there to show."""
    sys.stdout.write(f"{secret.get_secret_value()}\n")
    sys.stdout.flush()


def make_table(*columns: str, right: Iterable[str] = ()) -> Table:
    """A table without a frame; the columns in `right` hold numbers."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    numbers = set(right)
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in numbers else "left",
            no_wrap=column in numbers,
            overflow="fold",
        )
    return table


def add_row(table: Table, *cells: object) -> None:
    table.add_row(*(_fit(cell) if isinstance(cell, Text) else Text(_shown(cell)) for cell in cells))


def print_table(table: Table) -> None:
    """Print a table; where no terminal is, without the spaces that fill its last column."""
    if out().is_terminal:
        out().print(table)
        return
    with out().capture() as captured:
        out().print(table)
    for line in captured.get().splitlines():
        say(line.rstrip())


def print_fields(fields: Sequence[tuple[str, object]]) -> None:
    """Print names and values, one pair a line; pairs without a value are left out."""
    shown = [(name, value) for name, value in fields if value not in (None, "")]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        label = Text(f"  {name:<{width}}  ", style="dim")
        text = _fit(value) if isinstance(value, Text) else Text(_shown(value))
        text = Text(f"\n{' ' * (width + 4)}").join(text.split("\n"))
        say(Text.assemble(label, text))


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case datetime():
            return show_time(value)
        case _:
            return fit_to_print(str(value))


def state_text(state: str) -> Text:
    return Text(state, style=STATE_STYLES.get(state, ""))


def show_time(timestamp: datetime | None) -> str:
    """A timestamp in UTC, to the second."""
    if timestamp is None:
        return "-"
    return f"{timestamp.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"


def show_span(seconds: float) -> str:
    """A duration as a person says it."""
    if seconds < 60:  # noqa: PLR2004
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"  # noqa: PLR2004
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:  # noqa: PLR2004
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def count(number: int, one: str, many: str | None = None) -> str:
    """`1 job`, `1,234 jobs`."""
    return f"{number:,} {one if number == 1 else many or f'{one}s'}"


def show_window(window: "Window") -> str:
    """A span of time, its end exclusive."""
    start = show_time(window.start) if window.start else "the beginning"
    return f"{start} to {show_time(window.end) if window.end else 'now'}"
